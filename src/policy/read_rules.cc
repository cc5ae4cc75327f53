// The part of policy.yaml behind `rules`.

#include <algorithm>
#include <array>

#include "base/nearest.h"
#include "base/text.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr Duration period_max{366LL * 86'400'000};
constexpr std::uint64_t threshold_max = 10'000;
constexpr std::uint64_t steps_max = 20;
constexpr std::size_t rules_max = 1'000;
constexpr std::size_t name_max = 64;
const std::vector<std::string> failure_keys{"reply", "status", "text", "stage", "class", "error"};
const std::vector<std::string> limit_keys{"concurrency", "rate", "connectinterval", "messages_per_connection", "bytes_per_second", "transport", "tag"};
const std::vector<std::string> action_keys{"suspend", "hold", "treat", "notify"};

// Errors that a rule may be about, all of them of a link.
constexpr std::array link_errors{Errc::timed_out, Errc::refused,    Errc::unreachable, Errc::link_closed,
                                 Errc::bad_reply, Errc::tls_failed, Errc::auth_unavailable};

class RuleReader {
public:
    // The first `of_file` policies are those that the file names.
    RuleReader(Reading& reading, PolicySet& set, const Vocabulary& words, RateAlgorithm algorithm, const ReadFields& read_fields,
               std::size_t of_file)
        : reading_(reading), set_(set), words_(words), algorithm_(algorithm), read_fields_(read_fields), of_file_(of_file) {}

    void read(const YAML::Node& node) {
        const Reading::Sequence list = node.IsScalar() ? reading_.one_or_more(node) : reading_.sequence(node, "rules");
        for (const YAML::Node& entry : list) {
            if (set_.rules.size() >= rules_max) return reading_.error(entry, "rules: expected at most " + std::to_string(rules_max));
            if (entry.IsScalar()) read_named_set(entry);
            else read_rule(entry);
        }
    }

private:
    void read_named_set(const YAML::Node& node) {
        if (node.Scalar() != "default") {
            return reading_.error(node, "rules: expected a map, or `default` for the rules that come with the engine, found `" +
                                            shortened(node.Scalar()) + "`", nearest(node.Scalar(), {"default"}));
        }
        // Their lines are not those of this file: a complaint about them is one about this word.
        Problems problems;
        Reading inner("default rules", problems);
        RuleReader(inner, set_, words_, RateAlgorithm::token_bucket, read_fields_, of_file_).read(inner.load(default_rules()));
        for (const Problem& problem : problems.all()) reading_.error(node, problem.text());
    }

    void read_rule(const YAML::Node& node) {
        const std::vector<Reading::Entry> entries = reading_.entries(
            node, "rule", {"name", "if", "per", "more_than", "at_least", "in_a_row", "then", "for", "recover", "dry_run"});
        reading_.expect(node, entries, "then", "rule");
        Rule rule;
        rule.line = node.IsMap() ? node.Mark().line + 1 : 0;
        rule.name = "rule " + std::to_string(set_.rules.size() + 1);
        Policy counted;
        const Reading::Entry* per = find(entries, "per");
        if (per != nullptr && !per->value.IsNull()) read_fields_(counted, per->value);
        for (const Reading::Entry& entry : entries) read_part(entry, rule);
        read_threshold(entries, rule);
        if (per != nullptr) rule.counted = counted_as(std::move(counted), rule.limits.has_value());
        if (const Reading::Entry* const match = find(entries, "if"); match != nullptr) read_match(*match, rule);
        check(node, entries, rule);
        const auto same = [&](const Rule& other) { return other.name == rule.name; };
        if (std::any_of(set_.rules.begin(), set_.rules.end(), same)) {
            reading_.error(node, "rules: there are two with the name `" + shortened(rule.name) + "`");
        }
        if (rule.treatment != Treatment::usual && !rule.dry_run) set_.treats = true;
        set_.rules.push_back(std::move(rule));
    }

    static const Reading::Entry* find(const std::vector<Reading::Entry>& entries, const char* key) {
        const auto found = std::find_if(entries.begin(), entries.end(), [&](const Reading::Entry& e) { return e.key == key; });
        return found == entries.end() ? nullptr : &*found;
    }

    void read_part(const Reading::Entry& entry, Rule& rule) {
        if (entry.key == "name") {
            rule.name = reading_.text(entry.value, "name").value_or("");
            if (rule.name.empty() || rule.name.size() > name_max) {
                reading_.error(entry.value, "name: expected 1 to " + std::to_string(name_max) + " characters");
            }
        }
        if (entry.key == "then") read_actions(entry.value, rule);
        if (entry.key == "for") rule.lasts = reading_.seconds(entry.value, "for", period_max).value_or(Duration(0));
        if (entry.key == "dry_run") rule.dry_run = reading_.boolean(entry.value, "dry_run").value_or(false);
        if (entry.key != "recover") return;
        const std::vector<Reading::Entry> parts = reading_.entries(entry.value, "recover", {"steps", "every"});
        reading_.expect(entry.value, parts, "steps", "recover");
        reading_.expect(entry.value, parts, "every", "recover");
        for (const Reading::Entry& part : parts) {
            if (part.key == "steps") rule.recovery.steps = static_cast<std::uint32_t>(reading_.count(part.value, "steps", steps_max).value_or(0));
            if (part.key == "every") rule.recovery.every = reading_.seconds(part.value, "every", period_max).value_or(Duration(0));
        }
        if (rule.recovery.every.count() == 0) rule.recovery.steps = 0;
    }

    void read_threshold(const std::vector<Reading::Entry>& entries, Rule& rule) {
        int given = 0;
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "in_a_row") {
                rule.count = static_cast<std::uint32_t>(reading_.count(entry.value, entry.key, threshold_max).value_or(1));
                if (rule.count == 0) reading_.error(entry.value, "in_a_row: expected at least 1");
            } else if (entry.key == "more_than" || entry.key == "at_least") {
                read_count_in_time(entry, rule);
            } else {
                continue;
            }
            if (++given > 1) reading_.error(entry.key_node, "rule: expected one of more_than, at_least and in_a_row");
        }
    }

    void read_count_in_time(const Reading::Entry& entry, Rule& rule) {
        const std::string text = entry.value.IsScalar() ? entry.value.Scalar() : "";
        const std::size_t slash = text.find('/');
        const auto count = parse_number<std::uint64_t>(trim(std::string_view(text).substr(0, slash)));
        const auto seconds = slash == std::string::npos ? std::nullopt : parse_number<double>(trim(std::string_view(text).substr(slash + 1)));
        const bool more = entry.key == "more_than";
        if (!count || !seconds || *count + (more ? 1 : 0) > threshold_max || (*count == 0 && !more) || !(*seconds >= 0.001) ||
            *seconds * 1e3 > static_cast<double>(period_max.count())) {
            return reading_.error(entry.value, entry.key + ": expected COUNT/SECONDS with a count up to " + std::to_string(threshold_max) +
                                                   ", as in \"10/60\"");
        }
        rule.count = static_cast<std::uint32_t>(*count) + (more ? 1 : 0);
        rule.window = Duration(static_cast<std::int64_t>(*seconds * 1e3));
    }

    void read_actions(const YAML::Node& node, Rule& rule) {
        std::vector<std::string> known = limit_keys;
        known.insert(known.end(), action_keys.begin(), action_keys.end());
        YAML::Node limits(YAML::NodeType::Map);
        for (const Reading::Entry& entry : reading_.entries(node, "then", known)) {
            if (entry.key == "suspend") rule.suspends = reading_.boolean(entry.value, entry.key).value_or(false);
            else if (entry.key == "hold") rule.holds_mail = reading_.boolean(entry.value, entry.key).value_or(false);
            else if (entry.key == "notify") rule.notice = reading_.text(entry.value, entry.key).value_or("");
            else if (entry.key == "treat") read_treatment(entry.value, rule);
            else limits[entry.key_node] = entry.value;
        }
        if (limits.size() == 0) return;
        Limits read = read_limits(reading_, limits, algorithm_, nullptr);
        if (!read.any() && !reading_.failed()) return reading_.error(node, "then: a limit of 0 is none");
        rule.limits = std::move(read);
    }

    void read_treatment(const YAML::Node& node, Rule& rule) {
        const std::string word = node.IsScalar() ? node.Scalar() : "?";
        if (word == "defer") rule.treatment = Treatment::deferral;
        else if (word == "bounce") rule.treatment = Treatment::bounce;
        else reading_.error(node, "treat: expected defer or bounce", nearest(word, {"defer", "bounce"}));
    }

    // The policy whose buckets the rule is about: one of the file that counts the same, or else one that limits nothing by itself.
    PolicyPtr counted_as(Policy wanted, bool needs_policy) {
        for (std::size_t at = 0; at < set_.policies.size(); ++at) {
            const PolicyPtr& policy = set_.policies[at];
            const bool groups_as_it_does = !wanted.has_roll_ups && at < of_file_;
            if (groups_as_it_does ? policy->field_set == wanted.field_set : policy->counts == wanted.counts) return policy;
        }
        wanted.name = "rules (" + (wanted.fields.empty() ? "everything" : names_of(wanted)) + ")";
        PolicyPtr made = std::make_shared<Policy>(std::move(wanted));
        if (needs_policy && !reading_.failed()) set_.policies.push_back(made);
        return made;
    }

    std::string names_of(const Policy& policy) const {
        std::string names;
        for (const Field field : policy.fields) names += (names.empty() ? "" : ", ") + set_.fields.name_of(field);
        return names;
    }

    // What failed, and tests of fields: those that are counted by know groups.
    void read_match(const Reading::Entry& entry, Rule& rule) {
        std::vector<Reading::Entry> of_key, of_values;
        for (Reading::Entry& part : reading_.entries(entry.value, "if")) {
            if (std::find(failure_keys.begin(), failure_keys.end(), part.key) != failure_keys.end()) {
                read_failure(part, rule.failure);
                continue;
            }
            const std::optional<Field> field = set_.fields.find(part.key);
            const bool counted = field && rule.counted != nullptr && rule.counted->field_set.has(*field);
            (counted ? of_key : of_values).push_back(std::move(part));
        }
        Vocabulary words = words_;
        words.other_keys = failure_keys;
        rule.match = read_tests(reading_, of_values, words);
        words.policy = rule.counted.get();
        if (!of_key.empty()) rule.key_match = read_tests(reading_, of_key, words);
    }

    void read_failure(const Reading::Entry& entry, FailureMatch& match) {
        const Reading::Sequence values = reading_.one_or_more(entry.value);
        if (values.empty()) reading_.error(entry.value, "if: " + entry.key + ": expected at least one value");
        for (const YAML::Node& value : values) {
            const std::optional<std::string> text = reading_.text(value, entry.key);
            if (!text) continue;
            if (entry.key == "reply") read_code(value, *text, match);
            if (entry.key == "status") read_status(value, *text, match);
            if (entry.key == "text") read_text(value, *text, match);
            if (entry.key == "stage") match.stages |= bit_of(value, "stage", *text, stage_names());
            if (entry.key == "class") match.failures |= bit_of(value, "class", *text, failure_names());
            if (entry.key == "error") read_error(value, *text, match);
        }
    }

    void read_code(const YAML::Node& node, const std::string& text, FailureMatch& match) {
        FailureMatch::Codes codes;
        const std::size_t dots = text.find("..");
        const std::string_view view(text);
        if (text.size() == 3 && (view.ends_with("xx") || view.ends_with("yz")) && (text[0] == '4' || text[0] == '5')) {
            codes.from = static_cast<std::uint16_t>((text[0] - '0') * 100);
            codes.to = static_cast<std::uint16_t>(codes.from + 99);
        } else {
            codes.from = parse_number<std::uint16_t>(view.substr(0, dots)).value_or(0);
            codes.to = dots == std::string::npos ? codes.from : parse_number<std::uint16_t>(view.substr(dots + 2)).value_or(0);
        }
        if (codes.from < 400 || codes.to > 599 || codes.from > codes.to) {
            return reading_.error(node, "reply: expected a code as 421, a range as 450..452, 4xx or 5xx, found `" + shortened(text) + "`");
        }
        match.codes.push_back(codes);
    }

    void read_status(const YAML::Node& node, const std::string& text, FailureMatch& match) {
        static const RE2 form(R"([45](\.\d{1,3}){2}|[45](\.\d{1,3})?\.\*)");
        if (!RE2::FullMatch(text, form)) {
            return reading_.error(node, "status: expected an enhanced code as 4.7.28, or some as 4.7.*, found `" + shortened(text) + "`");
        }
        match.statuses.push_back(text.ends_with('*') ? text.substr(0, text.size() - 1) : text);
    }

    void read_text(const YAML::Node& node, const std::string& text, FailureMatch& match) {
        const bool is_expression = text.size() > 2 && text.starts_with('/') && text.ends_with('/');
        if (text.empty()) return reading_.error(node, "text: expected words or /expression/");
        RE2::Options options;
        options.set_case_sensitive(false);
        options.set_dot_nl(true);
        options.set_log_errors(false);
        options.set_max_mem(1 << 20);
        auto compiled = std::make_shared<const RE2>(is_expression ? text.substr(1, text.size() - 2) : RE2::QuoteMeta(text), options);
        if (!compiled->ok()) return reading_.error(node, "text: not an expression: " + compiled->error());
        match.texts.push_back(std::move(compiled));
    }

    void read_error(const YAML::Node& node, const std::string& text, FailureMatch& match) {
        if (text == "any") {
            match.any_error = true;
            return;
        }
        std::vector<std::string> names{"any"};
        for (const Errc error : link_errors) {
            names.emplace_back(name_of(error));
            if (text == names.back()) return match.errors.push_back(error);
        }
        reading_.error(node, "error: expected any or one of " + listed({names.begin() + 1, names.end()}), nearest(text, names));
    }

    std::uint32_t bit_of(const YAML::Node& node, const char* what, const std::string& text, const std::vector<std::string>& names) {
        const auto found = std::find(names.begin(), names.end(), text);
        if (found != names.end()) return std::uint32_t{1} << (found - names.begin());
        reading_.error(node, std::string(what) + ": expected one of " + listed(names), nearest(text, names));
        return 0;
    }

    static std::string listed(const std::vector<std::string>& names) {
        std::string all;
        for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
        return all;
    }

    void check(const YAML::Node& node, const std::vector<Reading::Entry>& entries, const Rule& rule) {
        if (reading_.failed()) return;
        const bool lasts = rule.limits || rule.suspends;
        if (!rule.acts() && rule.treatment == Treatment::usual) reading_.error(node, "then: expected limits, suspend, hold, treat or notify");
        if (lasts && rule.lasts.count() == 0) reading_.error(node, "rule: expected `for`, the seconds that the reaction lasts");
        if (!lasts && rule.lasts.count() > 0) reading_.error(node, "for: only limits and suspend have an end; hold ends when it is resumed");
        if (rule.suspends && rule.holds_mail) reading_.error(node, "then: expected suspend or hold, not both");
        if ((lasts || rule.holds_mail) && find(entries, "per") == nullptr) {
            reading_.error(node, "rule: expected `per`, the fields whose combinations are counted; [] for all mail together");
        }
        if (rule.recovery.steps > 0 && !rule.limits) reading_.error(node, "recover: expected limits in `then` that the recovery begins with");
        if (rule.suspends && rule.limits && rule.recovery.steps == 0) {
            reading_.error(node, "then: nothing starts while it is suspended; the limits are for the time after that, so expected `recover`");
        }
        if (rule.limits && rule.counted != nullptr) refuse_transport(reading_, node, *rule.limits, *rule.counted);
        if (rule.limits && rule.suspends && !rule.limits->transport.empty()) {
            reading_.error(node, "then: nothing starts while it is suspended, so expected suspend or transport, not both");
        }
        if (rule.count > 1 && !rule.acts()) reading_.error(node, "rule: `treat` does not count; it is for every failure that matches");
    }

    Reading& reading_;
    PolicySet& set_;
    const Vocabulary& words_;
    RateAlgorithm algorithm_;
    const ReadFields& read_fields_;
    const std::size_t of_file_;
};

}  // namespace

void read_rules(Reading& reading, const YAML::Node& node, PolicySet& set, const Vocabulary& words, RateAlgorithm algorithm,
                const ReadFields& read_fields) {
    RuleReader(reading, set, words, algorithm, read_fields, set.policies.size()).read(node);
}

}  // namespace sluice::policy
