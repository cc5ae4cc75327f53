#include "base/clock.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace sluice {
namespace {

std::int64_t read_ms(clockid_t clock) {
    timespec ts{};
    clock_gettime(clock, &ts);
    return std::int64_t{ts.tv_sec} * 1000 + ts.tv_nsec / 1'000'000;
}

tm broken_down(std::int64_t wall_ms) {
    const time_t seconds = static_cast<time_t>(wall_ms / 1000);
    tm parts{};
    gmtime_r(&seconds, &parts);
    return parts;
}

}  // namespace

SystemClock::SystemClock() : offset_ms_(read_ms(CLOCK_REALTIME) - read_ms(CLOCK_MONOTONIC)) {}

Instant SystemClock::now() const { return instant_from_ms(read_ms(CLOCK_MONOTONIC) + offset_ms_); }

std::int64_t SystemClock::wall_ms(Instant at) const {
    // Two clocks cannot be read at one moment: less than half a second apart they are the same, and the same instant always
    // has the same date.
    constexpr double second_ms = 1000;
    const auto apart_ms = static_cast<double>(wall_clock_ms() - to_ms(now()));
    return to_ms(at) + std::llround(apart_ms / second_ms) * 1000;
}

void SystemClock::start_at(Instant instant) { offset_ms_ = to_ms(instant) - read_ms(CLOCK_MONOTONIC); }

void SystemClock::not_before(Instant floor) {
    const std::int64_t behind = to_ms(floor) - to_ms(now());
    if (behind > 0) offset_ms_ += behind;
}

std::int64_t wall_clock_ms() { return read_ms(CLOCK_REALTIME); }
std::int64_t boot_clock_ms() { return read_ms(CLOCK_BOOTTIME); }

namespace {

std::string format_rfc5322(std::int64_t wall_ms) {
    static constexpr std::array days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr std::array months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const tm t = broken_down(wall_ms);
    char text[64];
    const int length = std::snprintf(
        text, sizeof text, "%s, %d %s %04d %02d:%02d:%02d +0000", days[static_cast<std::size_t>(t.tm_wday)],
        t.tm_mday, months[static_cast<std::size_t>(t.tm_mon)], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    return std::string(text, static_cast<std::size_t>(length));
}

}  // namespace

// Every accepted message asks for the date, and most of them within the same second.
std::string rfc5322_date(std::int64_t wall_ms) {
    thread_local std::int64_t second = -1;
    thread_local std::string text;
    if (wall_ms / 1000 != second) {
        second = wall_ms / 1000;
        text = format_rfc5322(wall_ms);
    }
    return text;
}

std::string rfc3339(std::int64_t wall_ms) {
    const tm t = broken_down(wall_ms);
    char text[64];
    const int length = std::snprintf(
        text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
        t.tm_hour, t.tm_min, t.tm_sec, static_cast<int>(wall_ms % 1000));
    return std::string(text, static_cast<std::size_t>(length));
}

}  // namespace sluice
