#include "policy/pattern.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::policy {
namespace {

// Of one expression; RE2 refuses what would need more, and never backtracks.
constexpr std::int64_t regex_memory_max = 1 << 20;
constexpr std::size_t regex_length_max = 1'000;

Result<Pattern> parse_regex(FieldType type, std::string_view text) {
    if (text.size() < 3 || text.back() != '/') {
        return fail(Errc::bad_input, "expected `/expression/`");
    }
    if (text.size() > regex_length_max) {
        return fail(Errc::bad_input, "expected an expression of at most " + std::to_string(regex_length_max) + " characters");
    }
    Pattern pattern;
    pattern.kind = Pattern::Kind::regex;
    pattern.text = text.substr(1, text.size() - 2);
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(regex_memory_max);
    options.set_case_sensitive(type == FieldType::text);
    options.set_never_capture(true);
    pattern.regex = std::make_shared<const RE2>(pattern.text, options);
    if (!pattern.regex->ok()) return fail(Errc::bad_input, "expected an expression that RE2 knows: " + pattern.regex->error());
    return pattern;
}

Result<Pattern> parse_address(std::string_view text) {
    if (text.empty()) return Pattern{};  // no address: the kernel chooses, or the peer is a socket of this machine
    const std::optional<Network> network = Network::parse(text);
    if (!network) return fail(Errc::bad_input, "expected an address or a prefix, as 192.0.2.1 or 2001:db8::/32, without bits behind the prefix");
    Pattern pattern;
    pattern.kind = Pattern::Kind::network;
    pattern.network = *network;
    pattern.text = network->text();
    return pattern;
}

std::optional<Pattern> range(std::optional<std::uint32_t> from, std::optional<std::uint32_t> to) {
    if (!from || !to || *from > *to) return std::nullopt;
    Pattern pattern;
    pattern.kind = Pattern::Kind::range;
    pattern.from = *from;
    pattern.to = *to;
    return pattern;
}

std::optional<Pattern> range_of(std::string_view text) {
    constexpr std::uint32_t last = std::numeric_limits<std::uint32_t>::max();
    const auto number = [](std::string_view digits) { return parse_number<std::uint32_t>(trim(digits)); };
    if (text.starts_with(">=")) return range(number(text.substr(2)), last);
    if (text.starts_with("<=")) return range(0, number(text.substr(2)));
    if (text.starts_with('>') || text.starts_with('<')) {
        const std::optional<std::uint32_t> bound = number(text.substr(1));
        if (!bound || *bound == (text[0] == '>' ? last : 0)) return std::nullopt;
        return text[0] == '>' ? range(*bound + 1, last) : range(0, *bound - 1);
    }
    const std::size_t dots = text.find("..");
    if (dots == std::string_view::npos) return range(number(text), number(text));
    return range(number(text.substr(0, dots)), number(text.substr(dots + 2)));
}

Result<Pattern> parse_domain(FieldType type, std::string_view text) {
    Pattern pattern;
    pattern.text = normal(FieldType::domain, text);
    if (text == "*") {
        pattern.kind = Pattern::Kind::any;
    } else if (text.starts_with("*.")) {
        pattern.kind = Pattern::Kind::suffix;
        pattern.text.erase(0, 2);
    }
    const bool is_sign = type == FieldType::grouping && text.starts_with('&');
    const bool is_empty = pattern.text.empty() && pattern.kind == Pattern::Kind::suffix;
    if (pattern.kind != Pattern::Kind::any && !is_sign && (is_empty || pattern.text.find_first_of("*?#& \t/") != std::string::npos)) {
        return fail(Errc::bad_input, "expected a domain, `*.domain` or `/expression/`");
    }
    return pattern;
}

bool is_below(std::string_view domain, std::string_view suffix) {
    return domain.size() > suffix.size() && domain.ends_with(suffix) && domain[domain.size() - suffix.size() - 1] == '.';
}

}  // namespace

std::string normal(FieldType type, std::string_view text) {
    switch (type) {
        case FieldType::text:
        case FieldType::number: return std::string(text);
        case FieldType::domain:
        case FieldType::grouping: {
            std::string lower = to_lower(text);
            if (lower.size() > 1 && lower.back() == '.') lower.pop_back();
            return lower;
        }
        case FieldType::address: {
            const std::optional<Network> network = Network::parse(text);
            return network ? network->text() : std::string(text);
        }
    }
    UNREACHABLE();
}

Result<Pattern> Pattern::parse(FieldType type, std::string_view text) {
    if (type == FieldType::address) return parse_address(text);
    if (type == FieldType::number) {
        std::optional<Pattern> pattern = range_of(text);
        if (!pattern) return fail(Errc::bad_input, "expected a number, or some as 2..4, >=3 or <3");
        pattern->text = text;
        return *pattern;
    }
    if (text.starts_with('/')) return parse_regex(type, text);
    if (type == FieldType::domain || type == FieldType::grouping) return parse_domain(type, text);
    Pattern pattern;
    pattern.kind = text == "*" ? Kind::any : Kind::literal;
    pattern.text = text;
    if (text.size() > 1 && text.find('*') != std::string_view::npos) {
        return fail(Errc::bad_input, "expected a text or `/expression/`; wildcards are for domains");
    }
    return pattern;
}

bool Pattern::matches(std::string_view value) const {
    switch (kind) {
        case Kind::literal: return value == text;
        case Kind::any: return true;
        case Kind::suffix: return is_below(value, text);
        case Kind::regex: return RE2::PartialMatch(re2::StringPiece(value.data(), value.size()), *regex);
        case Kind::network: {
            const std::optional<Network> address = Network::parse(value);
            return address && network.contains(*address);
        }
        case Kind::range: {
            const std::optional<std::uint32_t> number = parse_number<std::uint32_t>(value);
            return number && from <= *number && *number <= to;
        }
    }
    UNREACHABLE();
}

bool Pattern::covers(const Pattern& other) const {
    if (kind == Kind::any) return true;
    if (other.kind == Kind::literal) return matches(other.text);
    if (kind != other.kind) return false;
    switch (kind) {
        case Kind::suffix: return text == other.text || is_below(other.text, text);
        case Kind::network: return network.contains(other.network);
        case Kind::range: return from <= other.from && other.to <= to;
        case Kind::literal:
        case Kind::any:
        case Kind::regex: return text == other.text;
    }
    UNREACHABLE();
}

bool Pattern::meets(const Pattern& other) const {
    if (kind == Kind::range && other.kind == Kind::range) return from <= other.to && other.from <= to;
    return covers(other) || other.covers(*this);
}

std::string Pattern::shown() const {
    if (kind == Kind::suffix) return "*." + text;
    return kind == Kind::regex ? "/" + text + "/" : text;
}

// ---- Matcher ---------------------------------------------------------------------------------------------------

void Matcher::note(Texts& texts, const std::string& text, std::uint32_t group) {
    std::uint32_t& known = texts.try_emplace(text, group).first->second;
    known = std::min(known, group);
}

void Matcher::add(const Pattern& pattern, std::uint32_t group) {
    const auto insert = [&](std::vector<Slow>& into) {
        const auto at = std::upper_bound(into.begin(), into.end(), group,
                                         [](std::uint32_t g, const Slow& slow) { return g < slow.group; });
        into.insert(at, Slow{pattern, group});
    };
    switch (pattern.kind) {
        case Pattern::Kind::literal: return note(literals_, pattern.text, group);
        case Pattern::Kind::suffix: return note(suffixes_, pattern.text, group);
        case Pattern::Kind::any: any_ = std::min(any_, group); return;
        case Pattern::Kind::network: return insert(networks_);
        case Pattern::Kind::regex:
        case Pattern::Kind::range: return insert(others_);
    }
}

std::uint32_t Matcher::match(std::string_view text) const {
    std::uint32_t best = any_;
    const auto look_up = [&](const Texts& texts, std::string_view key) {
        const auto found = texts.find(key);
        if (found != texts.end()) best = std::min(best, found->second);
    };
    if (!literals_.empty()) look_up(literals_, text);
    if (!suffixes_.empty()) {
        for (std::size_t dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.', dot + 1)) {
            if (dot > 0) look_up(suffixes_, text.substr(dot + 1));
        }
    }
    if (!networks_.empty()) {
        if (const std::optional<Network> address = Network::parse(text)) {
            for (const Slow& slow : networks_) {
                if (slow.group >= best) break;
                if (slow.pattern.network.contains(*address)) best = slow.group;
            }
        }
    }
    for (const Slow& slow : others_) {
        if (slow.group >= best) break;
        if (slow.pattern.matches(text)) best = slow.group;
    }
    return best;
}

}  // namespace sluice::policy
