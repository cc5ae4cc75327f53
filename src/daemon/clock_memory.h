#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/clock.h"
#include "event/log.h"

namespace sluice::daemon {

// All clocks at one moment. Value.
struct ClockReading {
    std::string boot;          // names this run of the machine
    std::int64_t boot_ms = 0;  // since it began
    std::int64_t wall_ms = 0;
    std::int64_t engine_ms = 0;
};

// One line with a checksum, always of the same length.
std::string format_reading(const ClockReading& reading);
std::optional<ClockReading> parse_reading(std::string_view line);

// The longest time without us that counts when only the wall clock tells how long it was: the machine was started anew, and
// its clock may say anything.
inline constexpr Duration trusted_gap_max = std::chrono::hours(24);

// Where engine time goes on. While the machine has not been started anew nobody can be wrong about what passed; else the
// wall clock is believed, but neither backwards nor for more than trusted_gap_max, so that an absurd clock cannot expire mail.
// Without a last reading (a new queue) engine time begins as the wall clock.
Instant resumed_at(const std::optional<ClockReading>& last, const ClockReading& now);

// Keeps a reading in a file of the queue directory, so that the next start knows what has passed. It is never synced: an old
// one only makes mail look younger. Says when somebody has set the wall clock. A thread of its own, which sleeps.
class ClockMemory {
public:
    // Where engine time goes on, according to the file.
    static Instant resume(const std::string& path);

    ClockMemory(std::string path, const Clock& clock, event::Log& log);
    ~ClockMemory();  // writes the last reading
    ClockMemory(const ClockMemory&) = delete;
    ClockMemory& operator=(const ClockMemory&) = delete;

private:
    void run();
    void note_step();
    void write() const;
    std::int64_t ahead_ms() const;

    const std::string path_;
    const Clock& clock_;
    event::Log& log_;
    std::int64_t wall_ahead_ms_;  // of engine time, when last looked at
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace sluice::daemon
