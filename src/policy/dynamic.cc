#include "policy/dynamic.h"

#include <algorithm>
#include <tuple>
#include <utility>

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

bool comes_before(const DynamicCondition& a, const DynamicCondition& b) {
    return std::make_tuple(a.kind, bound_fields(a), a.since) > std::make_tuple(b.kind, bound_fields(b), b.since);
}

bool says_the_same(const DynamicCondition& a, const DynamicCondition& b) {
    return a.kind == b.kind && a.counts == b.counts && a.match.covers(b.match) && b.match.covers(a.match);
}

}  // namespace

void DynamicConditions::set(DynamicCondition condition) {
    remove(condition.id);
    const auto at = std::upper_bound(conditions_.begin(), conditions_.end(), condition, comes_before);
    // Of equals the one added last comes first.
    auto before = at;
    while (before != conditions_.begin() && !comes_before(*std::prev(before), condition)) --before;
    conditions_.insert(before, std::move(condition));
}

std::string DynamicConditions::set_or_renew(DynamicCondition condition) {
    const auto found = std::find_if(conditions_.begin(), conditions_.end(),
                                    [&](const DynamicCondition& other) { return says_the_same(other, condition); });
    if (found != conditions_.end()) condition.id = found->id;
    std::string id = condition.id;
    set(std::move(condition));
    return id;
}

bool DynamicConditions::remove(const std::string& id) {
    return std::erase_if(conditions_, [&](const DynamicCondition& condition) { return condition.id == id; }) > 0;
}

std::vector<DynamicCondition> DynamicConditions::expire(Instant now) {
    std::vector<DynamicCondition> over;
    std::erase_if(conditions_, [&](DynamicCondition& condition) {
        if (!condition.expires || now < *condition.expires) return false;
        over.push_back(condition);
        return true;
    });
    return over;
}

std::optional<Instant> DynamicConditions::next_expiry() const {
    std::optional<Instant> next;
    for (const DynamicCondition& condition : conditions_) {
        if (condition.expires && (!next || *condition.expires < *next)) next = condition.expires;
    }
    return next;
}

const DynamicCondition* DynamicConditions::applying(const Policy& policy, const FieldTexts& texts, Instant now) const {
    for (const DynamicCondition& condition : conditions_) {
        if (condition.counts != policy.counts || (condition.expires && now >= *condition.expires)) continue;
        if (condition.match.holds(texts)) return &condition;
    }
    return nullptr;
}

const Limits& DynamicConditions::limits_of(const Policy& policy, const FieldTexts& texts, Instant now) const {
    const DynamicCondition* const dynamic = applying(policy, texts, now);
    return dynamic != nullptr ? dynamic->limits : policy.limits_of(texts);
}

}  // namespace sluice::policy
