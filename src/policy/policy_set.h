#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/problem.h"
#include "policy/field.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/pattern.h"
#include "policy/rules.h"

namespace sluice::policy {

// A bucket's name has at most so many values.
inline constexpr std::size_t key_fields_max = 8;

// Values that count as one: `gsuite: ['*.google.com', ...]`. Immutable.
struct Group {
    std::string name;
    std::vector<Pattern> patterns;
    int line = 0;
};

// The groups of one field of one policy; a value in none of them stands for itself. Immutable.
struct RollUp {
    std::vector<Group> groups;
    Matcher matcher;

    // The number of the group, or Matcher::nothing.
    std::uint32_t group_of(std::string_view text) const { return matcher.match(text); }
};

// What a bucket may do when its values match. Immutable.
struct Condition {
    Match match;
    Limits limits;
    int line = 0;
};

// One kind of counter: every combination of values of `fields` has a bucket of its own, and the first condition that matches the
// values, or else `fallback`, says what the bucket allows. No fields: one bucket for the engine. Immutable.
struct Policy {
    std::string name;                                // for people
    int line = 0;
    std::vector<Field> fields;                       // in the order of their numbers
    std::vector<std::shared_ptr<const RollUp>> roll_ups;  // by place in `fields`; null: values stand for themselves
    std::vector<Condition> conditions;
    std::optional<Limits> fallback;                  // `default`
    FieldSet field_set;
    bool has_roll_ups = false;
    std::string counts;  // what is counted, without the limits: policies with equal texts keep each other's buckets

    // The limits of a bucket; all of its fields are known. Nothing matches: no limit.
    const Limits& limits_of(const FieldTexts& texts) const;
    // The name of a group by its number, with its sign: "#gsuite".
    std::string group_text(std::size_t place, std::uint32_t group) const { return "#" + roll_ups[place]->groups[group].name; }
};
using PolicyPtr = std::shared_ptr<const Policy>;
// A policy as code makes it: no conditions.
PolicyPtr plain_policy(std::string name, FieldSet fields, Limits limits);

extern const Limits no_limits;

// Named alternatives for patterns of one field: `@id`. Immutable.
using Lists = std::map<std::pair<Field, std::string>, std::vector<Pattern>>;

// What the field `grouping` of a candidate is: the first grouping that one of its values belongs to, as `&id`, or else a value of its own.
// Immutable.
struct Grouping {
    enum class Otherwise : std::uint8_t { empty, remotemx, recipientdomain };
    std::vector<std::string> ids;  // with their sign
    Matcher remotemx, remoteip, recipientdomain;
    Otherwise otherwise = Otherwise::empty;

    // Borrows from the arguments and from this.
    std::string_view of(std::string_view mx, std::string_view ip, std::string_view domain) const;
};

// All of policy.yaml. Immutable; shared by whoever uses it.
class PolicySet {
public:
    FieldTable fields;
    Lists lists;
    Grouping grouping;
    std::vector<PolicyPtr> policies;  // in the order of the file, then those that only rules count by
    std::vector<Rule> rules;          // in the order of the file
    std::vector<std::shared_ptr<const WarmUp>> warm_ups;
    bool adapts = false;              // some limits move with the outcomes
    bool treats = false;              // some rule has another opinion of replies
    RateAlgorithm algorithm = RateAlgorithm::token_bucket;  // of rates that do not say
    std::vector<std::pair<std::string, std::uint32_t>> tenant_weights;  // shares of a full bucket; other tenants have 1
    std::string text;                 // the file, to tell whether it changed

    // Somebody reacts to what hosts say.
    bool watches_failures() const { return !rules.empty() || adapts || !warm_ups.empty(); }
    // All fields that some policy counts by, and those that rules ask for.
    FieldSet used_fields() const;
};
using PolicySetPtr = std::shared_ptr<const PolicySet>;
// A set as code makes it.
PolicySetPtr plain_set(std::vector<PolicyPtr> policies);

// Reads policy.yaml in either form, a bare list of policies or a map with `policies`. `file` is how problems call it. Null exactly
// when a problem is an error; an empty text is a set without policies.
PolicySetPtr parse_policies(std::string_view text, const std::string& file, Problems& problems);

}  // namespace sluice::policy
