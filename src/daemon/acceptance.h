#pragma once

#include <atomic>
#include <limits>

#include "async/mailbox.h"
#include "async/signal.h"
#include "config/settings.h"
#include "daemon/core_thread.h"
#include "plugin/intake.h"
#include "reception/reception.h"
#include "spool/spool.h"

namespace sluice::daemon {

// What admission needs to know of the whole engine (DoS-7). Thread-safe.
class Pressure {
public:
    explicit Pressure(const config::SpoolSettings& settings);
    void configure(const config::SpoolSettings& settings);
    // A sentence when memory or the number of queued messages is at its bound. Samples at most every tenth of a second.
    std::optional<std::string> reason(const spool::Spool& spool) const;
    // So many octets more have come into memory: a sentence when that is too much, the last sample and all that came since
    // considered.
    std::optional<std::string> no_room_after(std::uint64_t octets, const spool::Spool& spool) const;
    static std::uint64_t resident_bytes();

private:
    void sample(const spool::Spool& spool) const;
    bool out_of_memory() const { return resident_ + received_ > memory_bytes_max_; }

    std::atomic<std::uint64_t> memory_bytes_max_;
    std::atomic<std::uint64_t> messages_max_;
    mutable std::atomic<std::int64_t> sampled_at_ms_ = std::numeric_limits<std::int64_t>::min() / 2;
    mutable std::atomic<std::uint64_t> resident_ = 0;
    mutable std::atomic<std::uint64_t> received_ = 0;  // since the sample
    mutable std::atomic<std::uint64_t> messages_ = 0;
};

// Half of the memory that this process may use: of the machine's, of its control group's, or of its own limit.
std::uint64_t default_memory_bytes_max();

// The Admit events of a message's items: what the core needs to know.
std::vector<queue::Event> admissions(const mail::MessagePtr& message);

// Makes messages of one shard durable, then queues them. The core learns of a whole sync in one push, and so does the
// shard. accept() on the shard; committed() on the spool's writer.
class SpoolAcceptance final : public reception::Acceptance, public plugin::Intake, public spool::CommitListener {
public:
    SpoolAcceptance(async::Executor executor, spool::Spool& spool, CoreThread& core, const Pressure& pressure);

    Task<Result<>> accept(mail::MessagePtr message) override;
    // The same with further records in the same batch (an idempotency key, say), or with these alone.
    Task<Result<>> take(mail::MessagePtr message, spool::Batch records) override;
    // Returns when everything that anybody appended to the spool before is on stable storage.
    Task<Result<>> durable();
    std::optional<std::string> refusal() const override;
    std::optional<std::string> no_room_after(std::uint64_t octets) const override;
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
