// policy.yaml

#include <algorithm>

#include "base/nearest.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

class PolicyReader {
public:
    PolicyReader(Reading& reading, PolicySet& set) : reading_(reading), set_(set) {
        words_.fields = &set.fields;
        words_.lists = &set.lists;
        words_.grouping = &set.grouping;
    }

    void read(const YAML::Node& document) {
        if (document.IsNull()) return;
        if (document.IsSequence()) return read_policies(document);
        const std::vector<Reading::Entry> entries =
            reading_.entries(document, "policy file", {"version", "rate", "weights", "lists", "grouping", "policies", "warm_up", "rules"});
        // Patterns refer to lists and groupings, wherever these stand.
        for (const char* const key : {"version", "rate", "weights", "lists", "grouping", "policies", "warm_up", "rules"}) {
            for (const Reading::Entry& entry : entries) {
                if (entry.key == key) read_part(entry);
            }
        }
    }

    // Without the file around it: any `&id` may stand.
    PolicyPtr read_record(const YAML::Node& node) {
        words_.grouping = nullptr;
        return read_policy(node);
    }

private:
    void read_part(const Reading::Entry& entry) {
        if (entry.key == "version") reading_.text(entry.value, "version");
        if (entry.key == "rate") {
            for (const Reading::Entry& setting : reading_.entries(entry.value, "rate", {"algorithm"})) {
                set_.algorithm = read_algorithm(reading_, setting.value);
            }
        }
        if (entry.key == "weights" && !entry.value.IsNull()) read_weights(entry.value);
        if (entry.key == "lists") read_lists(entry.value);
        if (entry.key == "grouping") read_grouping(entry.value);
        if (entry.key == "policies" && !entry.value.IsNull()) read_policies(entry.value);
        if (entry.key == "warm_up" && !entry.value.IsNull()) {
            read_warm_ups(reading_, entry.value, set_, [this](const YAML::Node& node) { return read_policy(node); });
        }
        if (entry.key != "rules" || entry.value.IsNull()) return;
        const auto fields = [this](Policy& policy, const YAML::Node& node) { read_fields(policy, node); };
        read_rules(reading_, entry.value, set_, words_, set_.algorithm, fields);
    }

    void read_weights(const YAML::Node& node) {
        constexpr std::uint64_t weight_max = 10'000;
        for (const Reading::Entry& entry : reading_.entries(node, "weights")) {
            const auto weight = reading_.count(entry.value, "weights", weight_max);
            if (weight == 0U) reading_.error(entry.value, "weights: expected at least 1");
            if (weight) set_.tenant_weights.emplace_back(entry.key, static_cast<std::uint32_t>(*weight));
        }
    }

    void read_lists(const YAML::Node& node) {
        for (const Reading::Entry& of_field : reading_.entries(node, "lists")) {
            const std::optional<Field> field = read_field(reading_, of_field.key_node, of_field.key, set_.fields);
            if (!field) continue;
            for (const Reading::Entry& list : reading_.entries(of_field.value, "lists: " + of_field.key)) {
                // A list may refer to those before it.
                set_.lists[{*field, list.key}] = read_patterns(reading_, list.value, *field, words_);
            }
        }
    }

    void read_grouping(const YAML::Node& node) {
        for (const Reading::Entry& entry : reading_.entries(node, "grouping", {"default", "groupings"})) {
            if (entry.key == "default") read_otherwise(entry.value);
            if (entry.key != "groupings") continue;
            for (const YAML::Node& one : reading_.sequence(entry.value, "groupings")) read_one_grouping(one);
        }
    }

    void read_otherwise(const YAML::Node& node) {
        const std::string word = node.IsScalar() ? node.Scalar() : "?";
        Grouping& grouping = set_.grouping;
        if (word == "remotemx") grouping.otherwise = Grouping::Otherwise::remotemx;
        else if (word == "recipientdomain") grouping.otherwise = Grouping::Otherwise::recipientdomain;
        else if (!word.empty()) reading_.error(node, "grouping: expected remotemx, recipientdomain or \"\" as default", nearest(word, {"remotemx", "recipientdomain"}));
    }

    void read_one_grouping(const YAML::Node& node) {
        const std::vector<Reading::Entry> entries = reading_.entries(node, "grouping", {"id", "remotemx", "remoteip", "recipientdomain"});
        reading_.expect(node, entries, "id", "grouping");
        Grouping& grouping = set_.grouping;
        const auto number = static_cast<std::uint32_t>(grouping.ids.size());
        std::string id;
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "id") {
                id = reading_.text(entry.value, "id").value_or("");
                if (id.empty()) reading_.error(entry.value, "grouping: expected an id");
                continue;
            }
            Matcher& matcher = entry.key == "remotemx"   ? grouping.remotemx
                               : entry.key == "remoteip" ? grouping.remoteip
                                                         : grouping.recipientdomain;
            const Field field = *set_.fields.find(entry.key);
            for (const Pattern& pattern : read_patterns(reading_, entry.value, field, words_)) matcher.add(pattern, number);
        }
        if (std::find(grouping.ids.begin(), grouping.ids.end(), "&" + id) != grouping.ids.end()) {
            reading_.error(node, "grouping: there are two with the id `" + shortened(id) + "`");
        }
        if (entries.size() < 2) reading_.error(node, "grouping: expected remotemx, remoteip or recipientdomain");
        grouping.ids.push_back("&" + id);
    }

    void read_policies(const YAML::Node& node) {
        for (const YAML::Node& entry : reading_.sequence(node, "policies")) {
            set_.policies.push_back(read_policy(entry));
            const Policy& policy = *set_.policies.back();
            const auto adapts = [](const Condition& condition) { return condition.limits.adaptive.any(); };
            set_.adapts = set_.adapts || (policy.fallback && policy.fallback->adaptive.any()) ||
                          std::any_of(policy.conditions.begin(), policy.conditions.end(), adapts);
        }
    }

    PolicyPtr read_policy(const YAML::Node& node) {
        auto policy = std::make_shared<Policy>();
        policy->line = node.Mark().line + 1;
        const std::vector<Reading::Entry> entries = reading_.entries(node, "policy", {"name", "fields", "conditions", "default"});
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "name") policy->name = reading_.text(entry.value, "name").value_or("");
            if (entry.key == "fields" && !entry.value.IsNull()) read_fields(*policy, entry.value);
        }
        if (policy->name.empty()) policy->name = usual_name(*policy);
        for (const Reading::Entry& entry : entries) {
            if (entry.key != "default") continue;
            policy->fallback = read_limits(reading_, entry.value, set_.algorithm, nullptr);
            refuse_transport(reading_, entry.value, *policy->fallback, *policy);
        }
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "conditions" && !entry.value.IsNull()) read_conditions(*policy, entry.value);
        }
        return policy;
    }

    struct FieldOfPolicy {
        Field field;
        std::shared_ptr<const RollUp> roll_up;
    };

    void read_fields(Policy& policy, const YAML::Node& node) {
        std::vector<FieldOfPolicy> fields;
        for (const YAML::Node& entry : reading_.sequence(node, "fields")) {
            const std::optional<FieldOfPolicy> field = read_policy_field(entry);
            if (!field) continue;
            if (policy.field_set.has(field->field)) {
                reading_.error(entry, "fields: `" + set_.fields.name_of(field->field) + "` stands here twice");
                continue;
            }
            policy.field_set.add(field->field);
            fields.push_back(*field);
        }
        if (fields.size() > key_fields_max) {
            reading_.error(node, "fields: expected at most " + std::to_string(key_fields_max));
        }
        std::sort(fields.begin(), fields.end(), [](const FieldOfPolicy& a, const FieldOfPolicy& b) { return a.field < b.field; });
        for (FieldOfPolicy& field : fields) {
            policy.fields.push_back(field.field);
            policy.counts += set_.fields.name_of(field.field) + counted_text(field.roll_up.get()) + "\n";
            if (field.roll_up != nullptr) policy.has_roll_ups = true;
            policy.roll_ups.push_back(std::move(field.roll_up));
        }
        if (policy.field_set.has(Field::grouping) && set_.grouping.ids.empty() && set_.grouping.otherwise == Grouping::Otherwise::empty) {
            reading_.warning(node, "fields: grouping is empty for all mail, because `grouping` is not configured");
        }
    }

    std::optional<FieldOfPolicy> read_policy_field(const YAML::Node& node) {
        if (node.IsScalar()) {
            const std::optional<Field> field = read_field(reading_, node, node.Scalar(), set_.fields);
            return field ? std::optional(FieldOfPolicy{*field, nullptr}) : std::nullopt;
        }
        const std::vector<Reading::Entry> entries = reading_.entries(node, "fields");
        if (entries.size() != 1) {
            if (node.IsMap()) reading_.error(node, "fields: expected one field with its groups in each entry of the list");
            return std::nullopt;
        }
        const std::optional<Field> field = read_field(reading_, entries[0].key_node, entries[0].key, set_.fields);
        if (!field) return std::nullopt;
        return FieldOfPolicy{*field, read_roll_up(*field, entries[0].value)};
    }

    std::shared_ptr<const RollUp> read_roll_up(Field field, const YAML::Node& node) {
        auto roll_up = std::make_shared<RollUp>();
        for (const Reading::Entry& entry : reading_.entries(node, "groups of " + set_.fields.name_of(field))) {
            Group group{entry.key, read_patterns(reading_, entry.value, field, words_), entry.key_node.Mark().line + 1};
            if (group.patterns.empty() && !reading_.failed()) reading_.error(entry.value, "group `" + shortened(entry.key) + "`: expected at least one pattern");
            const auto number = static_cast<std::uint32_t>(roll_up->groups.size());
            for (const Pattern& pattern : group.patterns) roll_up->matcher.add(pattern, number);
            roll_up->groups.push_back(std::move(group));
        }
        return roll_up->groups.empty() ? nullptr : roll_up;
    }

    static std::string counted_text(const RollUp* roll_up) {
        std::string text;
        if (roll_up == nullptr) return text;
        for (const Group& group : roll_up->groups) {
            text += "\n #" + group.name + ":";
            for (const Pattern& pattern : group.patterns) text += "\n  " + pattern.shown();
        }
        return text;
    }

    std::string usual_name(const Policy& policy) const {
        std::string fields;
        for (const Field field : policy.fields) fields += (fields.empty() ? "" : ", ") + set_.fields.name_of(field);
        return "policy " + std::to_string(set_.policies.size() + 1) + " (" + (fields.empty() ? "everything" : fields) + ")";
    }

    void read_conditions(Policy& policy, const YAML::Node& node) {
        words_.policy = &policy;
        for (const YAML::Node& entry : reading_.sequence(node, "conditions")) {
            const std::vector<Reading::Entry> entries = reading_.entries(entry, "condition", {"if", "then"});
            reading_.expect(entry, entries, "if", "condition");
            reading_.expect(entry, entries, "then", "condition");
            Condition condition;
            condition.line = entry.Mark().line + 1;
            for (const Reading::Entry& part : entries) {
                if (part.key == "if") condition.match = read_match(reading_, part.value, words_);
                if (part.key != "then") continue;
                condition.limits = read_limits(reading_, part.value, set_.algorithm, policy.fallback ? &*policy.fallback : nullptr);
                refuse_transport(reading_, part.value, condition.limits, policy);
            }
            policy.conditions.push_back(std::move(condition));
        }
        words_.policy = nullptr;
    }

    Reading& reading_;
    PolicySet& set_;
    Vocabulary words_;
};

}  // namespace

PolicyPtr read_policy_record(Reading& reading, const YAML::Node& node, FieldTable& fields) {
    PolicySet set;
    PolicyPtr policy = PolicyReader(reading, set).read_record(node);
    fields = set.fields;
    if (reading.failed()) return nullptr;
    if (policy->conditions.size() == 1) return policy;
    reading.error(node, "policy: expected one condition");
    return nullptr;
}

PolicySetPtr parse_policies(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    auto set = std::make_shared<PolicySet>();
    set->text = text;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) PolicyReader(reading, *set).read(document);
    if (reading.failed()) return nullptr;
    return set;
}

}  // namespace sluice::policy
