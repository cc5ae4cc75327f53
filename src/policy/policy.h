#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/clock.h"
#include "policy/field.h"

namespace sluice::policy {

// At most `count` messages start in a window of length `per`. Value.
struct WindowRate {
    std::uint32_t count = 0;  // 0: no limit
    Duration per{1'000};
    friend bool operator==(const WindowRate&, const WindowRate&) = default;
};

// One kind of counter: `fields` says what makes a bucket, the rest what each bucket allows. Value.
// No fields: one bucket for the whole engine.
struct WindowPolicy {
    std::string name;               // for people
    FieldSet fields;
    std::uint32_t concurrency = 0;  // sessions at once; 0: no limit
    WindowRate rate;
    friend bool operator==(const WindowPolicy&, const WindowPolicy&) = default;
};

// Names one bucket: the policy's place among all policies, and the values of its fields, the others unknown. Value.
struct BucketKey {
    std::uint32_t policy = 0;
    FieldValues values;

    friend bool operator==(const BucketKey&, const BucketKey&) = default;
    template <class H>
    friend H AbslHashValue(H h, const BucketKey& key) {
        return H::combine(std::move(h), key.policy, key.values.values);
    }
};
BucketKey bucket_key(std::uint32_t place, const WindowPolicy& policy, const FieldValues& values);

// What a bucket remembers for its rate: a window that begins with its first message. Value.
class RateWindow {
public:
    bool has_room(const WindowRate& rate, Instant now) const {
        return rate.count == 0 || used_ < rate.count || now >= reopens(rate);
    }
    // Counts one message; has_room() must hold.
    void take(const WindowRate& rate, Instant now) {
        if (rate.count == 0) return;
        if (used_ == 0 || now >= reopens(rate)) {
            begin_ = now;
            used_ = 0;
        }
        ++used_;
    }
    // When the present window is over.
    Instant reopens(const WindowRate& rate) const { return begin_ + rate.per; }
    // Something would be forgotten if this were thrown away.
    bool matters(const WindowRate& rate, Instant now) const {
        return rate.count != 0 && used_ != 0 && now < reopens(rate);
    }

private:
    Instant begin_;
    std::uint32_t used_ = 0;
};

}  // namespace sluice::policy
