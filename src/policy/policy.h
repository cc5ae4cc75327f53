#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "base/clock.h"

namespace sluice::policy {

// What can be known of a delivery when it starts. The names are those of the policy file.
enum class Field : std::uint8_t {
    tenantid,         // known from submission
    recipientdomain,  // known from submission
    localip,          // known once a candidate is chosen
    remoteip,         // the same
    remotemx,         // the same
};
inline constexpr std::size_t field_count = 5;
const char* name_of(Field field);

// A set of fields. Value.
class FieldSet {
public:
    constexpr FieldSet() = default;
    constexpr FieldSet(std::initializer_list<Field> fields) {
        for (const Field field : fields) add(field);
    }
    constexpr void add(Field field) { bits_ = static_cast<std::uint8_t>(bits_ | bit(field)); }
    constexpr bool has(Field field) const { return (bits_ & bit(field)) != 0; }
    // Some value differs between the candidates of one route, so a reservation must name its candidate.
    constexpr bool depends_on_candidate() const {
        return has(Field::localip) || has(Field::remoteip) || has(Field::remotemx);
    }
    friend constexpr bool operator==(FieldSet, FieldSet) = default;

private:
    static constexpr std::uint8_t bit(Field field) {
        return static_cast<std::uint8_t>(1U << static_cast<unsigned>(field));
    }
    std::uint8_t bits_ = 0;
};

// A field's text as a number, given out by whoever interns it. Equal texts have equal numbers.
using Value = std::uint32_t;
inline constexpr Value unknown = ~Value{0};

// The fields of one delivery. Value.
struct FieldValues {
    std::array<Value, field_count> values{unknown, unknown, unknown, unknown, unknown};

    Value& operator[](Field field) { return values[static_cast<std::size_t>(field)]; }
    Value operator[](Field field) const { return values[static_cast<std::size_t>(field)]; }
    friend bool operator==(const FieldValues&, const FieldValues&) = default;
};

// At most `count` messages start in a window of length `per`. Value.
struct Rate {
    std::uint32_t count = 0;  // 0: no limit
    Duration per{1'000};
    friend bool operator==(const Rate&, const Rate&) = default;
};

// One kind of counter: `fields` says what makes a bucket, the rest what each bucket allows. Value.
// No fields: one bucket for the whole engine.
struct Policy {
    std::string name;               // for people
    FieldSet fields;
    std::uint32_t concurrency = 0;  // sessions at once; 0: no limit
    Rate rate;
    friend bool operator==(const Policy&, const Policy&) = default;
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
BucketKey bucket_key(std::uint32_t place, const Policy& policy, const FieldValues& values);

// What a bucket remembers for its rate: a window that begins with its first message. Value.
class RateWindow {
public:
    bool has_room(const Rate& rate, Instant now) const {
        return rate.count == 0 || used_ < rate.count || now >= reopens(rate);
    }
    // Counts one message; has_room() must hold.
    void take(const Rate& rate, Instant now) {
        if (rate.count == 0) return;
        if (used_ == 0 || now >= reopens(rate)) {
            begin_ = now;
            used_ = 0;
        }
        ++used_;
    }
    // When the present window is over.
    Instant reopens(const Rate& rate) const { return begin_ + rate.per; }
    // Something would be forgotten if this were thrown away.
    bool matters(const Rate& rate, Instant now) const {
        return rate.count != 0 && used_ != 0 && now < reopens(rate);
    }

private:
    Instant begin_;
    std::uint32_t used_ = 0;
};

}  // namespace sluice::policy
