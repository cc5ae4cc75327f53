#include "net/proxy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/text.h"

namespace sluice::net {
namespace {

using Parsed = Result<std::optional<ProxyHeader>>;

constexpr std::string_view v1_prefix = "PROXY ";
constexpr std::size_t v1_bytes_max = 107;
constexpr std::string_view v2_signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t v2_fixed_bytes = 16;

// Version 2, octet 13: version and command; octet 14: address family and transport.
enum V2Command : unsigned char { v2_local = 0x20, v2_proxy = 0x21 };
enum V2Family : unsigned char { v2_unspecified = 0x00, v2_tcp4 = 0x11, v2_tcp6 = 0x21, v2_unix = 0x31 };
constexpr std::size_t tcp4_bytes = 12;
constexpr std::size_t tcp6_bytes = 36;
constexpr std::size_t unix_path_bytes = 108;

Parsed incomplete() {
    return std::optional<ProxyHeader>();
}

bool may_begin_with(std::string_view bytes, std::string_view prefix) {
    const std::size_t size = std::min(bytes.size(), prefix.size());
    return bytes.substr(0, size) == prefix.substr(0, size);
}

std::optional<IpAddress> parse_v1_address(std::string_view text, bool is_v6) {
    if ((text.find(':') != std::string_view::npos) != is_v6) return std::nullopt;
    return IpAddress::parse(text);
}

std::optional<std::uint16_t> parse_v1_port(std::string_view text) {
    if (text.size() > 1 && text.front() == '0') return std::nullopt;
    return parse_number<std::uint16_t>(text);
}

// "TCP4 192.0.2.1 192.0.2.2 56324 25", or "UNKNOWN" and whatever follows.
Parsed parse_v1_words(std::string_view text, std::size_t size) {
    ProxyHeader header;
    header.size = size;
    if (text == "UNKNOWN" || text.starts_with("UNKNOWN ")) return header;

    const auto words = split(text, ' ');
    if (words.size() != 5 || (words[0] != "TCP4" && words[0] != "TCP6")) {
        return fail(Errc::bad_input, "PROXY: expected TCP4 or TCP6, two addresses and two ports");
    }
    const bool is_v6 = words[0] == "TCP6";
    const auto source = parse_v1_address(words[1], is_v6);
    const auto destination = parse_v1_address(words[2], is_v6);
    if (!source || !destination) return fail(Errc::bad_input, "PROXY: bad address");
    const auto source_port = parse_v1_port(words[3]);
    const auto destination_port = parse_v1_port(words[4]);
    if (!source_port || !destination_port) return fail(Errc::bad_input, "PROXY: bad port");

    header.local = false;
    header.source = Endpoint(*source, *source_port);
    header.destination = Endpoint(*destination, *destination_port);
    return header;
}

Parsed parse_v1(std::string_view bytes) {
    const std::string_view head = bytes.substr(0, v1_bytes_max);
    const std::size_t end = head.find_first_of("\r\n");
    const bool at_last_byte = end + 1 == head.size() && head.size() < v1_bytes_max;
    if (end == std::string_view::npos) {
        if (head.size() < v1_bytes_max) return incomplete();
        return fail(Errc::too_large, "PROXY: no end of line within 107 bytes");
    }
    if (head[end] == '\r' && at_last_byte) return incomplete();
    if (head.substr(end, 2) != "\r\n") return fail(Errc::bad_input, "PROXY: line must end in CR LF");
    return parse_v1_words(head.substr(v1_prefix.size(), end - v1_prefix.size()), end + 2);
}

std::uint16_t big_endian_16(std::string_view bytes) {
    const auto high = static_cast<unsigned char>(bytes[0]);
    const auto low = static_cast<unsigned char>(bytes[1]);
    return static_cast<std::uint16_t>(high << 8 | low);
}

IpAddress v2_address(std::string_view bytes) {
    std::array<std::uint8_t, 16> address{};
    std::memcpy(address.data(), bytes.data(), bytes.size());
    if (bytes.size() == address.size()) return IpAddress::v6(address);
    return IpAddress::v4(
        std::uint32_t{address[0]} << 24 | std::uint32_t{address[1]} << 16 | std::uint32_t{address[2]} << 8 |
        address[3]
    );
}

// Two addresses of `width` bytes, then two ports.
void take_v2_inet(std::string_view body, std::size_t width, ProxyHeader& header) {
    header.local = false;
    header.source = Endpoint(v2_address(body.substr(0, width)), big_endian_16(body.substr(2 * width)));
    header.destination =
        Endpoint(v2_address(body.substr(width, width)), big_endian_16(body.substr(2 * width + 2)));
}

// An unnamed or abstract socket says nothing about who is there: the addresses of the connection hold.
void take_v2_unix(std::string_view body, ProxyHeader& header) {
    const auto path_at = [&](std::size_t at) {
        const std::string_view field = body.substr(at, unix_path_bytes);
        return Endpoint(std::string(field.substr(0, field.find('\0'))));
    };
    Endpoint source = path_at(0);
    // A path without its NUL would not fit into a socket address.
    if (source.path.empty() || source.path.size() == unix_path_bytes) return;
    header.local = false;
    header.source = std::move(source);
    header.destination = path_at(unix_path_bytes);
}

// The smallest body that holds the addresses of a family; nothing for a family that cannot carry SMTP.
std::optional<std::size_t> v2_address_bytes(unsigned char family) {
    switch (family) {
        case v2_unspecified:
            return 0;
        case v2_tcp4:
            return tcp4_bytes;
        case v2_tcp6:
            return tcp6_bytes;
        case v2_unix:
            return 2 * unix_path_bytes;
        default:
            return std::nullopt;
    }
}

// What follows the addresses are TLVs, which are skipped with the body.
ProxyHeader take_v2_body(unsigned char family, std::string_view body) {
    ProxyHeader header;
    header.size = v2_fixed_bytes + body.size();
    if (family == v2_tcp4) take_v2_inet(body, 4, header);
    if (family == v2_tcp6) take_v2_inet(body, 16, header);
    if (family == v2_unix) take_v2_unix(body, header);
    return header;
}

Parsed parse_v2(std::string_view bytes) {
    if (bytes.size() <= v2_signature.size()) return incomplete();
    const auto command = static_cast<unsigned char>(bytes[12]);
    if (command != v2_local && command != v2_proxy) {
        return fail(Errc::bad_input, "PROXY: unknown version or command");
    }
    if (bytes.size() < v2_fixed_bytes) return incomplete();
    // LOCAL keeps the addresses of the connection, whatever family is named.
    const auto family = static_cast<unsigned char>(command == v2_local ? '\0' : bytes[13]);
    const std::size_t size = big_endian_16(bytes.substr(14));

    const auto address_bytes = v2_address_bytes(family);
    if (!address_bytes) return fail(Errc::bad_input, "PROXY: unknown address family or transport");
    if (size < *address_bytes) return fail(Errc::bad_input, "PROXY: too short for its addresses");
    if (v2_fixed_bytes + size > proxy_header_bytes_max)
        return fail(Errc::too_large, "PROXY: header too long");
    if (bytes.size() < v2_fixed_bytes + size) return incomplete();
    return take_v2_body(family, bytes.substr(v2_fixed_bytes, size));
}

}  // namespace

Parsed parse_proxy_header(std::string_view bytes, ProxyVersions versions) {
    if (bytes.empty()) return incomplete();
    if (versions != ProxyVersions::only_v2 && may_begin_with(bytes, v1_prefix)) return parse_v1(bytes);
    if (versions != ProxyVersions::only_v1 && may_begin_with(bytes, v2_signature)) return parse_v2(bytes);
    return fail(Errc::bad_input, "PROXY: not a header of an accepted version");
}

}  // namespace sluice::net
