#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace sluice::drill {

// The clocks of the simulated machine. Time stands still until it is moved. program/interpose.cc puts these clocks in the
// place of the system's for the whole process, libraries included: that is why this is the one thing of its kind.
class VirtualTime {
public:
    static constexpr std::int64_t never = INT64_MAX;

    // From here on the process lives in virtual time, which begins at `wall_ms` (milliseconds since the epoch).
    static void begin(std::int64_t wall_ms);
    static bool running();

    static std::int64_t now_ns();                      // monotonic
    static std::int64_t wall_ns();
    static void advance_to(std::int64_t monotonic_ns);
    static void jump_wall(std::int64_t by_ns);         // somebody sets the wall clock

    static std::chrono::steady_clock::time_point now() {
        return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(now_ns()));
    }

    // Told what epoll_wait() was asked to wait for; the wait itself returns at once.
    static void asked_to_wait(int milliseconds);
    static int last_wait_ms();
};

}  // namespace sluice::drill
