#include "config/next_hop.h"

#include <optional>

#include "base/text.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

std::optional<std::string> percent_decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        unsigned value = 0;
        const std::string_view digits = text.substr(i + 1, 2);
        const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
        if (digits.size() != 2 || error != std::errc() || stop != digits.data() + 2) return std::nullopt;
        out += static_cast<char>(value);
        i += 2;
    }
    return out;
}

// Takes "user:password@" off the front of `rest`.
Result<void> take_credentials(std::string_view& rest, NextHop& hop) {
    const std::size_t end = rest.rfind('@');
    if (end == std::string_view::npos) return {};
    const std::string_view credentials = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    const std::size_t colon = credentials.find(':');
    if (colon == std::string_view::npos) return fail(Errc::bad_input, "`user:password` before the `@`");
    const auto user = percent_decode(credentials.substr(0, colon));
    const auto password = percent_decode(credentials.substr(colon + 1));
    if (!user || !password || user->empty())
        return fail(Errc::bad_input, "`user:password` with `%XX` for reserved characters");
    hop.user = *user;
    hop.password = *password;
    return {};
}

// host[:port] in all its forms.
Result<void> take_place(std::string_view text, NextHop& hop) {
    std::string_view host = text;
    const bool brackets = text.starts_with('[');
    const std::size_t end = brackets ? text.find(']') : text.rfind(':');
    const bool bare_ipv6 = !brackets && is_ip(text) && !is_ipv4(text);
    if (brackets) {
        if (end == std::string_view::npos) return fail(Errc::bad_input, "a `]` after the IPv6 address");
        host = text.substr(1, end - 1);
        if (!is_ip(host)) return fail(Errc::bad_input, "an IPv6 address in the brackets");
    } else if (end != std::string_view::npos && !bare_ipv6) {
        host = text.substr(0, end);
    }
    const std::string_view rest =
        bare_ipv6 || end == std::string_view::npos ? "" : text.substr(brackets ? end + 1 : end);
    if (!rest.empty()) {
        const auto port = rest.front() == ':' ? parse_port(rest.substr(1)) : std::nullopt;
        if (!port) return fail(Errc::bad_input, "a port from 1 to 65535 after the host");
        hop.port = *port;
    }
    if (!is_ip(host) && !is_host_name(host)) return fail(Errc::bad_input, "a host name or an address");
    hop.host = to_lower(host);
    return {};
}

}  // namespace

Result<NextHop> parse_next_hop(std::string_view text) {
    NextHop hop;
    std::string_view rest = trim(text);
    const std::size_t scheme_end = rest.find("://");
    if (scheme_end != std::string_view::npos) {
        const std::string_view scheme = rest.substr(0, scheme_end);
        hop.lmtp = iequals(scheme, "lmtp");
        if (!hop.lmtp && !iequals(scheme, "smtp")) return fail(Errc::bad_input, "`smtp://` or `lmtp://`");
        rest.remove_prefix(scheme_end + 3);
        TRY_VOID(take_credentials(rest, hop));
        if (rest.size() > 1 && rest.ends_with('/') && !rest.starts_with('/')) rest.remove_suffix(1);
    }
    if (rest.starts_with('/')) {
        if (rest.size() == 1) return fail(Errc::bad_input, "the path of a socket");
        hop.path = rest;
        return hop;
    }
    hop.port = hop.lmtp ? 24 : 25;
    TRY_VOID(take_place(rest, hop));
    // RFC 2033 §5: who listens there expects SMTP.
    if (hop.lmtp && hop.port == 25)
        return fail(Errc::bad_input, "another port than 25, where LMTP must not be spoken");
    return hop;
}

}  // namespace sluice::config
