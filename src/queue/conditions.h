#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "policy/bucket.h"
#include "policy/dynamic.h"
#include "queue/names.h"
#include "queue/slab.h"
#include "queue/timer_wheel.h"

namespace sluice::queue {

using ConditionPtr = std::shared_ptr<const policy::DynamicCondition>;

// A condition that was added at run time. One whose policy the file does not have is idle: it waits for the policy.
struct DynamicRow {
    using Key = std::string_view;
    ConditionPtr what;
    std::uint64_t order = 0;              // later ones are newer
    std::uint32_t policy = none;          // its place; none: idle
    bool is_exact = false;                // it concerns one bucket at most
    policy::BucketKey bucket;             // that one; its names are held
    std::uint32_t buckets = 0;            // whose limits are this one's
    TimerNode timer;                      // its end
    Key key() const { return what->id; }
};

// All conditions of run time, and which of them a bucket obeys. A bucket asks those that name just it, found by one look-up, and those of its policy
// that concern more than one bucket. Core-owned.
class Conditions {
public:
    explicit Conditions(Names& names) : names_(names) {}
    Conditions(const Conditions&) = delete;
    Conditions& operator=(const Conditions&) = delete;
    ~Conditions() { detach_all(); }

    bool empty() const { return rows_.size() == 0; }
    Index find(std::string_view id) const { return rows_.find(id); }
    // The id is not there yet.
    Index add(ConditionPtr what, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields);
    // Another one with the same id stands in its place. Until they ask again, buckets may still refer to the old one.
    void replace(Index condition, ConditionPtr what, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file,
                 const policy::FieldTable& fields);
    // Buckets must have stopped obeying it.
    void remove(Index condition);
    // What buckets may obey.
    std::vector<ConditionPtr> all() const;
    // Nobody asks again who obeys one now.
    void forget_buckets();
    // Other policies are in force. Buckets may still refer to what all() was before.
    void attach(const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields);
    // No bucket asks it any more, but those that obey it may go on until they ask again.
    void detach(Index condition);

    // The one that this bucket obeys, or none.
    Index applying(const policy::BucketKey& key, const policy::FieldTexts& texts) const;
    // Another one that says the same, or none.
    Index like(const policy::DynamicCondition& condition) const;

    DynamicRow& operator[](Index condition) { return rows_[condition]; }
    const DynamicRow& operator[](Index condition) const { return rows_[condition]; }
    bool contains(Index condition) const { return rows_.contains(condition); }
    Index end() const { return rows_.end(); }
    std::size_t size() const { return rows_.size(); }
    // Some condition names a transport.
    bool redirect() const { return redirecting_ > 0; }

private:
    using List = absl::InlinedVector<Index, 1>;

    void place(Index condition, const std::vector<policy::PolicyPtr>& policies, std::size_t of_file, const policy::FieldTable& fields);
    void detach_all();
    bool comes_before(Index a, Index b) const;

    Names& names_;
    Registry<DynamicRow> rows_;
    std::uint64_t last_order_ = 0;
    std::size_t redirecting_ = 0;
    absl::flat_hash_map<policy::BucketKey, List> exact_;
    absl::flat_hash_map<std::uint32_t, List> wide_;  // by policy, in the order in which they are asked
};

}  // namespace sluice::queue
