#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "policy/dynamic.h"
#include "policy/policy_set.h"
#include "policy/rules.h"
#include "policy/suspension.h"

namespace sluice::policy {

// What the engine did by itself, for people. Value.
struct Reaction {
    std::string by;       // "rule google-unusual-rate", "warm-up new addresses"
    std::string concerns; // "localip 192.0.2.1, remotemx #google"
    std::string what;     // "10 per 60 s for 1800 s", "recovers: 20 per 60 s", "lifted"
    std::string because;  // the reply that led to it; empty when only time has passed
    std::string id;       // of the condition or suspension; empty: there is none
    bool begins = false;  // and is not only a step of something under way
};

// What is to be done now.
struct Reactions {
    std::vector<DynamicCondition> set;
    std::vector<std::string> removed;  // conditions, by id
    std::vector<Suspension> suspended;
    std::vector<Reaction> told;

    bool empty() const { return set.empty() && removed.empty() && suspended.empty() && told.empty(); }
};

// Counts failures and decides by the rules of the policy file what follows: conditions of the class back_off and suspensions. There is
// one condition for each bucket, which says what all rules that are in force there ask for together; it carries all that is needed to
// go on after a restart (see adopt()). Failures of the last minutes are forgotten then.
//
// Memory is bounded: what was not seen for longest is forgotten first. Deterministic. Owned by one thread.
class Reactor {
public:
    static constexpr std::size_t windows_max = 100'000;
    static constexpr std::size_t times_max = 1'000'000;  // of failures, in all windows
    static constexpr std::size_t targets_max = 20'000;   // buckets with a condition

    // Other rules from now on. What is under way goes on as the rule of the same name says now, or ends when there is none.
    void configure(PolicySetPtr set, Instant now, Reactions& reactions);
    bool has_rules() const { return set_ != nullptr && !set_->rules.empty(); }

    // A failure. `values`: fields as they are; rules that need others do not apply.
    void failed(const FieldTexts& values, const Observation& observation, Instant now, Reactions& reactions);
    // A delivery ends what is counted in a row.
    void delivered(const FieldTexts& values);
    bool counts_rows() const { return rows_ > 0; }

    // Time has passed: recoveries.
    void advance(Instant now, Reactions& reactions);
    Instant next() const { return due_.empty() ? Instant::max() : due_.begin()->first; }

    // A condition that was in force before a restart. False when it is none of ours.
    bool adopt(const DynamicCondition& condition, Instant now, Reactions& reactions);
    // An operator removed this condition or suspension: what led to it is over.
    void forget(const std::string& id);

    std::size_t windows() const { return windows_.size(); }
    std::size_t targets() const { return targets_.size(); }

    static constexpr const char* author = "rules";

private:
    struct Window {
        std::string key;
        std::vector<Instant> times;  // a ring once it is full; the oldest at `oldest`
        std::size_t oldest = 0;
        bool is_row = false;
    };
    using Windows = std::list<Window>;  // the one seen last comes first
    // A rule in force for one bucket.
    struct Active {
        std::string rule;
        std::uint32_t step = 0;
        Instant until;  // of the step
    };
    struct Target {
        PolicyPtr policy;
        Match match;
        std::vector<std::pair<Field, std::string>> values;
        std::vector<std::pair<Field, std::uint32_t>> groups;
        std::vector<Active> active;
        std::string concerns, because;
        Instant due;
    };
    using Targets = absl::flat_hash_map<std::string, Target>;

    const Rule* rule_named(const std::string& name) const;
    PolicyPtr policy_counting(const std::string& counts) const;
    bool counted(const std::string& key, const Rule& rule, Instant now);
    bool is_news(const std::string& id, Instant until, Duration rest);
    void erase(Windows::iterator window);
    void fire(const Rule& rule, const FieldTexts& grouped, const Observation& observation, const std::string& key, Instant now,
              Reactions& reactions);
    void begin_condition(const Rule& rule, const FieldTexts& grouped, const std::string& id, const Reaction& told, Instant now,
                         Reactions& reactions);
    bool step(Target& target, Instant now, Reactions& reactions, const std::string& id);
    void publish(const std::string& id, Target& target, Instant now, Reactions& reactions);
    void settle(const std::string& id, Target& target, Instant now, Reactions& reactions);
    void schedule(const std::string& id, Target& target);

    PolicySetPtr set_;
    Windows windows_;
    absl::flat_hash_map<std::string_view, Windows::iterator> by_key_;
    std::size_t times_ = 0;
    std::size_t rows_ = 0;  // windows that count in a row
    Targets targets_;
    absl::flat_hash_map<std::string, Instant> said_;  // suspensions and notices, until when they hold
    std::set<std::pair<Instant, std::string>> due_;
};

// Exactly this bucket: "localip 192.0.2.1, remotemx #google". `values` are those of the policy's groups. Nothing for values that no pattern
// names: what hosts are called is for their owners to say, who may well call one `*.example.org`.
std::optional<Match> match_of_bucket(const Policy& policy, const FieldTexts& values);
// The same for those who know no groups: their members stand in their place.
Match without_groups(const Policy& policy, Match match);
// Names a bucket for ever.
std::string bucket_id(std::string_view prefix, const Policy& policy, const FieldTexts& values);

}  // namespace sluice::policy
