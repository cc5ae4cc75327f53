#pragma once

#include <re2/re2.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/observation.h"

namespace sluice::policy {

struct Policy;

// Which failures are meant: of everything that is given here one must hold. Immutable.
struct FailureMatch {
    struct Codes {
        std::uint16_t from = 0, to = 0;  // both belong to it
    };
    std::vector<Codes> codes;
    std::vector<std::string> statuses;  // "4.7.28"; one that ends in a dot stands for all below
    std::vector<std::shared_ptr<const RE2>> texts;
    std::uint32_t stages = 0, failures = 0;  // sets of bits; empty: all
    std::vector<Errc> errors;
    bool any_error = false;  // every failure without a reply

    bool holds(const Observation& observation) const;
};

enum class Treatment : std::uint8_t { usual, deferral, bounce };

// Afterwards the limits double `steps` times, each for `every`, before they are lifted. Value.
struct Recovery {
    std::uint32_t steps = 0;
    Duration every{0};
};

// How the engine reacts to failures by itself. Immutable.
struct Rule {
    std::string name;
    int line = 0;
    FailureMatch failure;
    Match match;                            // of fields as they are
    Match key_match;                        // of fields of `counted`, which knows groups
    std::shared_ptr<const Policy> counted;  // every bucket of it is counted for itself; null: only `treatment` matters
    // The reaction comes with the `count`th failure within `window`, or of a row that no delivery interrupts.
    std::uint32_t count = 1;
    Duration window{0};  // 0: in a row

    // What happens.
    Treatment treatment = Treatment::usual;  // of every failure that matches, at once
    std::optional<Limits> limits;
    bool suspends = false;
    bool holds_mail = false;  // suspends until an operator resumes
    std::string notice;
    bool dry_run = false;     // is told, and nothing else
    Duration lasts{0};
    Recovery recovery;

    bool acts() const { return limits || suspends || holds_mail || !notice.empty(); }
    // "1 session, 1 per 60 s for 5400 s".
    std::string text() const;
};

// How fast new local addresses may be used: a quota for each day, for each of them and each receiver. Immutable.
struct WarmUp {
    std::string name;
    int line = 0;
    std::shared_ptr<const Policy> counted;  // by local address, those that warm up in groups of one; it holds the first day
    std::vector<std::uint32_t> days;        // messages
    std::uint32_t objections_max = 10;      // within the window, and it goes back a day; 0: never
    Duration window{3'600'000};
};

// The limits after so many doublings. From the first on mail goes out by its own transport again.
Limits relaxed(Limits limits, std::uint32_t steps);
// What holds where both do.
Limits tightened(Limits limits, const Limits& by);

// The rules in `rules: [default]`, as YAML.
std::string_view default_rules();

// Every text in the groups of the policy.
FieldTexts in_groups(const Policy& policy, const FieldTexts& texts);

// What the first rule that has an opinion wants a failure to be. `values`: fields as they are.
Treatment treatment_of(const std::vector<Rule>& rules, const Observation& observation, const FieldTexts& values);

}  // namespace sluice::policy
