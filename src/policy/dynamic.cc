#include "policy/dynamic.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/assert.h"

namespace sluice::policy {
namespace {

std::size_t bound_fields(const DynamicCondition& condition) {
    const FieldSet fields = condition.match.fields();
    std::size_t count = 0;
    for (std::size_t i = 0; i < field_max; ++i) {
        if (fields.has(static_cast<Field>(i))) ++count;
    }
    return count;
}

// The one text that the pattern matches.
std::optional<std::string> only_text_of(const Pattern& pattern) {
    const bool is_one = pattern.kind == Pattern::Kind::literal ||
                        (pattern.kind == Pattern::Kind::network && pattern.network.is_address()) ||
                        (pattern.kind == Pattern::Kind::range && pattern.from == pattern.to);
    if (!is_one) return std::nullopt;
    return pattern.kind == Pattern::Kind::range ? std::to_string(pattern.from) : pattern.text;
}

std::optional<BoundValue> only_value_of(const Test& test, const RollUp* roll_up) {
    if (test.groups.size() > 1) return std::nullopt;
    BoundValue value;
    if (!test.groups.empty()) value.group = test.groups.front();
    for (const Pattern& pattern : test.patterns) {
        std::optional<std::string> text = only_text_of(pattern);
        if (!text) return std::nullopt;
        const std::uint32_t group = roll_up != nullptr ? roll_up->group_of(*text) : Matcher::nothing;
        if (group != value.group || (group == Matcher::nothing && test.patterns.size() > 1)) return std::nullopt;
        value.text = std::move(*text);
    }
    return value;
}

void renumber(Match& match, const std::vector<Field>& from, const std::vector<Field>& to) {
    for (Test& test : match.all) {
        const auto place = std::find(from.begin(), from.end(), test.field) - from.begin();
        test.field = to.at(static_cast<std::size_t>(place));
    }
    for (Match& inner : match.none) renumber(inner, from, to);
    for (Match& inner : match.any) renumber(inner, from, to);
}

}  // namespace

const char* name_of(DynamicCondition::Class kind) {
    switch (kind) {
        case DynamicCondition::Class::ordinary: return "ordinary";
        case DynamicCondition::Class::warm_up: return "warm_up";
        case DynamicCondition::Class::back_off: return "back_off";
    }
    UNREACHABLE();
}

bool comes_before(const DynamicCondition& a, const DynamicCondition& b) {
    return std::make_tuple(a.kind, bound_fields(a), a.since) > std::make_tuple(b.kind, bound_fields(b), b.since);
}

bool says_the_same(const DynamicCondition& a, const DynamicCondition& b) {
    return a.kind == b.kind && a.policy->counts == b.policy->counts && a.match.covers(b.match) && b.match.covers(a.match);
}

std::optional<std::vector<BoundValue>> only_bucket_of(const DynamicCondition& condition) {
    const Policy& policy = *condition.policy;
    const Match& match = condition.match;
    if (!match.none.empty() || !match.any.empty() || match.all.size() != policy.fields.size()) return std::nullopt;
    std::vector<BoundValue> values;
    for (std::size_t place = 0; place < policy.fields.size(); ++place) {
        const auto test = std::find_if(match.all.begin(), match.all.end(), [&](const Test& t) { return t.field == policy.fields[place]; });
        if (test == match.all.end()) return std::nullopt;
        std::optional<BoundValue> value = only_value_of(*test, policy.roll_ups[place].get());
        if (!value) return std::nullopt;
        values.push_back(std::move(*value));
    }
    return values;
}

DynamicCondition moved_to(const DynamicCondition& condition, const PolicyPtr& policy, const FieldTable& fields) {
    ASSERT(condition.policy->counts == policy->counts);
    DynamicCondition moved = condition;
    renumber(moved.match, condition.policy->fields, policy->fields);
    moved.policy = policy;
    moved.fields = fields;
    return moved;
}

}  // namespace sluice::policy
