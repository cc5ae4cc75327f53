#include "policy/policy_set.h"

#include <algorithm>

#include "base/assert.h"

namespace sluice::policy {

const Limits no_limits;

const Limits& Policy::limits_of(const FieldTexts& texts) const {
    for (const Condition& condition : conditions) {
        if (condition.match.holds(texts)) return condition.limits;
    }
    return fallback ? *fallback : no_limits;
}

PolicyPtr plain_policy(std::string name, FieldSet fields, Limits limits) {
    auto policy = std::make_shared<Policy>();
    policy->name = std::move(name);
    policy->field_set = fields;
    policy->counts = policy->name;
    for (std::size_t i = 0; i < field_max; ++i) {
        const Field field = static_cast<Field>(i);
        if (fields.has(field)) policy->fields.push_back(field);
    }
    policy->roll_ups.resize(policy->fields.size());
    policy->fallback = std::move(limits);
    return policy;
}

PolicySetPtr plain_set(std::vector<PolicyPtr> policies) {
    auto set = std::make_shared<PolicySet>();
    set->policies = std::move(policies);
    return set;
}

std::string_view Grouping::of(std::string_view mx, std::string_view ip, std::string_view domain) const {
    const std::uint32_t first = std::min({remotemx.match(mx), remoteip.match(ip), recipientdomain.match(domain)});
    if (first != Matcher::nothing) return ids[first];
    switch (otherwise) {
        case Otherwise::empty: return {};
        case Otherwise::remotemx: return mx;
        case Otherwise::recipientdomain: return domain;
    }
    UNREACHABLE();
}

FieldSet PolicySet::used_fields() const {
    FieldSet set;
    for (const PolicyPtr& policy : policies) {
        for (const Field field : policy->fields) set.add(field);
    }
    for (const Rule& rule : rules) {
        if (rule.counted != nullptr) set.add(rule.counted->field_set);
        set.add(rule.match.fields());
    }
    return set;
}

}  // namespace sluice::policy
