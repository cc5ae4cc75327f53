#include "mail/address.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/text.h"
#include "mail/domain.h"

namespace sluice::mail {
namespace {

// RFC 5321 §4.5.3.1.1 to §4.5.3.1.3.
constexpr std::size_t local_octets_max = 64;
constexpr std::size_t domain_octets_max = 255;
constexpr std::size_t path_octets_max = 256;

bool is_high(char c) {
    return static_cast<unsigned char>(c) >= 0x80;
}

// RFC 5322 §3.2.3, extended by RFC 6531 §3.3.
bool is_atext(char c) {
    constexpr std::string_view specials = "!#$%&'*+-/=?^_`{|}~";
    return is_alnum(c) || is_high(c) || specials.find(c) != std::string_view::npos;
}

bool is_dot_string(std::string_view text) {
    if (text.empty() || text.front() == '.' || text.back() == '.') return false;
    if (text.find("..") != std::string_view::npos) return false;
    return std::all_of(text.begin(), text.end(), [](char c) { return is_atext(c) || c == '.'; });
}

// Characters that some software takes for a line end or a control: C1 controls (U+0080 to U+009F) and the
// separators U+2028 and U+2029. `text` is valid UTF-8.
bool has_unicode_control(std::string_view text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        const auto next = static_cast<unsigned char>(text[i + 1]);
        if (text[i] == '\xC2' && next < 0xA0) return true;
        if (text.substr(i, 2) == "\xE2\x80" && i + 2 < text.size() &&
            (text[i + 2] == '\xA8' || text[i + 2] == '\xA9')) {
            return true;
        }
    }
    return false;
}

// RFC 5321 §4.1.2 Quoted-string at the start of `text`; gives the octets it stands for and moves past it.
Result<std::string> take_quoted(std::string_view& text) {
    std::string local;
    for (std::size_t i = 1; i < text.size(); ++i) {
        char c = text[i];
        if (c == '"') {
            text.remove_prefix(i + 1);
            return local;
        }
        if (c == '\\') {
            if (++i == text.size()) break;
            c = text[i];
            if (is_high(c)) return fail(Errc::bad_input, "Only ASCII may follow a backslash in a local part");
        }
        if (c < ' ' && !is_high(c)) return fail(Errc::bad_input, "Local part contains a control character");
        if (c == 0x7F) return fail(Errc::bad_input, "Local part contains a control character");
        local.push_back(c);
    }
    return fail(Errc::bad_input, "Quoted local part does not end");
}

Result<std::string> take_local(std::string_view& text) {
    const std::size_t before = text.size();
    std::string local;
    if (!text.empty() && text.front() == '"') {
        TRY(local, take_quoted(text));
    } else {
        std::size_t end = 0;
        while (end < text.size() && (is_atext(text[end]) || text[end] == '.'))
            ++end;
        local = text.substr(0, end);
        if (!is_dot_string(local)) return fail(Errc::bad_input, "Malformed local part");
        text.remove_prefix(end);
    }
    if (before - text.size() > local_octets_max)
        return fail(Errc::bad_input, "Local part is longer than 64 octets");
    if (has_unicode_control(local)) return fail(Errc::bad_input, "Local part contains a control character");
    return local;
}

Result<std::string> check_domain(std::string_view domain) {
    if (domain.empty()) return fail(Errc::bad_input, "Domain is missing");
    if (domain.size() > domain_octets_max) return fail(Errc::bad_input, "Domain is longer than 255 octets");
    if (domain.front() != '[' && is_ascii(domain) && !is_domain_syntax(domain)) {
        return fail(Errc::bad_input, "Malformed domain");
    }
    if (domain.back() == '.') return fail(Errc::bad_input, "Malformed domain");
    TRY(const std::string name, normalise_domain(domain));
    if (name.front() != '[' && !is_domain_syntax(name)) return fail(Errc::bad_input, "Malformed domain");
    const auto dots = [](std::string_view text) { return std::count(text.begin(), text.end(), '.'); };
    // Full stops of other scripts (U+3002) would let two readers of one address see two domains (EA-8).
    if (!is_ascii(domain) && dots(name) != dots(domain)) return fail(Errc::bad_input, "Malformed domain");
    return std::string(domain);
}

Result<Address> parse_mailbox(std::string_view text, const PathSyntax& syntax) {
    if (!is_ascii(text)) {
        if (!syntax.allow_utf8) return fail(Errc::bad_input, "Non-ASCII address without SMTPUTF8");
        if (!is_valid_utf8(text)) return fail(Errc::bad_input, "Address is not valid UTF-8");
    }
    if (text.starts_with('@')) return fail(Errc::bad_input, "Source routes are not accepted");
    Address address;
    TRY(address.local, take_local(text));
    if (text.empty() && syntax.allow_postmaster && iequals(address.local, "postmaster")) return address;
    if (text.empty()) return fail(Errc::bad_input, "Address has no domain");
    if (text.front() != '@') return fail(Errc::bad_input, "Malformed address");
    TRY(address.domain, check_domain(text.substr(1)));
    return address;
}

std::string quoted(std::string_view local) {
    std::string out = "\"";
    for (const char c : local) {
        if (c == '"' || c == '\\') out.push_back('\\');
        out.push_back(c);
    }
    out.push_back('"');
    return out;
}

std::string join(const Address& address, std::string_view domain) {
    std::string out = is_dot_string(address.local) ? address.local : quoted(address.local);
    if (!domain.empty()) out.append(1, '@').append(domain);
    return out;
}

// ASCII "!" to "~" without "+" and "=" (RFC 3461 §4).
bool is_xchar(char c) {
    return c >= '!' && c <= '~' && c != '+' && c != '=';
}

int upper_hex(char c) {
    if (is_digit(c)) return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

bool Address::needs_utf8() const {
    return !is_ascii(local) || !is_ascii(domain);
}

bool Address::local_needs_utf8() const {
    return !is_ascii(local);
}

std::string Address::text() const {
    return is_null() ? std::string() : join(*this, domain);
}

std::string Address::ascii_domain_text() const {
    if (is_null()) return {};
    return is_ascii(domain) ? join(*this, domain) : join(*this, routing_domain());
}

std::string Address::routing_domain() const {
    if (domain.empty()) return {};
    // Parsing has validated the name; only what depends on more than case needs the slow way.
    if (!is_literal() && is_ascii(domain)) return to_lower(domain);
    return normalise_domain(domain).value_or(to_lower(domain));
}

Result<Address> parse_path(std::string_view text, const PathSyntax& syntax) {
    const bool bracketed = !text.empty() && text.front() == '<';
    if (bracketed) {
        if (text.size() < 2 || text.back() != '>') return fail(Errc::bad_input, "Path does not end in '>'");
        text = text.substr(1, text.size() - 2);
    } else if (syntax.require_brackets) {
        return fail(Errc::bad_input, "Path is not enclosed in '<' and '>'");
    }
    if (text.empty()) {
        if (syntax.allow_null && bracketed) return Address{};
        return fail(Errc::bad_input, "Address is empty");
    }
    if (text.size() + 2 > path_octets_max) return fail(Errc::bad_input, "Path is longer than 256 octets");
    return parse_mailbox(text, syntax);
}

Result<Address> parse_address(std::string_view text) {
    if (text.starts_with('<')) return fail(Errc::bad_input, "Expected an address without '<' and '>'");
    PathSyntax syntax;
    syntax.require_brackets = false;
    return parse_path(text, syntax);
}

std::string encode_xtext(std::string_view text) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string out;
    out.reserve(text.size());
    for (const char c : text) {
        if (is_xchar(c)) {
            out.push_back(c);
            continue;
        }
        const auto octet = static_cast<unsigned char>(c);
        out.push_back('+');
        out.push_back(digits[octet >> 4]);
        out.push_back(digits[octet & 15]);
    }
    return out;
}

Result<std::string> decode_xtext(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (is_xchar(text[i])) {
            out.push_back(text[i]);
            continue;
        }
        if (text[i] != '+' || i + 2 >= text.size()) return fail(Errc::bad_input, "Malformed xtext");
        const int high = upper_hex(text[i + 1]);
        const int low = upper_hex(text[i + 2]);
        if (high < 0 || low < 0) return fail(Errc::bad_input, "Malformed xtext");
        out.push_back(static_cast<char>(high * 16 + low));
        i += 2;
    }
    return out;
}

}  // namespace sluice::mail
