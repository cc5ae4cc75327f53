#include "daemon/clock_memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "base/crc32c.h"
#include "base/text.h"
#include "config/sources.h"

namespace sluice::daemon {
namespace {

constexpr std::chrono::seconds write_every{60};
// Clocks are read one after the other, and set right by small steps all the time.
constexpr std::int64_t step_ms_min = 1000;
constexpr std::string_view first_word = "sluice-clock-1";

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    file >> id;
    return id;
}

ClockReading read_clocks(std::int64_t engine_ms) { return {boot_id(), boot_clock_ms(), wall_clock_ms(), engine_ms}; }

std::string checksum_of(std::string_view text) {
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", crc32c(text));
    return digits;
}

}  // namespace

std::string format_reading(const ClockReading& reading) {
    char numbers[80];
    std::snprintf(
        numbers, sizeof numbers, "%020lld %020lld %020lld", static_cast<long long>(reading.boot_ms),
        static_cast<long long>(reading.wall_ms), static_cast<long long>(reading.engine_ms));
    std::string line(first_word);
    line.append(" ").append(reading.boot.empty() ? "-" : reading.boot).append(" ").append(numbers).append(" ");
    return line + checksum_of(line) + "\n";
}

std::optional<ClockReading> parse_reading(std::string_view line) {
    constexpr std::size_t tail = 9;  // checksum and newline
    if (line.size() <= tail || line.back() != '\n') return std::nullopt;
    const std::string_view covered = line.substr(0, line.size() - tail);
    if (line.substr(covered.size(), tail - 1) != checksum_of(covered)) return std::nullopt;
    const std::vector<std::string_view> words = split(trim(covered), ' ');
    if (words.size() != 5 || words[0] != first_word) return std::nullopt;
    const auto boot_ms = parse_number<std::int64_t>(words[2]);
    const auto wall_ms = parse_number<std::int64_t>(words[3]);
    const auto engine_ms = parse_number<std::int64_t>(words[4]);
    if (!boot_ms || !wall_ms || !engine_ms) return std::nullopt;
    return ClockReading{std::string(words[1]), *boot_ms, *wall_ms, *engine_ms};
}

Instant resumed_at(const std::optional<ClockReading>& last, const ClockReading& now) {
    if (!last) return instant_from_ms(std::max<std::int64_t>(now.wall_ms, 0));
    const bool same_boot = !now.boot.empty() && now.boot == last->boot && now.boot_ms >= last->boot_ms;
    const std::int64_t gap_ms =
        same_boot ? now.boot_ms - last->boot_ms
                  : std::clamp<std::int64_t>(now.wall_ms - last->wall_ms, 0, trusted_gap_max.count());
    return instant_from_ms(last->engine_ms + gap_ms);
}

Instant ClockMemory::resume(const std::string& path) {
    constexpr std::size_t bytes_max = 4096;
    const auto text = config::read_text(path, bytes_max);
    if (!text || !*text) return resumed_at(std::nullopt, read_clocks(0));
    return resumed_at(parse_reading((*text)->substr(0, (*text)->find('\n')) + "\n"), read_clocks(0));
}

ClockMemory::ClockMemory(std::string path, const Clock& clock, event::Log& log)
    : path_(std::move(path)), clock_(clock), log_(log), wall_ahead_ms_(ahead_ms()), thread_([this] { run(); }) {}

ClockMemory::~ClockMemory() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void ClockMemory::run() {
    pthread_setname_np(pthread_self(), "sluice-clock");
    std::unique_lock lock(mutex_);
    bool last = false;
    while (!last) {
        note_step();
        write();
        last = wake_.wait_for(lock, write_every, [this] { return stopping_; });
    }
    write();
}

std::int64_t ClockMemory::ahead_ms() const { return wall_clock_ms() - to_ms(clock_.now()); }

void ClockMemory::note_step() {
    const std::int64_t ahead = ahead_ms();
    const std::int64_t step = ahead - std::exchange(wall_ahead_ms_, ahead);
    if (std::abs(step) < step_ms_min) return;
    log_.warn("core", "somebody has set the wall clock; no schedule follows it", {{"seconds", step / 1000}});
}

// One write of a few octets: whole or not at all, but for a power cut, which the checksum tells.
void ClockMemory::write() const {
    // Never what a link points to, nor a pipe that waits for somebody to read.
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR);
    if (fd < 0) return;
    const std::string line = format_reading(read_clocks(to_ms(clock_.now())));
    (void)!::pwrite(fd, line.data(), line.size(), 0);
    ::close(fd);
}

}  // namespace sluice::daemon
