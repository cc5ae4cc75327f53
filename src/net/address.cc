#include "net/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <span>

#include "base/text.h"

namespace sluice::net {
namespace {

constexpr std::size_t v4_bytes = 4;
constexpr std::array<std::uint8_t, 12> mapped_prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool begins_with(const std::array<std::uint8_t, 16>& bytes, std::span<const std::uint8_t> prefix) {
    return std::equal(prefix.begin(), prefix.end(), bytes.begin());
}

// True when the first `bits` bits of both are the same.
bool same_prefix(const IpAddress& a, const IpAddress& b, int bits) {
    const auto whole = static_cast<std::size_t>(bits / 8);
    const int rest = bits % 8;
    if (std::memcmp(a.bytes().data(), b.bytes().data(), whole) != 0) return false;
    if (rest == 0) return true;
    const int mask = 0xff << (8 - rest) & 0xff;
    return ((a.bytes()[whole] ^ b.bytes()[whole]) & mask) == 0;
}

bool in_any(const IpAddress& address, std::span<const Cidr> networks) {
    return std::ranges::any_of(networks, [&](const Cidr& network) { return network.contains(address); });
}

// A decimal number as people write it: no sign, no leading zero ("010" is eight to some readers and ten to
// others).
template <class Number>
std::optional<Number> parse_plain_number(std::string_view text) {
    if (text.size() > 1 && text.front() == '0') return std::nullopt;
    return parse_number<Number>(text);
}

// What follows the host: nothing, or ':' and a port.
std::optional<std::uint16_t> parse_port_suffix(std::string_view suffix, std::uint16_t default_port) {
    if (suffix.empty()) return default_port;
    if (suffix.front() != ':') return std::nullopt;
    return parse_plain_number<std::uint16_t>(suffix.substr(1));
}

std::optional<Endpoint> parse_path(std::string_view text) {
    if (text.size() >= sizeof(sockaddr_un::sun_path) || text.find('\0') != std::string_view::npos) return std::nullopt;
    return Endpoint(std::string(text));
}

std::optional<Endpoint> endpoint_of(
    std::string_view host, std::string_view suffix, std::uint16_t default_port
) {
    const auto address = IpAddress::parse(host);
    const auto port = parse_port_suffix(suffix, default_port);
    if (!address || !port) return std::nullopt;
    return Endpoint(*address, *port);
}

std::optional<IpAddress> address_of(const sockaddr& socket_address) {
    if (socket_address.sa_family == AF_INET) {
        sockaddr_in in{};
        std::memcpy(&in, &socket_address, sizeof in);
        return IpAddress::v4(ntohl(in.sin_addr.s_addr));
    }
    if (socket_address.sa_family == AF_INET6) {
        sockaddr_in6 in{};
        std::memcpy(&in, &socket_address, sizeof in);
        std::array<std::uint8_t, 16> bytes;
        std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
        return IpAddress::v6(bytes);
    }
    return std::nullopt;
}

// The interfaces are asked without a netlink socket, which a sandbox may forbid and getifaddrs() needs.
std::vector<IpAddress> local_v4_addresses() {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return {};
    ifconf answer{};
    std::vector<ifreq> entries;
    // Without a buffer the kernel says how large it should be.
    if (::ioctl(fd, SIOCGIFCONF, &answer) == 0) {
        constexpr std::size_t newcomers = 8;
        entries.resize(static_cast<std::size_t>(answer.ifc_len) / sizeof(ifreq) + newcomers);
        answer.ifc_len = static_cast<int>(entries.size() * sizeof(ifreq));
        answer.ifc_req = entries.data();
        if (::ioctl(fd, SIOCGIFCONF, &answer) != 0) answer.ifc_len = 0;
    }
    ::close(fd);
    entries.resize(static_cast<std::size_t>(answer.ifc_len) / sizeof(ifreq));

    std::vector<IpAddress> found;
    for (const ifreq& entry : entries) {
        const auto address = address_of(entry.ifr_addr);
        if (address && std::ranges::find(found, *address) == found.end()) found.push_back(*address);
    }
    return found;
}

// Each line begins with the address, 32 digits without colons.
std::vector<IpAddress> local_v6_addresses() {
    std::vector<IpAddress> found;
    std::ifstream file("/proc/self/net/if_inet6");
    for (std::string digits, rest; file >> digits && std::getline(file, rest);) {
        std::string text;
        for (std::size_t at = 0; at < digits.size(); at += 4) text += (at == 0 ? "" : ":") + digits.substr(at, 4);
        if (const auto address = IpAddress::parse(text)) found.push_back(*address);
    }
    return found;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    std::array<char, INET6_ADDRSTRLEN> terminated{};
    if (text.empty() || text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) return std::nullopt;
    std::ranges::copy(text, terminated.begin());

    // inet_pton refuses leading zeros, short forms such as "127.1", and scope ids.
    std::array<std::uint8_t, 16> bytes{};
    if (text.find(':') == std::string_view::npos) {
        if (inet_pton(AF_INET, terminated.data(), bytes.data()) != 1) return std::nullopt;
        IpAddress address;
        address.bytes_ = bytes;
        return address;
    }
    if (inet_pton(AF_INET6, terminated.data(), bytes.data()) != 1) return std::nullopt;
    return v6(bytes);
}

IpAddress IpAddress::v4(std::uint32_t host_order) {
    IpAddress address;
    for (std::size_t i = 0; i < v4_bytes; ++i) {
        address.bytes_[i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
    }
    return address;
}

IpAddress IpAddress::v6(const std::array<std::uint8_t, 16>& bytes) {
    IpAddress address;
    if (begins_with(bytes, mapped_prefix)) {
        std::copy_n(bytes.begin() + mapped_prefix.size(), v4_bytes, address.bytes_.begin());
        return address;
    }
    address.bytes_ = bytes;
    address.is_v4_ = false;
    return address;
}

bool IpAddress::is_loopback() const {
    if (is_v4_) return bytes_[0] == 127;
    return std::all_of(bytes_.begin(), bytes_.end() - 1, [](auto byte) { return byte == 0; }) &&
           bytes_[15] == 1;
}

bool IpAddress::is_unspecified() const {
    return std::ranges::all_of(bytes_, [](auto byte) { return byte == 0; });
}

bool IpAddress::is_private() const {
    static const std::array<Cidr, 9> networks = {
        *Cidr::parse("0.0.0.0/8"),      *Cidr::parse("10.0.0.0/8"),     *Cidr::parse("100.64.0.0/10"),
        *Cidr::parse("127.0.0.0/8"),    *Cidr::parse("169.254.0.0/16"), *Cidr::parse("172.16.0.0/12"),
        *Cidr::parse("192.168.0.0/16"), *Cidr::parse("fc00::/7"),       *Cidr::parse("fe80::/10")
    };
    return is_unspecified() || is_loopback() || in_any(*this, networks);
}

std::string IpAddress::text() const {
    std::array<char, INET6_ADDRSTRLEN> terminated{};
    inet_ntop(is_v4_ ? AF_INET : AF_INET6, bytes_.data(), terminated.data(), terminated.size());
    return terminated.data();
}

std::optional<Cidr> Cidr::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::string_view host = text.substr(0, slash);
    const auto base = IpAddress::parse(host);
    if (!base) return std::nullopt;
    const int bits_max = base->is_v4() ? 32 : 128;
    if (slash == std::string_view::npos) return Cidr{*base, bits_max};

    auto prefix = parse_plain_number<int>(text.substr(slash + 1));
    // "::ffff:192.0.2.0/120" speaks of an IPv4 network in the form with 96 bits before it.
    const bool mapped = base->is_v4() && host.find(':') != std::string_view::npos;
    if (prefix && mapped) *prefix -= 96;
    if (!prefix || *prefix < 0 || *prefix > bits_max) return std::nullopt;
    return Cidr{*base, *prefix};
}

bool Cidr::contains(const IpAddress& address) const {
    return address.is_v4() == base.is_v4() && same_prefix(base, address, prefix);
}

std::string Endpoint::text() const {
    if (!path.empty()) return path;
    const std::string host = address.is_v4() ? address.text() : '[' + address.text() + ']';
    return host + ':' + std::to_string(port);
}

std::optional<Endpoint> Endpoint::parse(std::string_view text, std::uint16_t default_port) {
    if (text.empty()) return std::nullopt;
    if (text.front() == '/') return parse_path(text);
    if (text.front() == '[') {
        const std::size_t bracket = text.find(']');
        if (bracket == std::string_view::npos) return std::nullopt;
        const std::string_view host = text.substr(1, bracket - 1);
        if (host.find(':') == std::string_view::npos) return std::nullopt;
        return endpoint_of(host, text.substr(bracket + 1), default_port);
    }
    if (const auto bare = IpAddress::parse(text)) return Endpoint(*bare, default_port);
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    return endpoint_of(text.substr(0, colon), text.substr(colon), default_port);
}

std::vector<IpAddress> local_addresses() {
    std::vector<IpAddress> found = local_v4_addresses();
    for (const IpAddress& address : local_v6_addresses()) {
        if (std::ranges::find(found, address) == found.end()) found.push_back(address);
    }
    return found;
}

}  // namespace sluice::net
