#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "daemon/supervisor.h"
#include "daemon/vigil.h"
#include "event/log.h"
#include "spool/spool.h"

namespace sluice::daemon {

// Tells the supervisor that we are alive for as long as that is true of every part of a vigil: one thread that hangs is
// enough to be ended and started again. A disk that hangs is not: it would hang for the next process too, which could then
// not even accept what fits in memory. That is told in the status and in the log instead.
class Watchdog {
public:
    // Does nothing when the supervisor does not watch. The parts of the vigil outlive the watchdog.
    Watchdog(Supervisor& supervisor, event::Log& log, Vigil vigil, const spool::Spool& spool);
    ~Watchdog();  // stops it

private:
    using Time = std::chrono::steady_clock::time_point;

    void run();
    void look(Time now);
    void tell_disk(Time now);
    void tell_silent(Time now);

    Supervisor& supervisor_;
    event::Log& log_;
    Vigil vigil_;
    const spool::Spool& spool_;
    const std::chrono::microseconds beat_;  // several fit into the supervisor's patience
    Time alive_at_;
    Time disk_answered_at_;
    std::uint64_t disk_steps_ = 0;
    bool disk_hangs_ = false;
    bool silence_told_ = false;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace sluice::daemon
