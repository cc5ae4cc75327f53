#include "daemon/watchdog.h"

#include <pthread.h>

#include <string>
#include <utility>

namespace sluice::daemon {
namespace {

constexpr int beats_in_patience = 4;

std::int64_t seconds_in(std::chrono::steady_clock::duration time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time).count();
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

}  // namespace

Watchdog::Watchdog(Supervisor& supervisor, event::Log& log, Vigil vigil, const spool::Spool& spool)
    : supervisor_(supervisor),
      log_(log),
      vigil_(std::move(vigil)),
      spool_(spool),
      beat_(supervisor.patience().value_or(std::chrono::microseconds(0)) / beats_in_patience),
      alive_at_(std::chrono::steady_clock::now()),
      disk_answered_at_(alive_at_) {
    if (!supervisor.patience()) return;
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "sluice-watchdog");
        run();
    });
}

Watchdog::~Watchdog() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
}

void Watchdog::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        lock.unlock();
        look(std::chrono::steady_clock::now());
        lock.lock();
        wake_.wait_for(lock, beat_, [this] { return stopping_; });
    }
}

void Watchdog::look(Time now) {
    tell_disk(now);
    if (!vigil_.all_alive()) return tell_silent(now);
    supervisor_.alive();
    alive_at_ = now;
    if (std::exchange(silence_told_, false)) log_.warn("core", "every thread works again");
    if (!disk_hangs_) supervisor_.status("serving");
}

// A disk that did not finish anything since the last beat, although it was asked, hangs.
void Watchdog::tell_disk(Time now) {
    const spool::Pulse pulse = spool_.pulse();
    const bool answered = !pulse.at_disk || pulse.steps != std::exchange(disk_steps_, pulse.steps);
    if (answered) {
        if (std::exchange(disk_hangs_, false)) {
            log_.warn("spool", "the disk answers again", {{"seconds", seconds_in(now - disk_answered_at_)}});
        }
        disk_answered_at_ = now;
        return;
    }
    const auto silent = now - disk_answered_at_;
    if (silent < beat_) return;
    if (!std::exchange(disk_hangs_, true)) log_.warn("spool", "the disk does not answer");
    supervisor_.status("waiting for a disk that has not answered for " + std::to_string(seconds_in(silent)) + " s");
}

void Watchdog::tell_silent(Time now) {
    if (now - alive_at_ < 2 * beat_) return;
    const std::string threads = joined(vigil_.silent());
    if (!std::exchange(silence_told_, true)) log_.error("core", "a thread makes no progress", {{"thread", threads}});
    supervisor_.status("no progress: " + threads);
}

}  // namespace sluice::daemon
