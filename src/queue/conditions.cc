#include "queue/conditions.h"

#include <algorithm>
#include <utility>

namespace sluice::queue {

Index Conditions::add(ConditionPtr what, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields) {
    DynamicRow row;
    row.what = std::move(what);
    row.order = ++last_order_;
    const Index at = rows_.add(std::move(row));
    place(at, policies, of_file, fields);
    return at;
}

void Conditions::replace(Index at, ConditionPtr what, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file,
                         const policy::FieldTable& fields) {
    ASSERT(what->id == rows_[at].what->id);
    detach(at);
    rows_[at].what = std::move(what);
    rows_[at].order = ++last_order_;
    place(at, policies, of_file, fields);
}

void Conditions::remove(Index condition) {
    ASSERT(rows_[condition].buckets == 0 && !rows_[condition].timer.is_set());
    detach(condition);
    rows_.remove(condition);
}

std::vector<ConditionPtr> Conditions::all() const {
    std::vector<ConditionPtr> all;
    for (Index at = 0; at < rows_.end(); ++at) {
        if (rows_.contains(at)) all.push_back(rows_[at].what);
    }
    return all;
}

void Conditions::forget_buckets() {
    for (Index at = 0; at < rows_.end(); ++at) rows_[at].buckets = 0;
}

void Conditions::attach(const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields) {
    detach_all();
    for (Index at = 0; at < rows_.end(); ++at) {
        if (rows_.contains(at)) place(at, policies, of_file, fields);
    }
}

// Finds the policy that counts what the condition is about: the first of the file, where several do.
void Conditions::place(Index at, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields) {
    DynamicRow& row = rows_[at];
    const auto end = policies.begin() + static_cast<std::ptrdiff_t>(of_file);
    const auto found = std::find_if(policies.begin(), end, [&](const policy::PolicyPtr& p) { return p->counts == row.what->policy->counts; });
    if (found == end) return;
    row.policy = static_cast<std::uint32_t>(found - policies.begin());
    if (!row.what->limits.transport.empty()) ++redirecting_;
    if ((*found)->fields != row.what->policy->fields) {
        row.what = std::make_shared<const policy::DynamicCondition>(policy::moved_to(*row.what, *found, fields));
    }
    const auto values = policy::only_bucket_of(*row.what);
    row.is_exact = values.has_value();
    if (row.is_exact) {
        row.bucket = policy::BucketKey(row.policy);
        for (std::size_t i = 0; i < values->size(); ++i) {
            const policy::BoundValue& value = (*values)[i];
            row.bucket.values[i] = value.group != policy::Matcher::nothing ? policy::first_group_value + value.group
                                                                           : number_of(names_.intern(value.text));
        }
    }
    List& list = row.is_exact ? exact_[row.bucket] : wide_[row.policy];
    list.insert(std::find_if(list.begin(), list.end(), [&](Index other) { return comes_before(at, other); }), at);
}

void Conditions::detach(Index at) {
    DynamicRow& row = rows_[at];
    if (row.policy == none) return;
    const auto leave = [at](auto& map, const auto& key) {
        const auto found = map.find(key);
        List& list = found->second;
        list.erase(std::find(list.begin(), list.end(), at));
        if (list.empty()) map.erase(found);
    };
    if (row.is_exact) {
        leave(exact_, row.bucket);
        for (const policy::Value value : row.bucket.values) {
            if (policy::is_text(value)) names_.drop(NameId{value});
        }
    } else {
        leave(wide_, row.policy);
    }
    if (!row.what->limits.transport.empty()) --redirecting_;
    row.policy = none;
    row.is_exact = false;
}

void Conditions::detach_all() {
    for (Index at = 0; at < rows_.end(); ++at) {
        if (rows_.contains(at)) detach(at);
    }
}

bool Conditions::comes_before(Index a, Index b) const {
    const policy::DynamicCondition& one = *rows_[a].what;
    const policy::DynamicCondition& other = *rows_[b].what;
    if (policy::comes_before(one, other)) return true;
    return !policy::comes_before(other, one) && rows_[a].order > rows_[b].order;
}

Index Conditions::applying(const policy::BucketKey& key, const policy::FieldTexts& texts) const {
    Index best = none;
    if (const auto exact = exact_.find(key); exact != exact_.end()) best = exact->second.front();
    const auto wide = wide_.find(key.policy);
    if (wide == wide_.end()) return best;
    for (const Index at : wide->second) {
        if (best != none && !comes_before(at, best)) return best;
        if (rows_[at].what->match.holds(texts)) return at;
    }
    return best;
}

Index Conditions::like(const policy::DynamicCondition& condition) const {
    for (Index at = 0; at < rows_.end(); ++at) {
        if (rows_.contains(at) && policy::says_the_same(*rows_[at].what, condition)) return at;
    }
    return none;
}

}  // namespace sluice::queue
