#include "mail/domain.h"

#include <arpa/inet.h>
#include <idn2.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/text.h"
#include "mail/address.h"

namespace sluice::mail {
namespace {

constexpr std::size_t label_octets_max = 63;
constexpr std::size_t name_octets_max = 253;  // 255 on the wire (RFC 1035 §3.1) less length octet and root

struct IdnFree {
    void operator()(char* text) const { idn2_free(text); }
};
using IdnText = std::unique_ptr<char, IdnFree>;

// `underscore`: DNS names use it, mail domains must not.
bool is_label(std::string_view label, bool underscore) {
    if (label.empty() || label.size() > label_octets_max) return false;
    if (label.front() == '-' || label.back() == '-') return false;
    return std::all_of(label.begin(), label.end(), [underscore](char c) {
        return is_alnum(c) || c == '-' || (underscore && c == '_');
    });
}

bool are_labels(std::string_view domain, bool underscore) {
    for (std::size_t from = 0;;) {
        const std::size_t dot = domain.find('.', from);
        if (!is_label(domain.substr(from, dot - from), underscore)) return false;
        if (dot == std::string_view::npos) return true;
        from = dot + 1;
    }
}

bool has_a_label(std::string_view domain) {
    for (std::size_t from = 0; from < domain.size();) {
        if (istarts_with(domain.substr(from), "xn--")) return true;
        const std::size_t dot = domain.find('.', from);
        if (dot == std::string_view::npos) break;
        from = dot + 1;
    }
    return false;
}

// UTS 46, non-transitional: "faß.de" keeps its own name (EA-7).
Result<std::string> to_a_labels(const std::string& domain) {
    char* out = nullptr;
    const int status = idn2_to_ascii_8z(domain.c_str(), &out, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
    const IdnText owned(out);
    if (status != IDN2_OK) return fail(Errc::bad_input, "Domain name is not a valid internationalised name");
    return std::string(out);
}

// An A-label counts only if it is what its own decoding encodes to; "xn--a" and "xn---" are nobody's name
// (EA-8).
bool survives_round_trip(const std::string& ascii) {
    char* out = nullptr;
    const int status = idn2_to_unicode_8z8z(ascii.c_str(), &out, 0);
    const IdnText owned(out);
    if (status != IDN2_OK) return false;
    const auto again = to_a_labels(out);
    return again && *again == ascii;
}

}  // namespace

std::optional<std::string> canonical_literal(std::string_view text) {
    if (text.size() < 4 || text.front() != '[' || text.back() != ']') return std::nullopt;
    const std::string inner(text.substr(1, text.size() - 2));
    if (inner.find('\0') != std::string::npos) return std::nullopt;
    std::array<unsigned char, 16> address{};
    std::array<char, INET6_ADDRSTRLEN> out{};
    if (istarts_with(inner, "IPv6:")) {
        if (inet_pton(AF_INET6, inner.c_str() + 5, address.data()) != 1) return std::nullopt;
        return "[IPv6:" + std::string(inet_ntop(AF_INET6, address.data(), out.data(), out.size())) + "]";
    }
    if (inet_pton(AF_INET, inner.c_str(), address.data()) != 1) return std::nullopt;
    return "[" + std::string(inet_ntop(AF_INET, address.data(), out.data(), out.size())) + "]";
}

bool is_domain_syntax(std::string_view text) {
    return are_labels(text, false);
}

Result<std::string> normalise_domain(std::string_view domain) {
    if (!domain.empty() && domain.front() == '[') {
        if (auto literal = canonical_literal(domain)) return std::move(*literal);
        return fail(Errc::bad_input, "Malformed address literal");
    }
    if (!domain.empty() && domain.back() == '.') domain.remove_suffix(1);
    if (domain.empty()) return fail(Errc::bad_input, "Domain name is empty");
    if (domain.find('\0') != std::string_view::npos) return fail(Errc::bad_input, "Domain name contains NUL");

    std::string name(domain);
    const bool ascii = is_ascii(name);
    if (!ascii) {
        if (!is_valid_utf8(name)) return fail(Errc::bad_input, "Domain name is not valid UTF-8");
        TRY(name, to_a_labels(name));
    }
    name = to_lower(name);
    if (name.size() > name_octets_max) return fail(Errc::bad_input, "Domain name is too long");
    if (!are_labels(name, true)) return fail(Errc::bad_input, "Malformed domain name");
    if (ascii && has_a_label(name) && !survives_round_trip(name)) {
        return fail(Errc::bad_input, "Domain name is not a valid internationalised name");
    }
    return name;
}

}  // namespace sluice::mail
