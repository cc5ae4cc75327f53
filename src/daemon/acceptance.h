#pragma once

#include <atomic>
#include <limits>

#include "async/mailbox.h"
#include "async/signal.h"
#include "config/settings.h"
#include "daemon/core_thread.h"
#include "reception/reception.h"
#include "spool/spool.h"

namespace sluice::daemon {

// What admission needs to know of the whole engine. Thread-safe.
class Pressure {
public:
    explicit Pressure(const config::SpoolSettings& settings);
    // A sentence when memory or the number of queued messages is at its bound.
    std::optional<std::string> reason(const spool::Spool& spool) const;
    // Sampled from /proc; at most once a second.
    std::uint64_t resident_bytes() const;

private:
    const std::uint64_t memory_bytes_max_;
    const std::uint64_t messages_max_;
    mutable std::atomic<std::int64_t> sampled_at_ms_ = std::numeric_limits<std::int64_t>::min() / 2;
    mutable std::atomic<std::uint64_t> resident_ = 0;
    mutable std::atomic<std::uint64_t> messages_ = 0;
};

// The Admit events of a message's items: what the core needs to know.
std::vector<queue::Event> admissions(const mail::MessagePtr& message);

// Makes messages of one shard durable, then queues them. The core learns of a whole sync in one push, and so does the
// shard. accept() on the shard; committed() on the spool's writer.
class SpoolAcceptance final : public reception::Acceptance, public spool::CommitListener {
public:
    SpoolAcceptance(async::Executor executor, spool::Spool& spool, CoreThread& core, const Pressure& pressure);

    Task<Result<>> accept(mail::MessagePtr message) override;
    // The same with further records in the same batch (an idempotency key, say).
    Task<Result<>> accept_with(mail::MessagePtr message, spool::Batch batch);
    // Returns when everything that anybody appended to the spool before is on stable storage.
    Task<Result<>> durable();
    std::optional<std::string> refusal() const override;
    void committed(std::span<spool::Committed> commits) override;

private:
    struct Waiting {
        Waiting(mail::MessagePtr message_, async::Executor executor) : message(std::move(message_)), done(executor) {}
        mail::MessagePtr message;
        Result<> result;
        async::Signal done;
    };
    async::Executor executor_;
    spool::Spool& spool_;
    CoreThread& core_;
    const Pressure& pressure_;
    async::Mailbox<Waiting*> finished_;
};

}  // namespace sluice::daemon
