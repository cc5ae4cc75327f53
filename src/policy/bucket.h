#pragma once

#include <absl/container/inlined_vector.h>

#include <array>
#include <cstdint>
#include <utility>

#include "base/clock.h"
#include "policy/field.h"
#include "policy/limits.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// Stands for all mail that a policy does not count, because one before it said `stop`.
inline constexpr Value skipped = unknown - 1;

// Names one bucket: the policy's place among all policies, and the values of its fields in their order, those of groups rolled up. Value.
struct BucketKey {
    std::uint32_t policy = 0;
    std::array<Value, key_fields_max> values;

    explicit BucketKey(std::uint32_t place = 0) : policy(place) { values.fill(unknown); }
    friend bool operator==(const BucketKey&, const BucketKey&) = default;
    template <class H>
    friend H AbslHashValue(H h, const BucketKey& key) {
        return H::combine(std::move(h), key.policy, key.values);
    }
};

// What a bucket remembers of the past, beside the sessions that hold its slots now. Value.
class BucketState {
public:
    // Every rate and the octets have room for one message more.
    bool has_room(const Limits& limits, Instant now) const {
        return (limits.rates.empty() && limits.bytes_per_second == 0) || now >= opens(limits);
    }
    // From when on they have room, as far as is known now.
    Instant opens(const Limits& limits) const;
    // Counts a message that starts; has_room() must hold.
    void take(const Limits& limits, std::uint64_t bytes, Instant now);

    // A session may be opened.
    bool may_connect(Instant now) const { return now >= connects_; }
    Instant connects() const { return connects_; }
    void connect(const Limits& limits, Instant now) {
        if (limits.connect_interval.count() != 0) connects_ = now + limits.connect_interval;
    }

    // Until then something would be forgotten if this were thrown away.
    Instant remembers_until(const Limits& limits) const;
    // The limits are others now. What was counted stays counted, but nothing waits longer than the new limits ask for.
    void adopt(const Limits& before, const Limits& after, Instant now);

private:
    absl::InlinedVector<RateState, 1> rates_;  // empty until the first message counts
    ByteState bytes_;
    Instant connects_;
};

}  // namespace sluice::policy
