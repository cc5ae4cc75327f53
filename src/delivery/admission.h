#pragma once

#include "mail/message.h"
#include "queue/core.h"

namespace sluice::delivery {

// What the core is told of an item of a message that was just accepted, and is durable before it hears of it.
queue::Admit admission(const mail::MessagePtr& message, std::uint32_t index);

}  // namespace sluice::delivery
