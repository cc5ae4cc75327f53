#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// A policy file while it is read: every complaint has a line, and all of them are gathered. Inside this folder only.
class Reading {
public:
    Reading(std::string file, Problems& problems) : file_(std::move(file)), problems_(problems) {}

    struct Entry {
        std::string key;
        YAML::Node key_node, value;
    };
    using Sequence = std::vector<YAML::Node>;

    // The document; a null node when it is empty or, with a complaint, when it is not YAML.
    YAML::Node load(std::string_view text);

    void error(const YAML::Node& at, std::string message, std::string suggestion = {});
    void warning(const YAML::Node& at, std::string message, std::string suggestion = {});
    bool failed() const { return failed_; }

    // The entries of a map, those of unknown keys left out with a complaint, those that begin with `x-` without. `what` names the
    // map in complaints.
    std::vector<Entry> entries(const YAML::Node& map, const std::string& what, const std::vector<std::string>& known);
    // The entries of a map whose keys anybody may choose.
    std::vector<Entry> entries(const YAML::Node& map, const std::string& what);
    Sequence sequence(const YAML::Node& node, const std::string& what);
    // A list, or one value as a list of one.
    Sequence one_or_more(const YAML::Node& node);

    // Values; nothing, with a complaint, when they are something else.
    std::optional<std::string> text(const YAML::Node& node, const std::string& what);
    std::optional<bool> boolean(const YAML::Node& node, const std::string& what);
    std::optional<std::uint64_t> count(const YAML::Node& node, const std::string& what, std::uint64_t max);
    // Seconds, with a fraction if need be.
    std::optional<Duration> seconds(const YAML::Node& node, const std::string& what, Duration max);
    Properties properties(const YAML::Node& node);
    std::optional<std::string> tag(const YAML::Node& node);
    // What names a condition or suspension: short, and printable as it is.
    std::optional<std::string> id(const YAML::Node& node);
    // Words for people.
    std::optional<std::string> remark(const YAML::Node& node, const std::string& what);
    // Milliseconds of engine time.
    std::optional<Instant> instant(const YAML::Node& node, const std::string& what);
    static constexpr Duration ttl_max{10LL * 366 * 86'400'000};

    // The keys of a map called `what` with one of `names` must exist.
    void expect(const YAML::Node& map, const std::vector<Entry>& entries, const char* key, const std::string& what);

private:
    bool within_budget(const YAML::Node& node);

    std::string file_;
    Problems& problems_;
    bool failed_ = false;
    std::size_t nodes_ = 0;
};

RateAlgorithm read_algorithm(Reading& reading, const YAML::Node& node);
// `algorithm` is that of rates which do not say; `inherited` what `inherit: true` takes over, null when there is nothing.
Limits read_limits(Reading& reading, const YAML::Node& node, RateAlgorithm algorithm, const Limits* inherited);

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

std::string shortened(std::string_view text);

}  // namespace sluice::policy
