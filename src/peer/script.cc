#include "peer/script.h"

#include <array>
#include <utility>

#include "base/text.h"

namespace sluice::peer {
namespace {

constexpr std::array<std::string_view, 10> stage_names = {"connect", "ehlo", "starttls", "auth", "mail",
                                                          "rcpt",    "data", "dot",      "rset", "quit"};

Result<> parse_action(std::string_view action, Rule& rule) {
    if (action == "drop") {
        rule.drop = true;
    } else if (action == "drop-after") {
        rule.drop_after = true;
    } else if (action.starts_with("delay ")) {
        const auto delay = parse_number<std::uint32_t>(action.substr(6));
        if (!delay) return fail(Errc::bad_input, "milliseconds are expected after \"delay \"");
        rule.delay = std::chrono::milliseconds(*delay);
    } else {
        const auto code = parse_number<int>(action.substr(0, 3));
        if (!code || *code < 200 || *code > 599) {
            return fail(Errc::bad_input, "a reply, drop, drop-after or \"delay MS\" is expected after '='");
        }
        rule.reply = action;
    }
    return {};
}

}  // namespace

std::optional<Stage> stage_named(std::string_view name) {
    for (std::size_t i = 0; i < stage_names.size(); ++i) {
        if (stage_names[i] == name) return static_cast<Stage>(i);
    }
    return std::nullopt;
}

Result<Rule> parse_rule(std::string_view text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) return fail(Errc::bad_input, "STAGE[:PATTERN][%PERCENT]=ACTION is expected");
    std::string_view where = text.substr(0, equals);
    Rule rule;
    TRY_VOID(parse_action(text.substr(equals + 1), rule));
    if (const std::size_t at = where.rfind('%'); at != std::string_view::npos) {
        const auto percent = parse_number<double>(where.substr(at + 1));
        if (!percent || *percent < 0 || *percent > 100) return fail(Errc::bad_input, "a percentage is expected after '%'");
        rule.percent = *percent;
        where = where.substr(0, at);
    }
    if (const std::size_t colon = where.find(':'); colon != std::string_view::npos) {
        rule.pattern = where.substr(colon + 1);
        where = where.substr(0, colon);
    }
    const auto stage = stage_named(where);
    if (!stage) return fail(Errc::bad_input, "unknown stage: " + std::string(where));
    rule.stage = *stage;
    return rule;
}

bool matches(std::string_view pattern, std::string_view address) {
    // Greedy matching with one point to come back to: linear but for the last star.
    std::size_t p = 0, a = 0, star = std::string_view::npos, resume = 0;
    while (a < address.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            resume = a;
        } else if (p < pattern.size() && ascii_lower(pattern[p]) == ascii_lower(address[a])) {
            ++p;
            ++a;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            a = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
}

std::optional<Rule> Script::decide(Stage stage, std::string_view address) {
    std::optional<Rule> decided;
    std::chrono::milliseconds delay{0};
    for (const Rule& rule : rules_) {
        if (rule.stage != stage || (!rule.pattern.empty() && !matches(rule.pattern, address))) continue;
        if (rule.percent < 100 && !random_.chance(rule.percent / 100)) continue;
        delay += rule.delay;
        const bool only_delays = rule.reply.empty() && !rule.drop && !rule.drop_after;
        if (!decided && !only_delays) decided = rule;
    }
    if (!decided && delay.count() == 0) return std::nullopt;
    if (!decided) decided.emplace();
    decided->delay = delay;
    return decided;
}

}  // namespace sluice::peer
