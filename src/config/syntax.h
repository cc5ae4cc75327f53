#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::config {

using Milliseconds = std::chrono::milliseconds;

// Small grammars that several settings share. Syntax only: nothing is looked up or opened.

// An IPv4 or IPv6 address without brackets, port or zone.
bool is_ip(std::string_view text);
bool is_ipv4(std::string_view text);
bool is_loopback_ip(std::string_view text);

// "192.0.2.0/24", "2001:db8::/32", or one address (also "[2001:db8::1]"), without the brackets. Bits beyond
// the prefix may be set. Nothing for anything else. A single address stays one address; Haraka makes /32 or
// /64 of an IPv6 one.
std::optional<std::string> parse_cidr(std::string_view text);

// A place to listen or connect: "192.0.2.1:25", "[2001:db8::1]:25", a bare address (with `default_port`), or
// "/socket".
struct EndpointSyntax {
    std::string host;  // an address; empty for a socket
    std::uint16_t port = 0;
    std::string path;
    std::string text() const;
};
std::optional<EndpointSyntax> parse_endpoint(std::string_view text, std::uint16_t default_port);

// Letters, digits, hyphens, underscores and UTF-8 in labels of 1 to 63 octets, 253 in all; no trailing dot.
bool is_host_name(std::string_view text);

// A port from 1 to 65535.
std::optional<std::uint16_t> parse_port(std::string_view text);

// "30", "0.5", "500ms", "30s", "5m", "2h", "1d"; a bare number counts in `unit`. Nothing for negative or
// other text, or more than ten years.
std::optional<Milliseconds> parse_duration(std::string_view text, Milliseconds unit);
// The shortest exact form: "30s", "5m", "1500ms", "0".
std::string format_duration(Milliseconds duration);

// "26214400", "25M", "1G": octets, with k, M, G, T as powers of 1024.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
std::string format_bytes(std::uint64_t bytes);

// Haraka's retry schedule: "none", or comma-separated `<number><s|m|h|d>[*<times>]` with every interval ≥ 5
// s, at most 1000 intervals. Errors: bad_input with what was expected.
Result<std::vector<Milliseconds>> parse_intervals(std::string_view text);
// Haraka's default: 2^(i+5) seconds for i = 1 … `max_failures` - 1, so 64 s, 128 s, … 131072 s for 13.
std::vector<Milliseconds> default_intervals(int max_failures);
std::string format_intervals(const std::vector<Milliseconds>& intervals);

}  // namespace sluice::config
