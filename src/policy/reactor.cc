#include "policy/reactor.h"

#include <algorithm>
#include <cstdio>

#include "base/text.h"

namespace sluice::policy {
namespace {

constexpr std::string_view property_prefix = "rule.";
constexpr std::size_t because_max = 200;
constexpr Duration notice_rest{60'000};

// After a suspension the limits come as they are before they double.
Limits limits_at(const Rule& rule, std::uint32_t step) {
    return relaxed(*rule.limits, rule.suspends && step > 0 ? step - 1 : step);
}

// Names a bucket for ever: 64 bits of FNV-1a over what is counted and its values.
std::string id_of(std::string_view prefix, std::string_view text) {
    std::uint64_t hash = 14'695'981'039'346'656'037ULL;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211ULL;
    char hex[24];
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
    return std::string(prefix) + hex;
}

// The values of a bucket, so that different ones have different texts.
std::string key_of(const Policy& policy, const FieldTexts& grouped) {
    std::string key;
    for (std::size_t place = 0; place < policy.fields.size(); ++place) {
        const std::size_t field = number_of(policy.fields[place]);
        const std::uint32_t group = grouped.group[field];
        if (group != Matcher::nothing) key += policy.group_text(place, group);
        else key += grouped.text[field];
        key += '\n';
    }
    return key;
}

// The pattern that a file would name this value by.
std::optional<Pattern> pattern_of(Field field, std::string_view text) {
    const bool is_grouping = field == Field::grouping && text.starts_with('&');
    if (!text.empty() && std::string_view("#@&").find(text.front()) != std::string_view::npos && !is_grouping) return std::nullopt;
    if (is_grouping || text.empty()) {
        Pattern literal;
        literal.text = text;
        return literal;
    }
    Result<Pattern> pattern = Pattern::parse(type_of(field), text);
    const bool is_one = pattern && (pattern->kind == Pattern::Kind::literal || pattern->kind == Pattern::Kind::network || pattern->kind == Pattern::Kind::range);
    if (!is_one || !pattern->matches(text)) return std::nullopt;
    return std::move(*pattern);
}

std::string seconds(Duration duration) {
    char text[32];
    std::snprintf(text, sizeof text, "%.15g s", static_cast<double>(duration.count()) / 1e3);
    return text;
}

}  // namespace

std::optional<Match> match_of_bucket(const Policy& policy, const FieldTexts& values) {
    Match match;
    for (std::size_t place = 0; place < policy.fields.size(); ++place) {
        const Field field = policy.fields[place];
        Test test;
        test.field = field;
        auto matcher = std::make_shared<Matcher>();
        const std::uint32_t group = values.group[number_of(field)];
        if (group != Matcher::nothing) {
            test.groups.push_back(group);
            test.group_names.push_back(policy.roll_ups[place]->groups[group].name);
        } else {
            std::optional<Pattern> pattern = pattern_of(field, values.text[number_of(field)]);
            if (!pattern) return std::nullopt;
            matcher->add(*pattern, 0);
            test.patterns.push_back(std::move(*pattern));
        }
        test.matcher = std::move(matcher);
        match.all.push_back(std::move(test));
    }
    return match;
}

const Rule* Reactor::rule_named(const std::string& name) const {
    if (set_ == nullptr) return nullptr;
    const auto found = std::find_if(set_->rules.begin(), set_->rules.end(), [&](const Rule& rule) { return rule.name == name; });
    return found == set_->rules.end() ? nullptr : &*found;
}

Match without_groups(const Policy& policy, Match match) {
    for (Test& test : match.all) {
        if (test.groups.empty()) continue;
        const auto place = static_cast<std::size_t>(std::find(policy.fields.begin(), policy.fields.end(), test.field) - policy.fields.begin());
        auto matcher = std::make_shared<Matcher>();
        test.patterns = policy.roll_ups[place]->groups[test.groups.front()].patterns;
        for (const Pattern& pattern : test.patterns) matcher->add(pattern, 0);
        test.matcher = std::move(matcher);
        test.groups.clear();
        test.group_names.clear();
    }
    return match;
}

std::string bucket_id(std::string_view prefix, const Policy& policy, const FieldTexts& values) {
    return id_of(prefix, policy.counts + "\n" + key_of(policy, values));
}

PolicyPtr Reactor::policy_counting(const std::string& counts) const {
    if (set_ == nullptr) return nullptr;
    const auto found = std::find_if(set_->policies.begin(), set_->policies.end(), [&](const PolicyPtr& p) { return p->counts == counts; });
    return found == set_->policies.end() ? nullptr : *found;
}

void Reactor::configure(PolicySetPtr set, Instant now, Reactions& reactions) {
    if (set_ == set) return;
    set_ = std::move(set);
    // Windows are named by the number of their rule, so they cannot outlive a change.
    windows_.clear();
    by_key_.clear();
    times_ = rows_ = 0;
    std::vector<std::string> ids;
    for (const auto& [id, target] : targets_) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    for (const std::string& id : ids) {
        Target& target = targets_.find(id)->second;
        const PolicyPtr policy = policy_counting(target.policy->counts);
        if (policy != nullptr) target.policy = policy;
        std::erase_if(target.active, [&](const Active& active) {
            const Rule* const rule = rule_named(active.rule);
            return policy == nullptr || rule == nullptr || !rule->limits || rule->dry_run;
        });
        step(target, now, reactions, id);
        settle(id, target, now, reactions);
    }
}

void Reactor::failed(const FieldTexts& values, const Observation& observation, Instant now, Reactions& reactions) {
    if (!has_rules()) return;
    for (std::size_t number = 0; number < set_->rules.size(); ++number) {
        const Rule& rule = set_->rules[number];
        if (!rule.acts() || !rule.failure.holds(observation) || !rule.match.holds(values)) continue;
        FieldTexts grouped = values;
        std::string key;
        if (rule.counted != nullptr) {
            if (!values.known.includes(rule.counted->field_set)) continue;
            grouped = in_groups(*rule.counted, values);
            if (!rule.key_match.holds(grouped)) continue;
            key = key_of(*rule.counted, grouped);
        }
        if (counted(std::to_string(number) + "\n" + key, rule, now)) fire(rule, grouped, observation, key, now, reactions);
    }
}

// One more; true when that is enough. Then counting begins anew.
bool Reactor::counted(const std::string& key, const Rule& rule, Instant now) {
    if (rule.count <= 1) return true;
    auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        windows_.push_front(Window{key, {}, 0, rule.window.count() == 0});
        if (windows_.front().is_row) ++rows_;
        found = by_key_.emplace(windows_.front().key, windows_.begin()).first;
    } else {
        windows_.splice(windows_.begin(), windows_, found->second);
    }
    Window& window = windows_.front();
    // In a row only their number matters; otherwise the last `count - 1` times before this one do.
    const std::size_t kept = rule.count - 1;
    if (window.times.size() == kept) {
        const Instant first = window.times[window.oldest];
        if (window.is_row || now - first < rule.window) {
            erase(windows_.begin());
            return true;
        }
        window.times[window.oldest] = now;
        window.oldest = (window.oldest + 1) % kept;
        return false;
    }
    window.times.push_back(now);
    ++times_;
    while (windows_.size() > 1 && (windows_.size() > windows_max || times_ > times_max)) erase(std::prev(windows_.end()));
    return false;
}

void Reactor::erase(Windows::iterator window) {
    times_ -= window->times.size();
    if (window->is_row) --rows_;
    by_key_.erase(window->key);
    windows_.erase(window);
}

void Reactor::delivered(const FieldTexts& values) {
    if (rows_ == 0) return;
    for (std::size_t number = 0; number < set_->rules.size(); ++number) {
        const Rule& rule = set_->rules[number];
        if (rule.window.count() != 0 || rule.count <= 1) continue;
        std::string key;
        if (rule.counted != nullptr) {
            if (!values.known.includes(rule.counted->field_set)) continue;
            key = key_of(*rule.counted, in_groups(*rule.counted, values));
        }
        const auto found = by_key_.find(std::to_string(number) + "\n" + key);
        if (found != by_key_.end()) erase(found->second);
    }
}

void Reactor::fire(const Rule& rule, const FieldTexts& grouped, const Observation& observation, const std::string& key, Instant now,
                   Reactions& reactions) {
    Reaction told;
    told.by = "rule " + rule.name;
    std::optional<Match> match = rule.counted == nullptr ? Match() : match_of_bucket(*rule.counted, grouped);
    if (!match) return;
    told.concerns = match->text(set_->fields);
    told.what = rule.text();
    if (!rule.notice.empty()) told.what += ": " + rule.notice;
    if (rule.dry_run) told.what = "would do: " + told.what;
    told.because = printable(observation.reply().substr(0, because_max));
    told.begins = true;
    const std::string bucket = (rule.counted != nullptr ? rule.counted->counts : std::string()) + "\n" + key;
    if (rule.dry_run || (!rule.limits && !rule.suspends && !rule.holds_mail)) {
        if (is_news(id_of("told-", rule.name + "\n" + bucket), now + notice_rest, notice_rest)) reactions.told.push_back(std::move(told));
        return;
    }
    if (rule.suspends || rule.holds_mail) {
        Suspension suspension;
        suspension.id = id_of(rule.holds_mail ? "hold-" : "suspend-", rule.name + "\n" + bucket);
        suspension.match = without_groups(*rule.counted, std::move(*match));
        suspension.fields = set_->fields;
        suspension.author = author;
        suspension.reason = told.by + ": " + told.because;
        if (rule.limits) suspension.tag = rule.limits->tag;
        if (rule.suspends) suspension.ttl = rule.lasts;
        told.id = suspension.id;
        if (!is_news(suspension.id, rule.suspends ? now + rule.lasts : Instant::max(), rule.lasts / 10)) return;
        reactions.suspended.push_back(std::move(suspension));
    }
    if (rule.limits) return begin_condition(rule, grouped, id_of("rule-", bucket), told, now, reactions);
    reactions.told.push_back(std::move(told));
}

void Reactor::begin_condition(const Rule& rule, const FieldTexts& grouped, const std::string& id, const Reaction& told, Instant now,
                              Reactions& reactions) {
    auto found = targets_.find(id);
    if (found == targets_.end()) {
        Reaction refused = told;
        refused.what = "nothing: there are conditions for " + std::to_string(targets_max) + " buckets already";
        if (targets_.size() >= targets_max) return reactions.told.push_back(std::move(refused));
        Target target;
        target.policy = rule.counted;
        target.match = *match_of_bucket(*rule.counted, grouped);
        for (const Field field : rule.counted->fields) {
            const std::uint32_t group = grouped.group[number_of(field)];
            if (group != Matcher::nothing) target.groups.emplace_back(field, group);
            else target.values.emplace_back(field, grouped.text[number_of(field)]);
        }
        target.concerns = told.concerns;
        found = targets_.emplace(id, std::move(target)).first;
    }
    Target& target = found->second;
    target.because = told.by + ": " + told.because;
    auto active = std::find_if(target.active.begin(), target.active.end(), [&](const Active& a) { return a.rule == rule.name; });
    const bool is_new = active == target.active.end();
    if (is_new) active = target.active.insert(target.active.end(), Active{rule.name, 0, {}});
    const bool begins = is_new || active->step > 0 || rule.suspends;
    if (!begins && now + rule.lasts - active->until < rule.lasts / 10) return;  // not worth a record
    active->step = 0;
    active->until = now + rule.lasts;
    if (begins) {
        reactions.told.push_back(told);
        if (reactions.told.back().id.empty()) reactions.told.back().id = id;
    }
    settle(id, target, now, reactions);
}

// Nobody is told the same thing again before `rest` has passed.
bool Reactor::is_news(const std::string& id, Instant until, Duration rest) {
    const auto found = said_.find(id);
    if (found != said_.end() && until - found->second < std::max(rest, Duration(1))) return false;
    if (said_.size() >= targets_max) said_.clear();
    said_[id] = until;
    return true;
}

// Moves what is due. True when anything changed.
bool Reactor::step(Target& target, Instant now, Reactions& reactions, const std::string& id) {
    bool changed = false;
    std::erase_if(target.active, [&](Active& active) {
        const Rule* const rule = rule_named(active.rule);
        while (now >= active.until) {
            changed = true;
            const bool ends = active.step >= rule->recovery.steps;
            std::string what = "lifted";
            if (!ends) {
                ++active.step;
                active.until += rule->recovery.every;
                what = "recovers: " + limits_at(*rule, active.step).text() + " for " + seconds(rule->recovery.every);
            }
            if (ends || now < active.until) reactions.told.push_back({"rule " + active.rule, target.concerns, std::move(what), {}, id, false});
            if (ends) return true;
        }
        return false;
    });
    return changed;
}

// The condition says what the target's rules ask for now, or goes.
void Reactor::settle(const std::string& id, Target& target, Instant now, Reactions& reactions) {
    if (target.active.empty()) {
        reactions.removed.push_back(id);
        forget(std::string(id));
        return;
    }
    publish(id, target, now, reactions);
    schedule(id, target);
}

void Reactor::publish(const std::string& id, Target& target, Instant now, Reactions& reactions) {
    FieldTexts texts;
    for (const auto& [field, text] : target.values) texts.set(field, text);
    for (const auto& [field, group] : target.groups) texts.set(field, {}, group);
    DynamicCondition condition;
    condition.id = id;
    condition.kind = DynamicCondition::Class::back_off;
    condition.policy = target.policy;
    condition.fields = set_->fields;
    condition.match = target.match;
    condition.limits = target.policy->limits_of(texts);
    Instant end = now + Duration(1);
    for (const Active& active : target.active) {
        const Rule& rule = *rule_named(active.rule);
        condition.limits = tightened(std::move(condition.limits), limits_at(rule, active.step));
        end = std::max(end, active.until + rule.recovery.every * static_cast<int>(rule.recovery.steps - std::min(active.step, rule.recovery.steps)));
        condition.limits.properties.emplace_back(std::string(property_prefix) + active.rule,
                                                 std::to_string(active.step) + " " + std::to_string(to_ms(active.until)));
    }
    condition.ttl = end - now;
    condition.author = author;
    condition.reason = target.because;
    reactions.set.push_back(std::move(condition));
}

void Reactor::schedule(const std::string& id, Target& target) {
    due_.erase({target.due, id});
    target.due = Instant::max();
    for (const Active& active : target.active) target.due = std::min(target.due, active.until);
    due_.emplace(target.due, id);
}

void Reactor::advance(Instant now, Reactions& reactions) {
    while (!due_.empty() && due_.begin()->first <= now) {
        const std::string id = due_.begin()->second;
        Target& target = targets_.find(id)->second;
        step(target, now, reactions, id);
        settle(id, target, now, reactions);
    }
}

bool Reactor::adopt(const DynamicCondition& condition, Instant now, Reactions& reactions) {
    if (condition.author != author || condition.kind != DynamicCondition::Class::back_off || targets_.contains(condition.id)) return false;
    Target target;
    target.policy = policy_counting(condition.policy->counts);
    if (target.policy == nullptr || targets_.size() >= targets_max) return false;
    const DynamicCondition moved = moved_to(condition, target.policy, set_->fields);
    target.match = moved.match;
    target.because = condition.reason;
    target.concerns = moved.match.text(set_->fields);
    for (const Test& test : moved.match.all) {
        if (!test.groups.empty()) target.groups.emplace_back(test.field, test.groups.front());
        else if (!test.patterns.empty()) target.values.emplace_back(test.field, test.patterns.front().text);
    }
    for (const auto& [key, value] : condition.limits.properties) {
        if (!key.starts_with(property_prefix)) continue;
        const std::size_t space = value.find(' ');
        const auto step = parse_number<std::uint32_t>(std::string_view(value).substr(0, space));
        const auto until = space == std::string::npos ? std::nullopt : parse_number<std::int64_t>(std::string_view(value).substr(space + 1));
        const Rule* const rule = rule_named(key.substr(property_prefix.size()));
        if (!step || !until || *until < 0 || rule == nullptr || !rule->limits || rule->dry_run) continue;
        const Instant latest = now + rule->lasts + rule->recovery.every;
        target.active.push_back({rule->name, std::min(*step, rule->recovery.steps), std::min(instant_from_ms(*until), latest)});
    }
    if (target.active.empty()) return false;
    Target& kept = targets_.emplace(condition.id, std::move(target)).first->second;
    if (step(kept, now, reactions, condition.id)) settle(condition.id, kept, now, reactions);
    else schedule(condition.id, kept);
    return true;
}

void Reactor::forget(const std::string& id) {
    said_.erase(id);
    const auto found = targets_.find(id);
    if (found == targets_.end()) return;
    due_.erase({found->second.due, id});
    targets_.erase(found);
}

}  // namespace sluice::policy
