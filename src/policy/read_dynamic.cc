// Conditions that are added while the engine runs: what a request says, and what the journal keeps.

#include <algorithm>

#include "base/nearest.h"
#include "policy/dynamic.h"
#include "policy/reading.h"
#include "policy/record.h"

namespace sluice::policy {
namespace {

using Class = DynamicCondition::Class;
constexpr Class classes[] = {Class::ordinary, Class::warm_up, Class::back_off};

std::string names_of(FieldSet set, const FieldTable& fields) {
    std::string names;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        if (set.has(static_cast<Field>(i))) names += (names.empty() ? "" : ", ") + fields.name_of(static_cast<Field>(i));
    }
    return names.empty() ? "nothing" : names;
}

class ConditionReader {
public:
    explicit ConditionReader(Reading& reading) : reading_(reading) {}

    DynamicCondition read_request(const YAML::Node& node, const PolicySet& set) {
        const std::vector<Reading::Entry> entries =
            reading_.entries(node, "condition", {"id", "class", "policy", "fields", "if", "then", "ttl", "author", "reason"});
        reading_.expect(node, entries, "then", "condition");
        condition_.fields = set.fields;
        condition_.policy = policy_of(node, entries, set);
        for (const Reading::Entry& entry : entries) {
            read_remark(entry);
            if (entry.key == "then") read_then(entry, set.algorithm);
            if (entry.key == "if" && condition_.policy != nullptr) {
                Vocabulary words{&condition_.fields, &set.lists, &set.grouping, condition_.policy.get()};
                condition_.match = read_match(reading_, entry.value, words);
            }
        }
        return std::move(condition_);
    }

    DynamicCondition read_record(const YAML::Node& node) {
        const std::vector<Reading::Entry> entries =
            reading_.entries(node, "condition", {"id", "class", "policy", "author", "reason", "ttl", "since", "expires"});
        for (const char* const key : {"id", "policy"}) reading_.expect(node, entries, key, "condition");
        for (const Reading::Entry& entry : entries) {
            read_remark(entry);
            if (entry.key == "since") condition_.since = reading_.instant(entry.value, "since").value_or(Instant());
            if (entry.key == "expires") condition_.expires = reading_.instant(entry.value, "expires");
            if (entry.key != "policy") continue;
            condition_.policy = read_policy_record(reading_, entry.value, condition_.fields);
            if (condition_.policy == nullptr) continue;
            condition_.match = condition_.policy->conditions[0].match;
            condition_.limits = condition_.policy->conditions[0].limits;
        }
        return std::move(condition_);
    }

private:
    void read_remark(const Reading::Entry& entry) {
        if (entry.key == "id") condition_.id = reading_.id(entry.value).value_or("");
        if (entry.key == "author") condition_.author = reading_.remark(entry.value, "author").value_or("");
        if (entry.key == "reason") condition_.reason = reading_.remark(entry.value, "reason").value_or("");
        if (entry.key == "ttl") condition_.ttl = reading_.seconds(entry.value, "ttl", Reading::ttl_max).value_or(Duration(0));
        if (entry.key == "class") read_class(entry.value);
    }

    void read_class(const YAML::Node& node) {
        const std::string word = node.IsScalar() ? node.Scalar() : "";
        std::vector<std::string> names;
        for (const Class kind : classes) {
            names.emplace_back(name_of(kind));
            if (word == names.back()) condition_.kind = kind;
        }
        if (word != name_of(condition_.kind)) reading_.error(node, "class: expected ordinary, warm_up or back_off", nearest(word, names));
    }

    void read_then(const Reading::Entry& entry, RateAlgorithm algorithm) {
        condition_.limits = read_limits(reading_, entry.value, algorithm, nullptr);
        if (condition_.policy != nullptr) refuse_transport(reading_, entry.value, condition_.limits, *condition_.policy);
        if (condition_.limits.stop) reading_.error(entry.value, "stop: which policies count is for the policy file to say");
    }

    // The one that is named, or counts by just these fields, or else is the only one that has all fields of `if`.
    PolicyPtr policy_of(const YAML::Node& node, const std::vector<Reading::Entry>& entries, const PolicySet& set) {
        std::optional<std::string> name;
        std::optional<FieldSet> exactly;
        FieldSet asked;
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "policy") name = reading_.text(entry.value, "policy");
            if (entry.key == "fields") exactly = read_fields(entry.value);
            if (entry.key == "if" && entry.value.IsMap()) {
                // `not` and `any` ask for fields too; those are for the reader of the match to judge.
                for (const Reading::Entry& test : reading_.entries(entry.value, "if")) {
                    if (test.key == "not" || test.key == "any") continue;
                    if (const std::optional<Field> field = read_field(reading_, test.key_node, test.key, condition_.fields)) asked.add(*field);
                }
            }
        }
        if (reading_.failed()) return nullptr;
        if (name) return named(node, *name, set);
        return by_fields(node, exactly, asked, set);
    }

    PolicyPtr named(const YAML::Node& node, const std::string& name, const PolicySet& set) {
        std::vector<std::string> names;
        for (const PolicyPtr& policy : set.policies) {
            if (policy->name == name) return policy;
            names.push_back(policy->name);
        }
        reading_.error(node, "policy: policy.yaml has none called `" + shortened(name) + "`", nearest(name, names));
        return nullptr;
    }

    FieldSet read_fields(const YAML::Node& node) {
        FieldSet set;
        for (const YAML::Node& entry : reading_.one_or_more(node)) {
            const std::string name = reading_.text(entry, "fields").value_or("");
            if (const std::optional<Field> field = read_field(reading_, entry, name, condition_.fields)) set.add(*field);
        }
        return set;
    }

    PolicyPtr by_fields(const YAML::Node& node, std::optional<FieldSet> exactly, FieldSet asked, const PolicySet& set) {
        std::vector<PolicyPtr> same, wider;
        for (const PolicyPtr& policy : set.policies) {
            if (policy->field_set == exactly.value_or(asked)) same.push_back(policy);
            else if (!exactly && policy->field_set.includes(asked)) wider.push_back(policy);
        }
        const std::vector<PolicyPtr>& found = same.empty() ? wider : same;
        if (found.size() == 1) return found.front();
        const std::string fields = names_of(exactly.value_or(asked), condition_.fields);
        if (found.empty()) {
            reading_.error(node, "fields: no policy of policy.yaml counts by " + fields + "; a condition overrides the limits of a policy that is there");
            return nullptr;
        }
        std::string names;
        for (const PolicyPtr& policy : found) names += (names.empty() ? "" : ", ") + ("`" + policy->name + "`");
        reading_.error(node, "policy: several policies count by " + fields + ", so say which: " + names);
        return nullptr;
    }

    Reading& reading_;
    DynamicCondition condition_;
};

}  // namespace

std::optional<DynamicCondition> parse_condition(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems) {
    Reading reading(file, problems);
    DynamicCondition condition;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) condition = ConditionReader(reading).read_request(document, set);
    return reading.failed() ? std::nullopt : std::optional(std::move(condition));
}

std::string record_of(const DynamicCondition& condition) {
    Record one;
    one.plain("if", Record().tests(condition.match, condition.fields).take()).plain("then", record_of(condition.limits));
    Record policy;
    policy.plain("fields", fields_record(*condition.policy, condition.fields)).plain("conditions", "[" + one.take() + "]");
    Record record;
    record.text("id", condition.id).text("class", name_of(condition.kind)).plain("policy", policy.take());
    if (condition.ttl.count() > 0) record.seconds("ttl", condition.ttl);
    record.number("since", static_cast<std::uint64_t>(to_ms(condition.since)));
    if (condition.expires) record.number("expires", static_cast<std::uint64_t>(to_ms(*condition.expires)));
    return record.text_if("author", condition.author).text_if("reason", condition.reason).take();
}

std::optional<DynamicCondition> parse_condition_record(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    DynamicCondition condition;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) condition = ConditionReader(reading).read_record(document);
    return reading.failed() ? std::nullopt : std::optional(std::move(condition));
}

}  // namespace sluice::policy
