#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/problem.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// A condition that was added while the engine runs. It overrides what the policy file says of the buckets of one policy. Value.
struct DynamicCondition {
    enum class Class : std::uint8_t { ordinary, warm_up, back_off };  // a later one comes first

    std::string id;  // names it for ever; another one with the same id replaces it
    Class kind = Class::ordinary;
    PolicyPtr policy;    // whose buckets it is about: `counts` finds it again in another file; its groups are those of `match`
    FieldTable fields;   // what the numbers of fields mean
    Match match;
    Limits limits;       // `stop` has no meaning: which policies count is the file's to say
    Duration ttl{0};     // from the moment at which it is set; 0: no end
    Instant since;       // newer ones come first
    std::optional<Instant> expires;
    std::string author, reason;
};

const char* name_of(DynamicCondition::Class kind);  // "ordinary", "warm_up", "back_off"

// Of two that concern the same bucket the first counts: by class, then by the number of fields that it names, then the newer.
bool comes_before(const DynamicCondition& a, const DynamicCondition& b);
// Both are of one class and concern the same buckets: to say a thing twice is to say it once.
bool says_the_same(const DynamicCondition& a, const DynamicCondition& b);

// One value of a field, or a group of its roll-up.
struct BoundValue {
    std::string text;
    std::uint32_t group = Matcher::nothing;
};
// The values, by place in Policy::fields, of a condition that names exactly one for every field: it concerns one bucket. Nothing for others.
std::optional<std::vector<BoundValue>> only_bucket_of(const DynamicCondition& condition);

// The same condition for a policy that counts the same, whose fields may have other numbers.
DynamicCondition moved_to(const DynamicCondition& condition, const PolicyPtr& policy, const FieldTable& fields);

// What a person or program asks for, a map in JSON or YAML: `if`, `then`, and where need be `policy` or `fields` to say which policy of the
// set is meant; id, class, ttl, author and reason. Nothing exactly when a problem is an error.
std::optional<DynamicCondition> parse_condition(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems);

// All of a condition as one line of JSON that needs no policy file to be understood; and back.
std::string record_of(const DynamicCondition& condition);
std::optional<DynamicCondition> parse_condition_record(std::string_view text, const std::string& file, Problems& problems);

}  // namespace sluice::policy
