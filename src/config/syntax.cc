#include "config/syntax.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/text.h"

namespace sluice::config {
namespace {

constexpr Milliseconds ten_years = std::chrono::hours(24 * 3653);

struct Unit {
    std::string_view name;
    std::int64_t milliseconds;
};
constexpr std::array<Unit, 5> units{
    {{"ms", 1}, {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}}
};

bool parses_as(int family, std::string_view text) {
    std::array<char, INET6_ADDRSTRLEN> terminated{};
    if (text.empty() || text.size() >= terminated.size()) return false;
    std::memcpy(terminated.data(), text.data(), text.size());
    std::array<unsigned char, 16> bytes{};
    return inet_pton(family, terminated.data(), bytes.data()) == 1;
}

// A decimal number without sign or exponent; nothing for other text.
std::optional<double> parse_decimal(std::string_view text) {
    const auto legal = [](char c) { return is_digit(c) || c == '.'; };
    if (text.empty() || !is_digit(text.front()) || !is_digit(text.back())) return std::nullopt;
    if (!std::all_of(text.begin(), text.end(), legal)) return std::nullopt;
    return parse_number<double>(text);
}

std::string_view without_brackets(std::string_view text) {
    if (text.size() > 2 && text.front() == '[' && text.back() == ']') return text.substr(1, text.size() - 2);
    return text;
}

}  // namespace

bool is_ipv4(std::string_view text) {
    return parses_as(AF_INET, text);
}
bool is_ip(std::string_view text) {
    return is_ipv4(text) || parses_as(AF_INET6, text);
}

bool is_loopback_ip(std::string_view text) {
    if (is_ipv4(text)) return text.starts_with("127.");
    in6_addr address{};
    if (inet_pton(AF_INET6, std::string(text).c_str(), &address) != 1) return false;
    return IN6_IS_ADDR_LOOPBACK(&address) || (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);
}

std::optional<std::string> parse_cidr(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::string_view base = without_brackets(text.substr(0, slash));
    if (!is_ip(base)) return std::nullopt;
    if (slash == std::string_view::npos) return std::string(base);
    const auto prefix = parse_number<unsigned>(text.substr(slash + 1));
    if (!prefix || *prefix > (is_ipv4(base) ? 32U : 128U)) return std::nullopt;
    return std::string(base) + "/" + std::to_string(*prefix);
}

std::string EndpointSyntax::text() const {
    if (!path.empty()) return path;
    return (is_ipv4(host) ? host : "[" + host + "]") + ":" + std::to_string(port);
}

std::optional<EndpointSyntax> parse_endpoint(std::string_view text, std::uint16_t default_port) {
    if (text.starts_with('/')) return EndpointSyntax{{}, 0, std::string(text)};
    if (is_ip(text)) return EndpointSyntax{std::string(text), default_port, {}};

    std::string_view host = text;
    std::optional<std::uint16_t> port = default_port;
    const std::size_t colon = text.rfind(':');
    if (!text.ends_with(']') && colon != std::string_view::npos) {
        host = text.substr(0, colon);
        port = parse_port(text.substr(colon + 1));
    }
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    host = without_brackets(host);
    // An IPv6 address with a port needs its brackets: "2001:db8::1:25" would be ambiguous.
    if (!port || !is_ip(host) || bracketed == is_ipv4(host)) return std::nullopt;
    return EndpointSyntax{std::string(host), *port, {}};
}

bool is_host_name(std::string_view text) {
    if (text.empty() || text.size() > 253 || !is_valid_utf8(text)) return false;
    const auto legal = [](char c) {
        return is_alnum(c) || c == '-' || c == '_' || static_cast<unsigned char>(c) >= 0x80;
    };
    for (const std::string_view label : split(text, '.')) {
        if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
        if (!std::all_of(label.begin(), label.end(), legal)) return false;
    }
    return true;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
    const auto port = parse_number<std::uint16_t>(text);
    return port && *port > 0 ? port : std::nullopt;
}

std::optional<Milliseconds> parse_duration(std::string_view text, Milliseconds unit) {
    auto factor = static_cast<double>(unit.count());
    for (const Unit& known : units) {
        if (text.size() <= known.name.size() || !text.ends_with(known.name)) continue;
        text.remove_suffix(known.name.size());
        factor = static_cast<double>(known.milliseconds);
        break;
    }
    const auto number = parse_decimal(text);
    if (!number || *number * factor > static_cast<double>(ten_years.count())) return std::nullopt;
    return Milliseconds(std::llround(*number * factor));
}

std::string format_duration(Milliseconds duration) {
    const std::int64_t count = duration.count();
    if (count == 0) return "0";
    for (std::size_t i = 1; i < units.size(); ++i) {
        if (count % units[i].milliseconds == 0) {
            return std::to_string(count / units[i].milliseconds) + std::string(units[i].name);
        }
    }
    return std::to_string(count) + "ms";
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
    constexpr std::string_view prefixes = "kmgt";
    int shift = 0;
    if (!text.empty()) {
        const std::size_t at = prefixes.find(ascii_lower(text.back()));
        if (at != std::string_view::npos) {
            shift = static_cast<int>(at + 1) * 10;
            text.remove_suffix(1);
        }
    }
    const auto number = parse_number<std::uint64_t>(text);
    if (!number || *number > (UINT64_MAX >> shift)) return std::nullopt;
    return *number << shift;
}

std::string format_bytes(std::uint64_t bytes) {
    constexpr std::string_view prefixes = "kMGT";
    for (int i = 4; i > 0; --i) {
        const int shift = i * 10;
        const std::uint64_t whole = bytes >> shift;
        if (whole > 0 && whole << shift == bytes) {
            return std::to_string(whole) + prefixes[static_cast<std::size_t>(i - 1)];
        }
    }
    return std::to_string(bytes);
}

Result<std::vector<Milliseconds>> parse_intervals(std::string_view text) {
    constexpr std::size_t intervals_max = 1000;
    std::string compact = to_lower(text);
    std::erase_if(compact, [](char c) { return is_space(c) || c == '\r' || c == '\n'; });
    std::vector<Milliseconds> intervals;
    if (compact == "none") return intervals;

    for (const std::string_view piece : split(compact, ',')) {
        const std::size_t star = piece.find('*');
        const std::string_view length = piece.substr(0, star);
        const bool has_unit =
            !length.empty() && std::string_view("smhd").find(length.back()) != std::string_view::npos;
        const auto interval = has_unit ? parse_duration(length, Milliseconds(1)) : std::nullopt;
        if (!interval || length.ends_with("ms")) {
            return fail(Errc::bad_input, "expected intervals such as 30s, 5m, 1h*3, 1d, or `none`");
        }
        if (*interval < std::chrono::seconds(5))
            return fail(Errc::bad_input, "expected intervals of at least 5s");
        const auto times =
            star == std::string_view::npos ? 1U : parse_number<unsigned>(piece.substr(star + 1)).value_or(0);
        if (times == 0) return fail(Errc::bad_input, "expected a whole number from 1 after `*`");
        if (intervals.size() + times > intervals_max)
            return fail(Errc::bad_input, "expected at most 1000 intervals");
        intervals.insert(intervals.end(), times, *interval);
    }
    return intervals;
}

std::vector<Milliseconds> default_intervals(int max_failures) {
    std::vector<Milliseconds> intervals;
    for (int i = 1; i < max_failures; ++i) {
        intervals.push_back(std::chrono::seconds(std::int64_t{1} << (i + 5)));
    }
    return intervals;
}

std::string format_intervals(const std::vector<Milliseconds>& intervals) {
    if (intervals.empty()) return "none";
    std::string out;
    for (std::size_t i = 0; i < intervals.size();) {
        const auto run =
            std::find_if(intervals.begin() + static_cast<std::ptrdiff_t>(i), intervals.end(), [&](auto next) {
                return next != intervals[i];
            });
        const auto times = static_cast<std::size_t>(run - intervals.begin()) - i;
        if (!out.empty()) out += ", ";
        out += format_duration(intervals[i]);
        if (times > 1) out += "*" + std::to_string(times);
        i += times;
    }
    return out;
}

}  // namespace sluice::config
