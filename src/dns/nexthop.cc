#include "dns/nexthop.h"

#include <algorithm>

#include "base/text.h"
#include "mail/address.h"

namespace sluice::dns {
namespace {

constexpr std::uint16_t smtp_port = 25;
constexpr std::uint16_t lmtp_port =
    24;  // the one reserved for private mail systems, as other engines default to

tl::unexpected<Error> refuse(const std::string& why) {
    return fail(Errc::config, "nexthop " + why);
}

int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    const char lower = ascii_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// A percent sign that is not followed by two hex digits stands for itself: people paste passwords.
std::string percent_decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool escaped = text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
                             hex_value(text[i + 2]) >= 0;
        if (!escaped) {
            out += text[i];
            continue;
        }
        out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
        i += 2;
    }
    return out;
}

// "user:password@" before the host; the last "@" counts, because passwords contain them.
void take_credentials(std::string_view& authority, queue::Transport& transport) {
    const std::size_t at = authority.rfind('@');
    if (at == std::string_view::npos) return;
    const std::string_view credentials = authority.substr(0, at);
    authority.remove_prefix(at + 1);
    const std::size_t colon = credentials.find(':');
    transport.auth_user = percent_decode(credentials.substr(0, colon));
    if (colon != std::string_view::npos)
        transport.auth_password = percent_decode(credentials.substr(colon + 1));
}

Result<> read_port(std::string_view text, Nexthop& nexthop) {
    const auto port = parse_number<std::uint16_t>(text);
    if (!port || *port == 0) return refuse("has a port outside 1-65535: \"" + printable(text) + "\"");
    nexthop.port = *port;
    return {};
}

Result<> read_bracketed(std::string_view text, Nexthop& nexthop) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return refuse("has a [ without ]");
    nexthop.address = net::IpAddress::parse(text.substr(1, close - 1));
    if (!nexthop.address) return refuse("has no IP address between [ and ]: \"" + printable(text) + "\"");
    const std::string_view rest = text.substr(close + 1);
    if (rest.empty()) return {};
    if (rest.front() != ':') return refuse("goes on after ]: \"" + printable(text) + "\"");
    return read_port(rest.substr(1), nexthop);
}

Result<> read_host_and_port(std::string_view text, Nexthop& nexthop) {
    if (text.starts_with('[')) return read_bracketed(text, nexthop);
    std::string_view host = text;
    if (std::ranges::count(text, ':') == 1) {
        const std::size_t colon = text.find(':');
        TRY_VOID(read_port(text.substr(colon + 1), nexthop));
        host = text.substr(0, colon);
    }
    nexthop.address = net::IpAddress::parse(host);
    if (nexthop.address) return {};
    auto name = mail::normalise_domain(host);
    if (!name || name->starts_with('[')) {
        return refuse("is neither a host name, an IP address nor a path: \"" + printable(host) + "\"");
    }
    nexthop.host = std::move(*name);
    return {};
}

Result<Nexthop> to_socket(std::string_view path) {
    if (path.size() < 2 || path.find('\0') != std::string_view::npos)
        return refuse("is not a path of a socket");
    Nexthop nexthop;
    nexthop.path = path;
    nexthop.transport.lmtp = true;
    nexthop.transport.from_dns = false;
    return nexthop;
}

}  // namespace

Result<Nexthop> parse_nexthop(std::string_view text) {
    text = trim(text);
    if (text.starts_with('/')) return to_socket(text);

    Nexthop nexthop;
    nexthop.transport.from_dns = false;
    nexthop.port = smtp_port;
    if (const std::size_t scheme_end = text.find("://"); scheme_end != std::string_view::npos) {
        const std::string_view scheme = text.substr(0, scheme_end);
        text.remove_prefix(scheme_end + 3);
        nexthop.transport.lmtp = iequals(scheme, "lmtp");
        if (!nexthop.transport.lmtp && !iequals(scheme, "smtp")) {
            return refuse("has the scheme \"" + printable(scheme) + "\"; smtp and lmtp are known");
        }
        if (nexthop.transport.lmtp) nexthop.port = lmtp_port;
        if (nexthop.transport.lmtp && text.starts_with('/')) return to_socket(text);
        take_credentials(text, nexthop.transport);
        if (text.ends_with('/')) text.remove_suffix(1);
    }
    TRY_VOID(read_host_and_port(text, nexthop));
    // RFC 2033 §5: who listens there expects SMTP.
    if (nexthop.transport.lmtp && nexthop.port == smtp_port)
        return refuse("speaks LMTP on port 25, which is for SMTP");
    return nexthop;
}

}  // namespace sluice::dns
