#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "mail/message.h"
#include "reception/hooks.h"

namespace sluice::reception {

// Changes that plugins made to an envelope: "<a@b>" each, as in an Answer; nothing: unchanged. What a recipient had besides its
// address stays with it. Error: bad_input, a sentence; the envelope is half changed then.
Result<> revise_envelope(
    mail::Envelope& envelope, const std::optional<std::string>& mail_from, const std::optional<std::vector<std::string>>& rcpt_to);

// The message as plugins have made it; its trace is part of the content once they changed that. Error: bad_input, a sentence.
Result<mail::MessagePtr> revise(const mail::Message& message, Answer answer, bool always_split);

}  // namespace sluice::reception
