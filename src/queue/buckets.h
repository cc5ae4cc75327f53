#pragma once

#include <cstdint>
#include <vector>

#include "policy/policy.h"
#include "queue/names.h"
#include "queue/slab.h"
#include "queue/timer_wheel.h"
#include "queue/waiters.h"

namespace sluice::queue {

// One counter: a policy and the values of its fields.
struct Bucket {
    using Key = policy::BucketKey;
    Key name;
    std::uint32_t used = 0;     // sessions that hold a slot
    std::uint32_t closing = 0;  // of these, sessions that will be reported closed before long
    std::uint32_t holders = 0;  // lanes and slots that refer to it
    Chain idle;                 // slots of idle sessions, the longest idle first
    Waiters::Round waiting;
    policy::RateWindow window;
    TimerNode timer;            // end of the window, while lanes wait for it or nobody else refers to it
    bool in_turn = false;       // stands in the core's list of buckets to serve
    const Key& key() const { return name; }
};

// A session's place in a bucket.
struct Slot {
    Index bucket = none;
    Index session = none;
    Links idle;
};

// All counters of all policies. A bucket exists while a lane or session refers to it or its rate remembers something. Core-owned.
class Buckets {
public:
    explicit Buckets(Names& names) : names_(names) {}

    // The same policies with other limits keep their buckets; others only when no bucket exists.
    void configure(std::vector<policy::WindowPolicy> policies);
    const std::vector<policy::WindowPolicy>& policies() const { return policies_; }
    bool depends_on_candidate() const { return depends_on_candidate_; }
    const policy::WindowPolicy& policy_of(Index bucket) const { return policies_[rows_[bucket].name.policy]; }

    // Finds or makes the bucket of a policy for these values, and refers to it until drop().
    Index hold(std::uint32_t policy, const policy::FieldValues& values);
    void hold(Index bucket) { ++rows_[bucket].holders; }
    // True when nobody refers to it any more: the caller then decides whether it may go (see collect()).
    bool drop(Index bucket) { return --rows_[bucket].holders == 0; }
    // Removes an unreferred bucket that remembers nothing; false when its window must end first.
    bool collect(Index bucket, Instant now);
    // Removes an unreferred bucket with whatever it remembers.
    void discard(Index bucket);

    bool has_slot(Index bucket) const {
        const std::uint32_t limit = policy_of(bucket).concurrency;
        return limit == 0 || rows_[bucket].used < limit;
    }
    // More sessions than the limit, apart from those that are closing: it was lowered.
    bool is_over(Index bucket) const {
        const std::uint32_t limit = policy_of(bucket).concurrency;
        return limit != 0 && rows_[bucket].used - rows_[bucket].closing > limit;
    }
    bool has_token(Index bucket, Instant now) const {
        return rows_[bucket].window.has_room(policy_of(bucket).rate, now);
    }
    void take_token(Index bucket, Instant now) { rows_[bucket].window.take(policy_of(bucket).rate, now); }
    Instant reopens(Index bucket) const { return rows_[bucket].window.reopens(policy_of(bucket).rate); }

    Bucket& operator[](Index bucket) { return rows_[bucket]; }
    const Bucket& operator[](Index bucket) const { return rows_[bucket]; }
    bool contains(Index bucket) const { return rows_.contains(bucket); }
    Index end() const { return rows_.end(); }
    std::size_t size() const { return rows_.size(); }

private:
    Names& names_;
    std::vector<policy::WindowPolicy> policies_;
    bool depends_on_candidate_ = false;
    Registry<Bucket> rows_;
};

}  // namespace sluice::queue
