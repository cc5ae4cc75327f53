#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/result.h"

namespace sluice::peer {

// Where in the dialogue a rule applies. `dot` is the answer to content (final dot or BDAT LAST).
enum class Stage : std::uint8_t { connect, ehlo, starttls, auth, mail, rcpt, data, dot, rset, quit };
std::optional<Stage> stage_named(std::string_view name);

// What a sink does instead of the ordinary answer.
struct Rule {
    Stage stage = Stage::rcpt;
    std::string pattern;              // of the address at mail and rcpt, with * as wildcard; empty: any
    double percent = 100;
    std::string reply;                // "450 4.2.0 busy"; empty: the ordinary one
    std::chrono::milliseconds delay{0};
    bool drop = false;                // close without an answer
    bool drop_after = false;          // at dot: take the message, then close without an answer
};

// Rules in the words of the command line:
//   STAGE[:PATTERN][%PERCENT]=ACTION, where ACTION is a reply ("450 4.2.0 busy"), "drop", "drop-after" or "delay MS".
Result<Rule> parse_rule(std::string_view text);

// "*@slow.test" style, ASCII case ignored.
bool matches(std::string_view pattern, std::string_view address);

// The rules of one sink, decided by one seeded generator. One per thread.
class Script {
public:
    Script(std::vector<Rule> rules, std::uint64_t seed) : rules_(std::move(rules)), random_(seed) {}
    bool empty() const { return rules_.empty(); }
    // The first rule that applies here now; delays of all rules that apply add up in it.
    std::optional<Rule> decide(Stage stage, std::string_view address);

private:
    std::vector<Rule> rules_;
    Random random_;
};

}  // namespace sluice::peer
