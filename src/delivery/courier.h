#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "async/mailbox.h"
#include "async/shard.h"
#include "async/workers.h"
#include "base/clock.h"
#include "base/random.h"
#include "config/settings.h"
#include "delivery/hooks.h"
#include "event/events.h"
#include "event/log.h"
#include "net/stream.h"
#include "net/tls.h"
#include "queue/core.h"
#include "spool/id_source.h"
#include "spool/spool.h"

namespace sluice::delivery {

// Carries events back to the core's thread. Thread-safe.
class CoreInbox {
public:
    virtual ~CoreInbox() = default;
    virtual void push(queue::Event event) = 0;
};

// What a courier works with; everything outlives it.
struct Surroundings {
    async::Shard& shard;
    const Clock& clock;
    spool::Spool& spool;
    spool::IdSource& ids;
    async::Workers& disk_pool;  // for Spool::load
    net::Network& network;
    CoreInbox& core;
    event::Recorder& events;
    event::Log& log;
    std::uint64_t seed;                   // jitter
    Hooks* hooks = nullptr;               // null: no plugin is configured
};

// Carries out the core's Deliver, Conclude, Consult and Close actions on one shard. Each session is one coroutine that opens the
// connection, attempts the items it is given and reports AttemptEnded, SessionOpened and SessionClosed.
//
// Promise: every Deliver, Conclude and Consult is answered by exactly one AttemptEnded (or Consulted), after its outcome, schedule and DSN were
// appended to the spool in one batch; every opened session by exactly one SessionClosed.
// Thread: shard-owned, except where said.
class Courier {
public:
    Courier(const Surroundings& surroundings, config::SettingsPtr settings);
    ~Courier();

    // From the shard's thread. Takes Deliver, Conclude, Consult and Close; others are our bug.
    void carry_out(queue::Action action);
    // New settings apply to sessions opened from now on. Rebuilds the TLS client contexts; a failure keeps the old ones
    // and is returned.
    Result<> configure(config::SettingsPtr settings);
    // Lets attempts under way finish until the deadline, then breaks them off; all sessions are closed when it returns.
    Task<> close(std::chrono::steady_clock::time_point deadline);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::delivery
