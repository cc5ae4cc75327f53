#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/shard.h"
#include "base/clock.h"
#include "config/settings.h"
#include "event/events.h"
#include "event/log.h"
#include "mail/message.h"
#include "net/stream.h"
#include "reception/census.h"
#include "spool/id_source.h"
#include "spool/spool.h"

namespace sluice::reception {

class Hooks;

// Makes a message durable and gives it to the queue. One per shard; shard-owned. Implemented in daemon (spool, then core).
class Acceptance {
public:
    virtual ~Acceptance() = default;
    // Resumes when the message is durable and was handed to the core, or with the reason why not (disk_full → 452 4.3.1,
    // others → 451 4.3.0).
    virtual Task<Result<>> accept(mail::MessagePtr message) = 0;
    // Asked at MAIL and before content: a sentence when nothing more may be accepted now (disk, memory, queue size).
    virtual std::optional<std::string> refusal() const = 0;
    // Told of every further part of long content: a sentence when there is no memory for the rest of it.
    virtual std::optional<std::string> no_room_after(std::uint64_t octets) const = 0;
};

struct Surroundings {
    async::Shard& shard;
    const Clock& clock;
    spool::IdSource& ids;
    Acceptance& acceptance;
    event::Recorder& events;
    event::Log& log;
    Census* census = nullptr;  // shared by the shards of an instance; null: this shard counts for itself
    Hooks* hooks = nullptr;    // null: no plugin decides about mail in
};

// Listens on all of smtp.listen with one socket a shard, and serves clients.
// Promise: 250 after content is sent only when accept() succeeded. Thread: shard-owned.
class Reception {
public:
    Reception(const Surroundings& surroundings, config::SettingsPtr settings);
    ~Reception();

    // Binds all listeners or none; the error names the endpoint.
    Result<> listen();
    std::vector<net::Endpoint> endpoints() const;  // bound ones; ports resolved
    // New connections use the new settings; TLS contexts are rebuilt, a failure keeps the old ones and is returned.
    Result<> configure(config::SettingsPtr settings);
    // Serves one connection as if it had been accepted (transcript tests over an in-memory stream).
    Task<> serve(net::StreamPtr stream, net::Endpoint listener);
    // The same as a conversation of its own, which close() ends with the others.
    void accept(net::StreamPtr stream, const net::Endpoint& listener);
    // Stops listening, answers 421 to every client at its next command, and returns when all are gone or the deadline
    // passed (the rest is cut).
    Task<> close(std::chrono::steady_clock::time_point deadline);
    std::size_t connections() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::reception
