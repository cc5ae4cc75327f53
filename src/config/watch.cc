#include "config/watch.h"

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "config/tls_files.h"

namespace sluice::config {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds quiet_time{250};
constexpr milliseconds patience{500};  // after the first change no longer quiet time is granted

constexpr std::uint32_t interesting = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                                      IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

tl::unexpected<Error> system_failure(const char* what) {
    return fail(Errc::out_of_resources, std::string(what) + ": " + std::system_category().message(errno));
}

// A plain file that was just created is still empty; its writer's close is the event to wait for. Links and
// folders come complete.
bool comes_complete(const std::string& path) {
    struct stat status{};
    return lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink > 1;
}

std::set<std::string> folders_to_watch(const Settings& settings) {
    const std::string config = settings.directory + "/config";
    std::set<std::string> folders{settings.directory, config, config + "/tls"};
    for (const auto& files : {files_of(settings.tls), files_of(settings.outbound_tls)}) {
        for (const std::string& file : files) folders.insert(fs::path(file).parent_path().string());
    }
    return folders;
}

}  // namespace

Watch::Watch(SettingsPtr current, std::vector<Problem> problems, Listener listener)
    : current_(std::move(current)),
      written_(current_),
      problems_(std::move(problems)),
      listener_(std::move(listener)) {}

Watch::~Watch() { close_all(); }

void Watch::close_all() {
    for (int* fd : {&poll_, &events_, &timer_}) {
        if (*fd >= 0) close(*fd);
        *fd = -1;
    }
}

Result<void> Watch::start() {
    Result<void> opened = open();
    if (!opened) close_all();
    return opened;
}

Result<void> Watch::open() {
    poll_ = epoll_create1(EPOLL_CLOEXEC);
    events_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poll_ < 0 || events_ < 0 || timer_ < 0) return system_failure("watching the configuration");
    for (const int fd : {events_, timer_}) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        if (epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event) != 0)
            return system_failure("watching the configuration");
    }
    watch_folders();
    if (folders_.empty()) return system_failure("watching the configuration");
    schedule();  // the files may have changed since they were loaded
    return {};
}

// Watching a folder again is harmless: inotify gives the same number. One that does not exist is noticed when
// it appears, through the folder above it. True when a folder is new.
bool Watch::watch_folders() {
    bool news = false;
    for (const std::string& folder : folders_to_watch(*current_)) {
        const int watch = inotify_add_watch(events_, folder.c_str(), interesting);
        if (watch >= 0) news |= folders_.insert_or_assign(watch, folder).second;
    }
    return news;
}

void Watch::on_readable() {
    if (drain_events()) schedule();
    std::uint64_t expirations = 0;
    if (::read(timer_, &expirations, sizeof expirations) != sizeof expirations || !pending_) return;
    reload();
}

// Whether any event was about something that settings come from.
bool Watch::drain_events() {
    bool changed = false;
    alignas(inotify_event) std::array<char, 16'384> buffer{};
    for (;;) {
        const ssize_t got = ::read(events_, buffer.data(), buffer.size());
        if (got <= 0) return changed;
        for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
            inotify_event event{};
            std::memcpy(&event, buffer.data() + at, sizeof event);
            const char* name = buffer.data() + at + sizeof event;
            changed |= matters(event.wd, event.mask, event.len > 0 ? name : "");
            if ((event.mask & IN_IGNORED) != 0) folders_.erase(event.wd);
            at += sizeof event + event.len;
        }
    }
}

bool Watch::matters(int watch, std::uint32_t mask, const std::string& name) const {
    if ((mask & IN_Q_OVERFLOW) != 0) return true;  // events were lost: better to look
    if ((mask & IN_IGNORED) != 0) return false;
    const auto folder = folders_.find(watch);
    if (folder == folders_.end()) return false;
    // Beside the config folder there are logs and the queue.
    if (folder->second == current_->directory && name != "config") return false;
    return (mask & IN_CREATE) == 0 || comes_complete(folder->second + "/" + name);
}

void Watch::schedule() {
    const auto now = steady_clock::now();
    if (!pending_) first_change_ = now;
    pending_ = true;
    const auto due = std::min(now + quiet_time, first_change_ + patience + quiet_time);
    const auto wait = std::max(
        std::chrono::duration_cast<std::chrono::nanoseconds>(due - now), std::chrono::nanoseconds(1)
    );
    itimerspec timer{};
    timer.it_value.tv_sec = static_cast<time_t>(wait.count() / 1'000'000'000);
    timer.it_value.tv_nsec = static_cast<long>(wait.count() % 1'000'000'000);
    timerfd_settime(timer_, 0, &timer, nullptr);
}

Reload Watch::reload() {
    pending_ = false;
    watch_folders();  // a replaced folder has to be watched before it is read
    Reload reload = publish(load(current_->directory, current_.get()));
    // Certificates may lie elsewhere now; what happened there before the watch began is found by looking once
    // more.
    if (watch_folders()) schedule();
    return reload;
}

Reload Watch::publish(Loaded loaded) {
    Reload reload;
    reload.accepted = loaded.settings != nullptr;
    if (reload.accepted) {
        reload.changes.live = compare(*current_, *loaded.settings).live;
        reload.changes.needs_restart = compare(*written_, *loaded.written).needs_restart;
        reload.needs_restart = compare(*current_, *loaded.written).needs_restart;
        reload.applied = !reload.changes.live.empty();
        written_ = loaded.written;
    }
    const bool news = reload.changes.any() || loaded.problems != problems_;
    if (reload.applied) current_ = loaded.settings;
    reload.settings = current_;
    problems_ = loaded.problems;
    reload.problems = std::move(loaded.problems);
    if (news) listener_(reload);
    return reload;
}

}  // namespace sluice::config
