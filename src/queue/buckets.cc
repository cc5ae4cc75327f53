#include "queue/buckets.h"

#include <utility>

namespace sluice::queue {

void Buckets::configure(std::vector<policy::WindowPolicy> policies) {
    policies_ = std::move(policies);
    depends_on_candidate_ = false;
    for (const policy::WindowPolicy& policy : policies_) {
        if (policy.fields.depends_on_candidate()) depends_on_candidate_ = true;
    }
}

Index Buckets::hold(std::uint32_t policy, const policy::FieldValues& values) {
    const policy::BucketKey key = policy::bucket_key(policy, policies_[policy], values);
    Index at = rows_.find(key);
    if (at == none) {
        Bucket bucket;
        bucket.name = key;
        for (const policy::Value value : key.values.values) {
            if (value != policy::unknown) names_.hold(NameId{value});
        }
        at = rows_.add(bucket);
    }
    ++rows_[at].holders;
    return at;
}

bool Buckets::collect(Index bucket, Instant now) {
    const Bucket& row = rows_[bucket];
    if (row.in_turn || row.window.matters(policy_of(bucket).rate, now)) return false;
    discard(bucket);
    return true;
}

void Buckets::discard(Index bucket) {
    const Bucket& row = rows_[bucket];
    ASSERT(row.holders == 0 && row.used == 0 && row.waiting.count == 0);
    const policy::FieldValues values = row.name.values;
    rows_.remove(bucket);
    for (const policy::Value value : values.values) {
        if (value != policy::unknown) names_.drop(NameId{value});
    }
}

}  // namespace sluice::queue
