#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace sluice::policy {

enum class RateAlgorithm : std::uint8_t {
    token_bucket,  // spread evenly: never more than `count` in any stretch of `per`, wherever it begins
    fixed_window,  // `count` as fast as they come, then nothing until `per` has passed since the first of them
};

// At most `count` messages start within `per`. Value.
//
// The token bucket gives one token every (per + slack) / count and holds as many as slack, a hundredth of `per`, is worth: so a
// decision that comes late is made up for, no stretch of `per` sees more than `count`, and what is lost to
// that is one part in a hundred.
class Rate {
public:
    Rate() = default;
    Rate(std::uint32_t count, Duration per, RateAlgorithm algorithm = RateAlgorithm::token_bucket);

    std::uint32_t count() const { return count_; }  // 0: no limit
    Duration per() const { return per_; }
    RateAlgorithm algorithm() const { return algorithm_; }
    std::string text() const;  // "50 per second", "10 per 60 s"
    friend bool operator==(const Rate&, const Rate&) = default;

private:
    friend class RateState;
    std::uint32_t count_ = 0;
    Duration per_{1'000};
    RateAlgorithm algorithm_ = RateAlgorithm::token_bucket;
    std::int64_t step_ns_ = 0;   // between tokens
    std::int64_t slack_ns_ = 0;  // how far ahead of the even pace a start may be
};

// What a bucket remembers for one rate. Value.
class RateState {
public:
    bool has_room(const Rate& rate, Instant now) const { return rate.count_ == 0 || now >= opens(rate); }
    // Counts one message; has_room() must hold.
    void take(const Rate& rate, Instant now);
    // From when on there is room, as far as is known now.
    Instant opens(const Rate& rate) const;
    // Until then something would be forgotten if this were thrown away.
    Instant remembers_until(const Rate& rate) const;
    bool matters(const Rate& rate, Instant now) const { return now < remembers_until(rate); }
    // Another rate holds from now on. What was counted stays counted, but nothing waits longer than an interval of the new rate.
    void adopt(const Rate& before, const Rate& after, Instant now);

private:
    std::int64_t mark_ = 0;   // token bucket: ns, when the next token is due at an even pace; fixed window: ms, its begin
    std::uint32_t used_ = 0;  // fixed window: since its begin
};

// A debt of octets, paid off at so many a second: a message may start when nothing is owed, and then owes its size. So no
// message is too large for a limit, and the mean is exact. Value.
class ByteState {
public:
    bool has_room(std::uint64_t per_second, Instant now) const { return per_second == 0 || now >= opens(); }
    void take(std::uint64_t per_second, std::uint64_t bytes, Instant now);
    Instant opens() const;
    bool matters(std::uint64_t per_second, Instant now) const { return per_second != 0 && now < opens(); }

private:
    std::int64_t paid_ns_ = 0;
};

using Properties = std::vector<std::pair<std::string, std::string>>;

// Bounds between which limits move with the outcomes. Value; 0: that limit does not move.
struct Adaptive {
    std::uint32_t concurrency_min = 0, concurrency_max = 0;
    std::uint32_t rate_min = 0, rate_max = 0;  // messages per `rate_per`
    Duration rate_per{0};

    bool any() const { return concurrency_max != 0 || rate_max != 0; }
    friend bool operator==(const Adaptive&, const Adaptive&) = default;
};

// What one bucket allows. Value. 0 and empty: no limit.
struct Limits {
    std::uint32_t concurrency = 0;              // sessions at once
    std::vector<Rate> rates;                    // all of them hold
    Duration connect_interval{0};               // between the openings of two sessions
    std::uint32_t messages_per_connection = 0;  // then the session is closed
    std::uint64_t bytes_per_second = 0;
    Adaptive adaptive;                          // see Adapting
    std::string transport;                      // mail goes out from the addresses of this one; empty: of its own
    std::string tag;                            // for people and hooks
    bool stop = false;                          // policies further down in the file do not count
    Properties properties;                      // opaque; for hooks

    bool any() const {
        return concurrency != 0 || !rates.empty() || connect_interval.count() != 0 || messages_per_connection != 0 ||
               bytes_per_second != 0 || adaptive.any() || !transport.empty();
    }
    // "10 sessions, 50 per second", or "no limit".
    std::string text() const;
    friend bool operator==(const Limits&, const Limits&) = default;
};

}  // namespace sluice::policy
