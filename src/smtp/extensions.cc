#include "smtp/extensions.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::smtp {
namespace {

constexpr std::size_t mechanisms_max = 32;
constexpr std::size_t mechanism_octets_max = 20;  // RFC 4422 §3.1

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    for (const std::string_view word : split(line, ' ')) {
        if (!word.empty()) words.push_back(word);
    }
    return words;
}

// RFC 9422 §3: one to six digits, without leading zero.
std::optional<std::uint32_t> limit_value(std::string_view text) {
    if (text.empty() || text.size() > 6 || text.front() == '0') return std::nullopt;
    return parse_number<std::uint32_t>(text);
}

void read_limit(Limits& limits, std::string_view word) {
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) return;
    const auto value = limit_value(word.substr(equals + 1));
    if (!value) return;
    const std::string_view name = word.substr(0, equals);
    if (iequals(name, "RCPTMAX")) limits.rcpt_max = value;
    if (iequals(name, "MAILMAX")) limits.mail_max = value;
    if (iequals(name, "RCPTDOMAINMAX")) limits.rcpt_domain_max = value;
}

struct Flag {
    std::string_view keyword;
    bool Extensions::* member;
};
constexpr Flag flags[] = {
    {"PIPELINING", &Extensions::pipelining},
    {"8BITMIME", &Extensions::eight_bit_mime},
    {"SMTPUTF8", &Extensions::smtputf8},
    {"CHUNKING", &Extensions::chunking},
    {"BINARYMIME", &Extensions::binarymime},
    {"DSN", &Extensions::dsn},
    {"ENHANCEDSTATUSCODES", &Extensions::enhanced_codes},
    {"STARTTLS", &Extensions::starttls},
    {"REQUIRETLS", &Extensions::requiretls},
    {"MT-PRIORITY", &Extensions::mt_priority},
    {"HELP", &Extensions::help},
    {"VRFY", &Extensions::vrfy},
};

// Sessions live long, and a reply has room for 30,000 mechanisms.
void add_mechanism(Extensions& extensions, std::string_view name) {
    if (name.size() > mechanism_octets_max || extensions.auth.size() >= mechanisms_max) return;
    extensions.auth.push_back(to_upper(name));
}

void read_keyword(Extensions& extensions, const std::vector<std::string_view>& words) {
    const std::string_view keyword = words.front();
    for (const Flag& flag : flags) {
        if (iequals(keyword, flag.keyword)) extensions.*flag.member = true;
    }
    if (iequals(keyword, "SIZE")) {
        extensions.size = true;
        if (words.size() > 1) extensions.size_max = parse_number<std::uint64_t>(words[1]).value_or(0);
    }
    // Some servers still write "AUTH=LOGIN PLAIN", as drafts before RFC 2554 did.
    if (iequals(keyword, "AUTH") || istarts_with(keyword, "AUTH=")) {
        if (keyword.size() > 5) add_mechanism(extensions, keyword.substr(5));
        for (std::size_t i = 1; i < words.size(); ++i)
            add_mechanism(extensions, words[i]);
    }
    if (iequals(keyword, "LIMITS")) {
        for (std::size_t i = 1; i < words.size(); ++i)
            read_limit(extensions.limits, words[i]);
    }
}

std::string limits_line(const Limits& limits) {
    std::string line;
    const auto add = [&line](std::string_view name, std::optional<std::uint32_t> value) {
        if (value) line.append(" ").append(name).append("=").append(std::to_string(*value));
    };
    add("RCPTMAX", limits.rcpt_max);
    add("MAILMAX", limits.mail_max);
    add("RCPTDOMAINMAX", limits.rcpt_domain_max);
    return line.empty() ? line : "LIMITS" + line;
}

}  // namespace

bool Extensions::offers_auth(std::string_view mechanism) const {
    return std::any_of(auth.begin(), auth.end(), [&](const std::string& one) {
        return iequals(one, mechanism);
    });
}

Extensions parse_extensions(const Reply& ehlo) {
    Extensions extensions;
    for (std::size_t i = 1; i < ehlo.lines.size(); ++i) {
        const auto words = words_of(ehlo.lines[i]);
        if (!words.empty()) read_keyword(extensions, words);
    }
    return extensions;
}

Reply format_extensions(const Extensions& offered, std::string_view greeting) {
    Reply reply(250, "", std::string(greeting));
    for (const Flag& flag : flags) {
        if (offered.*flag.member) reply.lines.emplace_back(flag.keyword);
    }
    if (offered.size) {
        reply.lines.push_back(offered.size_max > 0 ? "SIZE " + std::to_string(offered.size_max) : "SIZE");
    }
    if (!offered.auth.empty()) {
        std::string line = "AUTH";
        for (const std::string& mechanism : offered.auth)
            line += " " + mechanism;
        reply.lines.push_back(std::move(line));
    }
    if (std::string line = limits_line(offered.limits); !line.empty()) reply.lines.push_back(std::move(line));
    return reply;
}

}  // namespace sluice::smtp
