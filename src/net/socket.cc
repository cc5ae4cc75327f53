#include "net/socket.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <limits>
#include <system_error>

#include "base/assert.h"

namespace sluice::net {

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    if (this != &other) {
        if (valid()) ::close(fd_);
        fd_ = other.release();
    }
    return *this;
}

Descriptor::~Descriptor() {
    if (valid()) ::close(fd_);
}

SocketAddress::SocketAddress(const Endpoint& endpoint) {
    if (!endpoint.path.empty()) {
        ASSERT(endpoint.path.size() < sizeof storage_.local.sun_path);
        storage_.local.sun_family = AF_UNIX;
        std::ranges::copy(endpoint.path, storage_.local.sun_path);
        length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + endpoint.path.size() + 1);
    } else if (endpoint.address.is_v4()) {
        storage_.v4.sin_family = AF_INET;
        storage_.v4.sin_port = htons(endpoint.port);
        std::memcpy(&storage_.v4.sin_addr, endpoint.address.bytes().data(), sizeof storage_.v4.sin_addr);
        length_ = sizeof storage_.v4;
    } else {
        storage_.v6.sin6_family = AF_INET6;
        storage_.v6.sin6_port = htons(endpoint.port);
        std::memcpy(&storage_.v6.sin6_addr, endpoint.address.bytes().data(), sizeof storage_.v6.sin6_addr);
        length_ = sizeof storage_.v6;
    }
}

socklen_t* SocketAddress::length_out() {
    length_ = sizeof storage_;
    return &length_;
}

Endpoint SocketAddress::endpoint() const {
    if (family() == AF_INET) {
        return Endpoint(IpAddress::v4(ntohl(storage_.v4.sin_addr.s_addr)), ntohs(storage_.v4.sin_port));
    }
    if (family() == AF_INET6) {
        std::array<std::uint8_t, 16> bytes;
        std::memcpy(bytes.data(), &storage_.v6.sin6_addr, bytes.size());
        return Endpoint(IpAddress::v6(bytes), ntohs(storage_.v6.sin6_port));
    }
    if (family() == AF_UNIX && length_ > offsetof(sockaddr_un, sun_path)) {
        const std::size_t size_max = length_ - offsetof(sockaddr_un, sun_path);
        return Endpoint(std::string(storage_.local.sun_path, strnlen(storage_.local.sun_path, size_max)));
    }
    return Endpoint();
}

std::string describe(const Endpoint& endpoint, int error_number) {
    return endpoint.text() + ": " + std::generic_category().message(error_number);
}

Errc connect_errc(int error_number) {
    switch (error_number) {
        case ECONNREFUSED:
        case ECONNRESET:
        case ENOENT:
        case EAGAIN:  // a Unix socket whose backlog is full
            return Errc::refused;
        case ETIMEDOUT:
            return Errc::timed_out;
        case EINVAL:  // a loopback source towards the Internet
            return Errc::bad_source;
        case EADDRNOTAVAIL:
        case EADDRINUSE:
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return Errc::out_of_resources;
        default:
            return Errc::unreachable;
    }
}

Errc bind_errc(int error_number) {
    switch (error_number) {
        case EADDRINUSE:
            return Errc::address_in_use;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return Errc::out_of_resources;
        default:
            return Errc::bad_source;
    }
}

Errc link_errc(int error_number) {
    switch (error_number) {
        case ENOBUFS:
        case ENOMEM:
            return Errc::out_of_resources;
        default:
            return Errc::link_closed;
    }
}

bool is_kept_back(int fd) {
    static const int first_kept = [] {
        rlimit limit{};
        if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<int>::max();
        const rlim_t kept = std::clamp<rlim_t>(limit.rlim_cur / 8, 16, 512);
        const rlim_t others = limit.rlim_cur - std::min(limit.rlim_cur, kept);
        return static_cast<int>(std::min<rlim_t>(others, std::numeric_limits<int>::max()));
    }();
    return fd >= first_kept;
}

Result<Descriptor> open_socket(int family) {
    Descriptor socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket.valid()) {
        const int error_number = errno;
        const Errc code = error_number == EAFNOSUPPORT ? Errc::unreachable : bind_errc(error_number);
        return fail(code, "socket: " + std::generic_category().message(error_number));
    }
    if (family != AF_UNIX) set_flag(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    return socket;
}

void set_flag(int fd, int level, int option, int value) {
    const int status = ::setsockopt(fd, level, option, &value, sizeof value);
    ASSERT(status == 0);
}

}  // namespace sluice::net
