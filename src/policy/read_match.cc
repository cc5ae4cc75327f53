// The part of a condition behind `if`, and what stands there.

#include <algorithm>

#include "base/nearest.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr int depth_max = 8;

std::string list_names(const Lists& lists, Field field, std::vector<std::string>& names) {
    std::string all;
    for (const auto& [key, patterns] : lists) {
        if (key.first != field) continue;
        names.push_back("@" + key.second);
        all += (all.empty() ? "" : ", ") + names.back();
    }
    return all;
}

class PatternReader {
public:
    PatternReader(Reading& reading, Field field, const Vocabulary& words)
        : reading_(reading), words_(words), field_(field), name_(words.fields->name_of(field)), roll_up_(roll_up_of(field)) {}

    void read(const YAML::Node& node) {
        const std::optional<std::string> text = reading_.text(node, name_);
        if (!text) return;
        if (text->starts_with('#')) return read_group(node, text->substr(1));
        if (text->starts_with('@')) return read_list(node, *text);
        if (text->starts_with('&')) return read_grouping(node, *text);
        Result<Pattern> pattern = Pattern::parse(type_of(field_), *text);
        if (!pattern) {
            return reading_.error(node, name_ + ": " + pattern.error().detail + ", found `" + shortened(*text) + "`");
        }
        test.patterns.push_back(std::move(*pattern));
    }

    // The groups whose buckets the patterns mean: those named, and those a member of which is named.
    void settle() {
        auto matcher = std::make_shared<Matcher>();
        for (const Pattern& pattern : test.patterns) matcher->add(pattern, 0);
        test.matcher = std::move(matcher);
        if (roll_up_ != nullptr) add_groups_of_members();
        std::sort(test.groups.begin(), test.groups.end());
        test.groups.erase(std::unique(test.groups.begin(), test.groups.end()), test.groups.end());
    }

    Test test;

private:
    const RollUp* roll_up_of(Field field) const {
        if (words_.policy == nullptr) return nullptr;
        const std::vector<Field>& fields = words_.policy->fields;
        const auto found = std::find(fields.begin(), fields.end(), field);
        if (found == fields.end()) return nullptr;
        return words_.policy->roll_ups[static_cast<std::size_t>(found - fields.begin())].get();
    }

    void read_group(const YAML::Node& node, const std::string& name) {
        std::vector<std::string> names;
        if (roll_up_ != nullptr) {
            for (std::uint32_t group = 0; group < roll_up_->groups.size(); ++group) {
                names.push_back("#" + roll_up_->groups[group].name);
                if (roll_up_->groups[group].name != name) continue;
                test.groups.push_back(group);
                test.group_names.push_back(name);
                return;
            }
        }
        if (words_.policy == nullptr) {
            return reading_.error(node, name_ + ": `#" + shortened(name) + "` names a group of one policy; here only its patterns can stand");
        }
        reading_.error(node, name_ + ": this policy has no group `#" + shortened(name) + "` for " + name_, nearest("#" + name, names));
    }

    void read_list(const YAML::Node& node, const std::string& sign) {
        const auto found = words_.lists->find({field_, sign.substr(1)});
        if (found != words_.lists->end()) {
            test.patterns.insert(test.patterns.end(), found->second.begin(), found->second.end());
            return;
        }
        std::vector<std::string> names;
        const std::string all = list_names(*words_.lists, field_, names);
        reading_.error(node, name_ + ": `lists` has no `" + shortened(sign) + "` for " + name_ + (all.empty() ? "" : "; there is " + all),
                       nearest(sign, names));
    }

    void read_grouping(const YAML::Node& node, const std::string& sign) {
        if (field_ != Field::grouping) {
            return reading_.error(node, name_ + ": `" + shortened(sign) + "` is a value of the field grouping");
        }
        static const std::vector<std::string> unknown;
        const std::vector<std::string>& ids = words_.grouping != nullptr ? words_.grouping->ids : unknown;
        if (words_.grouping != nullptr && std::find(ids.begin(), ids.end(), sign) == ids.end()) {
            return reading_.error(node, name_ + ": `grouping` has no id `" + shortened(sign.substr(1)) + "`", nearest(sign, ids));
        }
        Pattern pattern;
        pattern.text = sign;
        test.patterns.push_back(std::move(pattern));
    }

    void add_groups_of_members() {
        for (const Pattern& pattern : test.patterns) {
            if (pattern.kind == Pattern::Kind::literal) {
                const std::uint32_t group = roll_up_->group_of(pattern.text);
                if (group != Matcher::nothing) test.groups.push_back(group);
                continue;
            }
            for (std::uint32_t group = 0; group < roll_up_->groups.size(); ++group) {
                const std::vector<Pattern>& members = roll_up_->groups[group].patterns;
                const bool meets = std::any_of(members.begin(), members.end(), [&](const Pattern& p) { return p.meets(pattern); });
                if (meets) test.groups.push_back(group);
            }
        }
    }

    Reading& reading_;
    const Vocabulary& words_;
    Field field_;
    std::string name_;
    const RollUp* roll_up_;
};

std::vector<Match> read_matches(Reading& reading, const YAML::Node& node, const Vocabulary& words, int depth) {
    std::vector<Match> matches;
    for (const YAML::Node& entry : reading.one_or_more(node)) {
        Match match = read_tests(reading, reading.entries(entry, "if"), words, depth);
        if (match.is_empty() && !reading.failed()) reading.error(entry, "if: `not` and `any` expect fields");
        matches.push_back(std::move(match));
    }
    return matches;
}

}  // namespace

std::vector<std::string> match_keys(const Vocabulary& words) {
    std::vector<std::string> keys;
    if (words.policy == nullptr) {
        keys = FieldTable::names();
    } else {
        for (const Field field : words.policy->fields) keys.push_back(words.fields->name_of(field));
    }
    keys.emplace_back("not");
    keys.emplace_back("any");
    return keys;
}

std::optional<Field> read_field(Reading& reading, const YAML::Node& node, const std::string& name, FieldTable& fields,
                                std::vector<std::string> other_keys) {
    if (const std::optional<Field> field = fields.add(name)) return field;
    if (fields.size() == field_max && name.find('.') != std::string::npos) {
        reading.error(node, "expected at most " + std::to_string(field_max - named_field_count) + " notes and headers in all");
        return std::nullopt;
    }
    for (std::string& known : FieldTable::names()) other_keys.push_back(std::move(known));
    reading.error(node, "`" + shortened(name) + "` is no field; there are also notes.KEY and header.NAME", nearest(name, other_keys));
    return std::nullopt;
}

std::vector<Pattern> read_patterns(Reading& reading, const YAML::Node& node, Field field, const Vocabulary& words) {
    PatternReader reader(reading, field, words);
    for (const YAML::Node& entry : reading.one_or_more(node)) reader.read(entry);
    return std::move(reader.test.patterns);
}

Match read_match(Reading& reading, const YAML::Node& node, const Vocabulary& words) {
    return read_tests(reading, reading.entries(node, "if"), words);
}

Match read_tests(Reading& reading, const std::vector<Reading::Entry>& entries, const Vocabulary& words, int depth) {
    Match match;
    for (const Reading::Entry& entry : entries) {
        if (entry.key == "not" || entry.key == "any") {
            if (depth == depth_max) {
                reading.error(entry.key_node, "if: nested too deeply");
                continue;
            }
            std::vector<Match>& into = entry.key == "not" ? match.none : match.any;
            into = read_matches(reading, entry.value, words, depth + 1);
            if (into.empty()) reading.error(entry.key_node, "if: `" + entry.key + "` expects at least one map of fields");
            continue;
        }
        std::optional<Field> field = words.policy == nullptr ? read_field(reading, entry.key_node, entry.key, *words.fields, words.other_keys)
                                                             : words.fields->find(entry.key);
        if (words.policy != nullptr && (!field || !words.policy->field_set.has(*field))) {
            const std::vector<std::string> keys = match_keys(words);
            reading.error(entry.key_node, "if: `" + shortened(entry.key) + "` is not among the fields of this policy", nearest(entry.key, keys));
            continue;
        }
        if (!field) continue;
        PatternReader reader(reading, *field, words);
        reader.test.field = *field;
        const Reading::Sequence values = reading.one_or_more(entry.value);
        if (values.empty()) reading.error(entry.value, "if: " + shortened(entry.key) + ": expected at least one value");
        for (const YAML::Node& value : values) reader.read(value);
        reader.settle();
        match.all.push_back(std::move(reader.test));
    }
    return match;
}

}  // namespace sluice::policy
