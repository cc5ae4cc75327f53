// Where mail waits, for those who explain and rehearse.

#include "queue/core_impl.h"

namespace sluice::queue {

BlockedBucket Core::Impl::blocked_view(const Bucket& row, Index bucket) const {
    BlockedBucket view;
    view.policy = &buckets_.policy_of(bucket);
    view.limits = &buckets_.limits(bucket);
    view.used = row.used;
    for (std::size_t i = 0; i < view.policy->fields.size(); ++i) {
        const policy::Value value = row.name.values[i];
        if (policy::is_text(value)) {
            view.values[i] = names_.text(NameId{value});
        } else if (value < policy::skipped) {
            view.values[i] = view.policy->roll_ups[i]->groups[value - policy::first_group_value].name;
            view.groups |= 1U << i;
        }
    }
    if (!buckets_.has_token(bucket, now_)) view.lack = BlockedBucket::Lack::rate;
    else if (!buckets_.has_slot(bucket)) view.lack = BlockedBucket::Lack::sessions;
    else if (!buckets_.may_connect(bucket, now_)) view.lack = BlockedBucket::Lack::connect_interval;
    waiters_.each(row.waiting, [&](Index waiter) { view.items += lanes_[waiters_[waiter].lane].length; });
    return view;
}

void Core::Impl::each_blocked(const std::function<void(const BlockedBucket&)>& visit) const {
    for (Index bucket = 0; bucket < buckets_.end(); ++bucket) {
        if (buckets_.contains(bucket) && buckets_[bucket].waiting.count > 0) visit(blocked_view(buckets_[bucket], bucket));
    }
}

}  // namespace sluice::queue
