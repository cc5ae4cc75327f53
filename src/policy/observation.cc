#include "policy/observation.h"

#include <re2/re2.h>

#include <array>
#include <memory>
#include <string_view>

#include "base/assert.h"

namespace sluice::policy {
namespace {

constexpr std::array<const char*, stage_count> stages{"connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "dot"};
constexpr std::array<const char*, failure_count> failures{
    "connection", "tls",  "connections",     "session_messages", "throttled",        "blocked", "greylisted",
    "busy",       "unknown_mailbox", "full_mailbox", "disabled_mailbox", "content", "auth",    "other"};

struct Words {
    Failure failure;
    RE2 expression;
};

RE2::Options caseless() {
    RE2::Options options;
    options.set_case_sensitive(false);
    options.set_dot_nl(true);
    return options;
}

// In this order: of a text that says several things the first one counts.
const std::array<Words, 9>& words() {
    static const RE2::Options how = caseless();
    static const std::array<Words, 9> table{{
        {Failure::greylisted, {"gr[ae]y-?list", how}},
        {Failure::session_messages,
         {R"((messages?|e-?mails?|deliveries|transactions|recipients).{0,30}(per|in this|on this|for this) (smtp )?(connection|session)|(connection|session).{0,20}message limit)", how}},
        {Failure::connections,
         {R"(too many.{0,30}(connections|sessions)|(connections?|concurrency|sessions?).{0,30}(limit|exceed|maximum|too many)|max\w* (number of )?(concurrent |simultaneous )?(connections|sessions))",
          how}},
        {Failure::throttled,
         {R"(rate.?limit|throttl|unusual rate|too fast|excessive (volume|rate)|deferred due to (user complaints|unexpected volume)|temporarily deferred|temporarily rate|\bTSS?\d\d\b|\bIPTS\d\d\b|\bS775\b|\bS3114\b|\bRP-00\d\b|\bRL\d{6}\b|(rate|volume|number) of (messages|mail|e-?mails?)|too many (messages|e-?mails|mails|requests))",
          how}},
        {Failure::blocked,
         {R"(spamhaus|spamcop|barracudacentral|sorbs|uceprotect|\bdnsbl\b|\brbl\b|block.?list|black.?list|deny.?list|listed (at|by|in|on) |\bS3140\b|\bS3150\b|(\bip\b|host|network|server).{0,40}\b(blocked|banned)\b|poor reputation|\[?CS01\]?)",
          how}},
        {Failure::full_mailbox, {R"(mailbox.{0,20}full|over.?quota|quota exceeded|out of storage|insufficient (disk|storage))", how}},
        {Failure::unknown_mailbox, {R"((user|recipient|mailbox|address|account).{0,30}(unknown|does not exist|doesn't exist|not found|not exist)|(unknown|no such|invalid) (user|recipient|mailbox|address))", how}},
        {Failure::disabled_mailbox, {R"((mailbox|account|user|recipient).{0,20}(disabled|inactive|suspended))", how}},
        {Failure::busy, {R"(server (is )?(too )?busy|too busy|system (is )?(too )?busy|overload|insufficient system|resources)", how}},
    }};
    return table;
}

// Subject and detail: "7.28" of "4.7.28".
std::string_view detail_of(std::string_view status) {
    const std::size_t dot = status.find('.');
    return dot == std::string_view::npos ? std::string_view() : status.substr(dot + 1);
}

std::optional<Failure> by_status(const Observation& observation) {
    const std::string_view detail = detail_of(observation.status);
    if (detail == "1.1" || detail == "1.10" || detail == "1.2") return Failure::unknown_mailbox;
    if (detail == "2.2") return Failure::full_mailbox;
    if (detail == "2.1") return Failure::disabled_mailbox;
    if (detail == "7.28" || detail == "7.650" || detail == "7.651") return Failure::throttled;
    if (detail == "7.500" || detail == "3.1" || detail == "3.2") return Failure::busy;
    if (detail.starts_with("7.") || detail.starts_with("6.")) return Failure::content;
    return std::nullopt;
}

}  // namespace

const char* name_of(Stage stage) { return stages[static_cast<std::size_t>(stage)]; }
const char* name_of(Failure failure) { return failures[static_cast<std::size_t>(failure)]; }
std::vector<std::string> failure_names() { return {failures.begin(), failures.end()}; }
std::vector<std::string> stage_names() { return {stages.begin(), stages.end()}; }

std::string Observation::reply() const {
    std::string out = code != 0 ? std::to_string(code) : sluice::name_of(error);
    if (code != 0 && !status.empty()) out.append(" ").append(status);
    if (!text.empty()) out.append(code != 0 ? " " : ": ").append(text);
    return out;
}

Failure classify(const Observation& observation) {
    if (observation.code == 0) {
        if (observation.error == Errc::auth_unavailable) return Failure::auth;
        return observation.stage == Stage::tls || observation.error == Errc::tls_failed ? Failure::tls : Failure::connection;
    }
    if (observation.stage == Stage::tls) return Failure::tls;
    if (observation.stage == Stage::auth) return Failure::auth;
    for (const Words& one : words()) {
        if (RE2::PartialMatch(observation.text, one.expression)) return one.failure;
    }
    if (const std::optional<Failure> found = by_status(observation)) return *found;
    if (observation.code == 421) return Failure::busy;
    return Failure::other;
}

}  // namespace sluice::policy
