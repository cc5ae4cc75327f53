#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "async/task.h"
#include "mail/message.h"
#include "spool/spool.h"

namespace sluice::plugin {

// Makes durable what plugins hand in. One for each shard, implemented in daemon (spool, then core). Shard-owned.
class Intake {
public:
    virtual ~Intake() = default;
    // Resumes when all of it is durable, in one batch, and the message, which may be null, was handed to the core; or with
    // the reason why nothing of it is.
    virtual Task<Result<>> take(mail::MessagePtr message, spool::Batch records) = 0;
    // A sentence when nothing more may be accepted now.
    virtual std::optional<std::string> refusal() const = 0;
    // Told of every further part of long content: a sentence when there is no memory for the rest of it.
    virtual std::optional<std::string> no_room_after(std::uint64_t octets) const = 0;
};

}  // namespace sluice::plugin
