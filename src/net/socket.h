#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <utility>

#include "base/result.h"
#include "net/address.h"

namespace sluice::net {

// Owns a file descriptor; closes it when it goes. Value, movable.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();

    bool valid() const { return fd_ >= 0; }
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

// An endpoint in the kernel's form. Value.
class SocketAddress {
public:
    SocketAddress() = default;  // empty, to be filled in by the kernel
    explicit SocketAddress(const Endpoint& endpoint);

    int family() const { return storage_.any.sa_family; }
    const sockaddr* get() const { return &storage_.any; }
    sockaddr* get() { return &storage_.any; }
    socklen_t length() const { return length_; }
    // Where accept, getsockname and getpeername put the length.
    socklen_t* length_out();
    // IPv4-mapped addresses come out as IPv4; an unnamed Unix peer as an empty endpoint.
    Endpoint endpoint() const;

private:
    union {
        sockaddr_storage whole;  // the first member, for it is the one that {} sets to zero
        sockaddr any;
        sockaddr_in v4;
        sockaddr_in6 v6;
        sockaddr_un local;
    } storage_{};
    socklen_t length_ = sizeof storage_;
};

// Whether this is one of the last descriptors that the process may open. The kernel gives the lowest free one, so nearly all
// are in use then, and the rest is for what cannot wait: the journal, names, the operator (DoS-8).
bool is_kept_back(int fd);

// "192.0.2.1:25: Connection refused"
std::string describe(const Endpoint& endpoint, int error_number);

// What a failed connect() means; EADDRNOTAVAIL says that no local port is left, for the bind has succeeded
// before.
Errc connect_errc(int error_number);
// What a failed socket(), bind() or listen() means.
Errc bind_errc(int error_number);
// What a failed send or receive on an open connection means.
Errc link_errc(int error_number);

// A non-blocking, close-on-exec stream socket for the family of the address; TCP_NODELAY is set on TCP.
Result<Descriptor> open_socket(int family);
void set_flag(int fd, int level, int option, int value);

}  // namespace sluice::net
