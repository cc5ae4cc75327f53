// Puts virtual time in the place of the system's, in the programs that this file is linked into and in every library
// that they load. Before VirtualTime::begin() the system's own functions are called.

#include <cerrno>
#include <ctime>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "drill/virtual_time.h"

namespace {

using sluice::drill::VirtualTime;

constexpr std::int64_t second_ns = 1'000'000'000;

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* out) noexcept {
    const bool of_cpu = clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
    if (!VirtualTime::running() || of_cpu) return static_cast<int>(::syscall(SYS_clock_gettime, clock, out));
    const bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    const std::int64_t ns = wall ? VirtualTime::wall_ns() : VirtualTime::now_ns();
    out->tv_sec = ns / second_ns;
    out->tv_nsec = ns % second_ns;
    return 0;
}

int gettimeofday(timeval* out, void* zone) noexcept {
    if (!VirtualTime::running()) return static_cast<int>(::syscall(SYS_gettimeofday, out, zone));
    out->tv_sec = VirtualTime::wall_ns() / second_ns;
    out->tv_usec = VirtualTime::wall_ns() % second_ns / 1'000;
    return 0;
}

time_t time(time_t* out) noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}

// Without timer descriptors Asio asks its own timers, by clock_gettime(), and puts the time until the next one into
// epoll_wait().
int timerfd_create(clockid_t clock, int flags) noexcept {
    if (!VirtualTime::running()) return static_cast<int>(::syscall(SYS_timerfd_create, clock, flags));
    errno = ENOSYS;
    return -1;
}

// Nothing in a simulation comes through a descriptor.
int epoll_wait(int fd, epoll_event* events, int count, int timeout) {
    if (!VirtualTime::running()) {
        return static_cast<int>(::syscall(SYS_epoll_pwait, fd, events, count, timeout, nullptr, 8));
    }
    VirtualTime::asked_to_wait(timeout);
    return 0;
}

// Stands in identifiers of messages.
pid_t getpid() noexcept {
    return VirtualTime::running() ? 4711 : static_cast<pid_t>(::syscall(SYS_getpid));
}

}  // extern "C"
