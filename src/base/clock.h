#pragma once

#include <atomic>
#include <chrono>
#include <string>

namespace sluice {

using Duration = std::chrono::milliseconds;

// Engine time: a time line of its own, in milliseconds, that began as the wall clock of the first start and is only
// ever advanced by a monotonic clock, and over a restart by what has passed meanwhile. All ages, schedules and intervals
// use it, so that a jump of the wall clock neither expires nor releases mail. Persisted as a plain count of
// milliseconds. What people read is the wall clock: see Clock::wall_ms().
struct EngineTime {
    using duration = Duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<EngineTime>;
    static constexpr bool is_steady = true;
};
using Instant = EngineTime::time_point;

inline Instant instant_from_ms(std::int64_t milliseconds) { return Instant(Duration(milliseconds)); }
inline std::int64_t to_ms(Instant instant) { return instant.time_since_epoch().count(); }

// Where engine time comes from. Thread-safe. Tests and the simulator move their own by hand.
class Clock {
public:
    virtual ~Clock() = default;
    virtual Instant now() const = 0;
    // The date of an instant for people, in milliseconds since the epoch: as long before or after the present of the wall
    // clock as it is before or after now. So dates of the past are right, too, once a wrong clock has been set.
    virtual std::int64_t wall_ms(Instant at) const { return to_ms(at); }
};

// The machine's time: the wall clock at construction, or what start_at() says, plus CLOCK_MONOTONIC since. Thread-safe.
class SystemClock final : public Clock {
public:
    SystemClock();
    Instant now() const override;
    std::int64_t wall_ms(Instant at) const override;
    // Before anybody has asked for the time.
    void start_at(Instant instant);
    // Jumps forward to `floor` (the latest instant in the journal) if the clock is behind it: the wall clock may have
    // been set back while the engine was down.
    void not_before(Instant floor);

private:
    std::atomic<std::int64_t> offset_ms_;
};

// A clock that stands still until moved. Not thread-safe.
class ManualClock final : public Clock {
public:
    explicit ManualClock(Instant start) : now_(start) {}
    Instant now() const override { return now_; }
    void advance(Duration by) { now_ += by; }
    void set(Instant to) { now_ = to; }

private:
    Instant now_;
};

// The wall clock, for header fields and logs only: milliseconds since the epoch.
std::int64_t wall_clock_ms();
// Milliseconds since the machine was started, also while it slept; nobody can set it.
std::int64_t boot_clock_ms();

// RFC 5322 §3.3 date-time with a numeric zone: "Fri, 20 Nov 2026 10:54:00 +0000". UTC.
std::string rfc5322_date(std::int64_t wall_ms);
// RFC 3339 with milliseconds, UTC: "2026-11-20T10:54:00.123Z".
std::string rfc3339(std::int64_t wall_ms);

}  // namespace sluice
