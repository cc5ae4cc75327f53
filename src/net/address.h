#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::net {

// An IPv4 or IPv6 address. IPv4-mapped IPv6 addresses become IPv4 when parsed or received, so that rules
// written for one form hold for the other. Value; hashable; 17 bytes.
class IpAddress {
public:
    IpAddress() = default;  // 0.0.0.0
    static std::optional<IpAddress> parse(std::string_view text);
    static IpAddress v4(std::uint32_t host_order);
    static IpAddress v6(const std::array<std::uint8_t, 16>& bytes);  // maps ::ffff:a.b.c.d to IPv4

    bool is_v4() const { return is_v4_; }
    const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }  // IPv4: the first four
    bool is_loopback() const;
    bool is_unspecified() const;
    // RFC 1918, 4193 (ULA), link-local, loopback, unspecified, CGNAT (RFC 6598): never a mail host on the
    // Internet.
    bool is_private() const;
    std::string text() const;

    friend bool operator==(const IpAddress&, const IpAddress&) = default;
    friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
    template <class H>
    friend H AbslHashValue(H h, const IpAddress& a) {
        return H::combine(std::move(h), a.bytes_, a.is_v4_);
    }

private:
    std::array<std::uint8_t, 16> bytes_{};
    bool is_v4_ = true;
};

// "192.0.2.0/24", "2001:db8::/32" or a single address. Value.
struct Cidr {
    IpAddress base;
    int prefix = 0;
    static std::optional<Cidr> parse(std::string_view text);
    bool contains(const IpAddress& address) const;
};

// Where to connect or listen: an address and port, or a Unix socket path. Value; hashable.
struct Endpoint {
    IpAddress address;
    std::uint16_t port = 0;
    std::string path;  // when not empty, a Unix socket

    Endpoint() = default;
    Endpoint(IpAddress address_, std::uint16_t port_) : address(address_), port(port_) {}
    explicit Endpoint(std::string path_) : path(std::move(path_)) {}
    // "192.0.2.1:25", "[2001:db8::1]:25" or the path.
    std::string text() const;
    // Accepts "host:port" with an IP address for host, "[v6]:port", and "/path". The port defaults when
    // absent.
    static std::optional<Endpoint> parse(std::string_view text, std::uint16_t default_port);

    friend bool operator==(const Endpoint&, const Endpoint&) = default;
    template <class H>
    friend H AbslHashValue(H h, const Endpoint& e) {
        return H::combine(std::move(h), e.address, e.port, e.path);
    }
};

// Every address of this host's interfaces, for recognising ourselves in an MX list. Loopback included.
std::vector<IpAddress> local_addresses();

}  // namespace sluice::net
