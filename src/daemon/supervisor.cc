#include "daemon/supervisor.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace sluice::daemon {
namespace {

std::string take_variable(const char* name) {
    // Nobody else is there yet who could change the environment.
    const char* value = std::getenv(name);
    std::string text = value != nullptr ? value : "";
    ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
    return text;
}

std::optional<std::int64_t> number_of(std::string_view text) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

// The manager compares it with its own clock to tell this reload from an earlier one.
std::string monotonic_now() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::to_string(std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000);
}

// One line: a line end would begin another assignment.
std::string status_line(std::string_view text) {
    std::string line = "STATUS=";
    for (const char c : text) line += c == '\n' ? ' ' : c;
    return line;
}

}  // namespace

Supervisor Supervisor::from_environment() {
    const std::string socket = take_variable("NOTIFY_SOCKET");
    const auto patience = number_of(take_variable("WATCHDOG_USEC"));
    const auto watched = number_of(take_variable("WATCHDOG_PID"));
    if (!patience || *patience <= 0 || (watched && *watched != ::getpid())) return Supervisor(socket);
    return Supervisor(socket, std::chrono::microseconds(*patience));
}

Supervisor::Supervisor(std::string socket, std::optional<std::chrono::microseconds> patience)
    : socket_(std::move(socket)), patience_(socket_.empty() ? std::nullopt : patience) {
    if (!socket_.empty()) fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

Supervisor::~Supervisor() {
    if (fd_ >= 0) ::close(fd_);
}

void Supervisor::ready(std::string_view status) { send("READY=1\n" + status_line(status)); }

void Supervisor::reloading(std::string_view status) {
    send("RELOADING=1\nMONOTONIC_USEC=" + monotonic_now() + "\n" + status_line(status));
}

void Supervisor::stopping(std::string_view status) { send("STOPPING=1\n" + status_line(status)); }

void Supervisor::status(std::string_view status) {
    std::string line = status_line(status);
    {
        const std::scoped_lock lock(mutex_);
        if (line == status_) return;
        status_ = line;
    }
    send(line);
}

void Supervisor::alive() { send("WATCHDOG=1"); }

void Supervisor::send(const std::string& message) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (fd_ < 0 || socket_.size() >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
    ::sendto(
        fd_, message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), length);
}

}  // namespace sluice::daemon
