#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/policy_set.h"
#include "yaml/reading.h"

namespace sluice::policy {

using yaml::shortened;

// A policy file while it is read. Inside this folder only.
class Reading : public yaml::Reading {
public:
    using yaml::Reading::Reading;

    Properties properties(const YAML::Node& node);
    std::optional<std::string> tag(const YAML::Node& node);
    // What names a condition or suspension: short, and printable as it is.
    std::optional<std::string> id(const YAML::Node& node);
    // Words for people.
    std::optional<std::string> remark(const YAML::Node& node, const std::string& what);
    // Milliseconds of engine time.
    std::optional<Instant> instant(const YAML::Node& node, const std::string& what);
    static constexpr Duration ttl_max{10LL * 366 * 86'400'000};
};

RateAlgorithm read_algorithm(Reading& reading, const YAML::Node& node);
// `algorithm` is that of rates which do not say; `inherited` what `inherit: true` takes over, null when there is nothing.
Limits read_limits(Reading& reading, const YAML::Node& node, RateAlgorithm algorithm, const Limits* inherited);
// Complains of limits that name a transport although buckets of the policy are known by what that decides.
void refuse_transport(Reading& reading, const YAML::Node& node, const Limits& limits, const Policy& policy);

// What patterns may refer to.
struct Vocabulary {
    FieldTable* fields = nullptr;  // notes and headers are added to it
    const Lists* lists = nullptr;
    const Grouping* grouping = nullptr;  // null: any `&id` may stand
    const Policy* policy = nullptr;  // whose roll-ups `#group` names, and whose fields alone may be asked for; null: any field
    std::vector<std::string> other_keys{};  // that may stand beside fields; for suggestions
};
std::optional<Field> read_field(Reading& reading, const YAML::Node& node, const std::string& name, FieldTable& fields,
                                std::vector<std::string> other_keys = {});
std::vector<Pattern> read_patterns(Reading& reading, const YAML::Node& node, Field field, const Vocabulary& words);
Match read_match(Reading& reading, const YAML::Node& node, const Vocabulary& words);
// The tests among the entries of a map that has other keys too.
Match read_tests(Reading& reading, const std::vector<Reading::Entry>& entries, const Vocabulary& words, int depth = 0);

// The part behind `rules`; policies and everything they refer to are known. `read_fields` reads a list of fields with groups.
using ReadFields = std::function<void(Policy&, const YAML::Node&)>;
using ReadPolicy = std::function<PolicyPtr(const YAML::Node&)>;
void read_warm_ups(Reading& reading, const YAML::Node& node, PolicySet& set, const ReadPolicy& read_policy);
void read_rules(Reading& reading, const YAML::Node& node, PolicySet& set, const Vocabulary& words, RateAlgorithm algorithm,
                const ReadFields& read_fields);
// A policy as the journal keeps it: fields with their groups, and one condition. Null, with a complaint, when it is something else.
PolicyPtr read_policy_record(Reading& reading, const YAML::Node& node, FieldTable& fields);

// Keys that `if` knows beside fields, and the fields; for suggestions.
std::vector<std::string> match_keys(const Vocabulary& words);

}  // namespace sluice::policy
