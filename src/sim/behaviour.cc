#include "sim/behaviour.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"

namespace sluice::sim {
namespace {

using delivery::Stage;
using yaml::Fields;
using yaml::Reading;

constexpr double seconds_max = 86'400;
constexpr std::array stage_names = {"connect", "mail", "rcpt", "data", "dot"};
constexpr std::array stages = {Stage::greeting, Stage::mail, Stage::rcpt, Stage::data, Stage::dot};
constexpr std::array per_names = {"receiver", "source", "address"};

bool is_enhanced_code(std::string_view word) {
    const auto parts = split(word, '.');
    return parts.size() == 3 && std::all_of(parts.begin(), parts.end(), [](std::string_view part) { return parse_number<unsigned>(part).has_value(); });
}

// 20 per second, "100/60" within 60 seconds
void read_rate(Reading& reading, const YAML::Node& node, ReplyRule& rule) {
    const std::string text = reading.text(node, "rate").value_or("1");
    const auto words = split(text, '/');
    const auto count = parse_number<std::uint32_t>(words[0]);
    const auto seconds = words.size() == 2 ? parse_number<double>(words[1]) : std::optional<double>(1);
    if (words.size() > 2 || !count || *count > 1'000'000 || !seconds || !(*seconds >= 0.001 && *seconds <= seconds_max)) {
        return reading.error(node, "rate: expected messages a second, or `COUNT/SECONDS`, found `" + yaml::shortened(text) + "`");
    }
    rule.count = *count;
    rule.in = Duration(std::llround(*seconds * 1'000));
}

Stage usual_stage(ReplyRule::When when) {
    switch (when) {
        case ReplyRule::When::sessions: return Stage::greeting;
        case ReplyRule::When::rate:
        case ReplyRule::When::session_messages: return Stage::mail;
        case ReplyRule::When::share:
        case ReplyRule::When::greylist: return Stage::rcpt;
    }
    return Stage::rcpt;
}

void read_condition(Reading& reading, const Fields& fields, ReplyRule& rule) {
    int given = 0;
    const auto condition = [&](const char* key, ReplyRule::When when) {
        if (!fields.has(key)) return false;
        ++given;
        rule.when = when;
        return true;
    };
    if (condition("rate_over", ReplyRule::When::rate)) read_rate(reading, fields["rate_over"], rule);
    if (condition("sessions_over", ReplyRule::When::sessions)) fields.read("sessions_over", rule.count);
    if (condition("session_messages_over", ReplyRule::When::session_messages)) fields.read("session_messages_over", rule.count);
    if (condition("greylist", ReplyRule::When::greylist)) fields.read_seconds("greylist", rule.wait, Duration(86'400'000));
    if (given == 0 && fields.node().IsMap() && !fields.has("share")) {
        reading.error(fields.node(), "reply: expected one of `rate_over`, `sessions_over`, `session_messages_over`, `greylist`, `share`");
    }
    if (given > 1) reading.error(fields.node(), "reply: expected one condition beside `share`");
}

ReplyRule read_reply(Reading& reading, const YAML::Node& node, std::uint32_t id) {
    const Fields fields = reading.fields(node, "reply", {"rate_over", "sessions_over", "session_messages_over", "greylist", "share", "per", "block",
                                                         "at", "reply"});
    ReplyRule rule;
    rule.id = id;
    read_condition(reading, fields, rule);
    fields.read("share", rule.share, 1.0);
    if (fields.has("per")) rule.per = static_cast<ReplyRule::Per>(reading.choice(fields["per"], "per", per_names).value_or(0));
    fields.read_seconds("block", rule.block_for, Duration(7 * 86'400'000LL));
    Stage stage = usual_stage(rule.when);
    if (fields.has("at")) stage = stages[reading.choice(fields["at"], "at", stage_names).value_or(0)];
    const bool begins = rule.when != ReplyRule::When::sessions;
    if (stage == Stage::greeting && (rule.when == ReplyRule::When::session_messages || rule.when == ReplyRule::When::greylist)) {
        reading.error(node, "at: nothing is known of a message while connecting");
    }
    if (stage != Stage::greeting && !begins) reading.error(node, "at: `sessions_over` is answered while connecting");
    fields.expect("reply");
    if (!fields.has("reply")) return rule;
    rule.text = reading.text(fields["reply"], "reply").value_or("");
    if (auto answer = parse_answer(rule.text, stage)) {
        rule.answer = std::move(*answer);
    } else {
        reading.error(fields["reply"], "reply: expected a code from 400 to 599 and a text as in `421 4.7.0 try later`, `lost` or `silent`, found `" +
                                           yaml::shortened(rule.text) + "`");
    }
    return rule;
}

}  // namespace

const std::vector<std::string> behaviour_keys{"unreachable", "latency", "capacity", "replies"};

void read_behaviour(Reading& reading, const Fields& fields, Behaviour& into, std::uint32_t& next_rule) {
    fields.read("unreachable", into.unreachable);
    if (fields.has("latency")) {
        const Fields latency = reading.fields(fields["latency"], "latency", {"connect", "message"});
        if (latency.has("connect")) into.connect = read_span(reading, latency["connect"], "connect", seconds_max);
        if (latency.has("message")) into.message = read_span(reading, latency["message"], "message", seconds_max);
    }
    if (fields.has("capacity")) {
        const Fields capacity = reading.fields(fields["capacity"], "capacity", {"sessions", "messages_per_second"});
        capacity.read("sessions", into.sessions_max);
        if (capacity.has("messages_per_second")) {
            into.messages_per_second = reading.number(capacity["messages_per_second"], "messages_per_second", 0.001, 1e9).value_or(0);
        }
    }
    if (!fields.has("replies")) return;
    into.replies.clear();
    for (const YAML::Node& reply : fields.list("replies")) into.replies.push_back(read_reply(reading, reply, next_rule++));
}

Span read_span(Reading& reading, const YAML::Node& node, const std::string& what, double max) {
    const Reading::Sequence parts = reading.one_or_more(node);
    const double least = parts.empty() ? 0 : reading.number(parts.front(), what, 0, max).value_or(0);
    const double most = parts.empty() ? 0 : reading.number(parts.back(), what, 0, max).value_or(max);
    if (parts.empty() || parts.size() > 2 || most < least) reading.error(node, what + ": expected a number, or two as in [0.1, 0.4]");
    return {least, most};
}

Duration read_time(Reading& reading, const YAML::Node& node, const std::string& what) {
    const std::string text = reading.text(node, what).value_or("");
    const auto words = split(text, ':');
    const auto hours = parse_number<std::uint32_t>(words[0]);
    const auto minutes = words.size() == 2 ? parse_number<std::uint32_t>(words[1]) : std::nullopt;
    if (hours && minutes && *hours <= 24 * 62 && *minutes < 60) return Duration((std::int64_t{*hours} * 60 + *minutes) * 60'000);
    reading.error(node, what + ": expected a time as in \"09:30\", in quotes, found `" + yaml::shortened(text) + "`");
    return Duration(0);
}

std::optional<delivery::Verdict> parse_answer(std::string_view text, Stage at) {
    delivery::Verdict verdict;
    verdict.stage = at;
    if (text == "lost" || text == "silent") {
        verdict.error = text == "lost" ? Errc::link_closed : Errc::timed_out;
        return verdict;
    }
    const auto code = parse_number<std::uint16_t>(text.substr(0, 3));
    if (!code || *code < 400 || *code > 599 || (text.size() > 3 && text[3] != ' ')) return std::nullopt;
    verdict.code = *code;
    std::string_view rest = text.size() > 4 ? text.substr(4) : std::string_view();
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (is_enhanced_code(word)) {
        verdict.status = word;
        rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    verdict.text = rest;
    return verdict;
}

}  // namespace sluice::sim
