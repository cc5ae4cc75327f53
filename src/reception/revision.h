#pragma once

#include "base/result.h"
#include "mail/message.h"
#include "reception/hooks.h"

namespace sluice::reception {

// The message as plugins have made it; its trace is part of the content once they changed that. Error: bad_input, a sentence.
Result<mail::MessagePtr> revise(const mail::Message& message, Answer answer, bool always_split);

}  // namespace sluice::reception
