#pragma once

#include <cstdint>

#include "base/clock.h"
#include "policy/limits.h"
#include "policy/observation.h"

namespace sluice::policy {

// A number that moves between two bounds: up while all goes well and it is what holds us back, down by a quarter when the other side
// objects. It begins low and doubles (slow start) until the first objection; from there on it grows slowly. Value.
class MovingLimit {
public:
    MovingLimit() = default;
    MovingLimit(std::uint32_t min, std::uint32_t max) : min_(min), max_(max), value_(min), ceiling_(max) {}

    std::uint32_t value() const { return static_cast<std::uint32_t>(value_); }
    bool moves() const { return max_ != 0; }
    // `step`: how much it grows while a whole window goes well.
    void succeed(double step);
    void cut();
    // Nobody answers: from the start, but not blindly up to where it was.
    void collapse();
    bool has_moved() const { return value_ != min_ || ceiling_ != max_; }

private:
    double min_ = 0, max_ = 0;
    double value_ = 0;
    double ceiling_ = 0;  // up to here it doubles
};

// What one bucket learned from the outcomes, within the bounds of Limits::adaptive. Objections to one crowd of messages count once:
// sessions that were open together, or messages of one interval of the rate. Owned by one thread.
class Adapting {
public:
    explicit Adapting(const Limits& base) { obey(base); }

    // Other bounds and limits from now on; what was learned stays as far as it fits.
    void obey(const Limits& base);
    const Limits& limits() const { return limits_; }
    const Limits& base() const { return base_; }
    // What limits() was before it moved last.
    const Limits& before() const { return before_; }

    // A message was taken. `was_full`: the limits held something back. True when they moved.
    bool delivered(bool was_full, Instant now);
    bool failed(Failure failure, Instant now);

    // A move that people want to hear of, once: downwards, or by a quarter.
    bool is_news();
    std::string text() const;
    // Until then something would be forgotten if this were thrown away.
    Instant remembers_until() const;

private:
    bool apply();
    void make_limits();

    Limits base_, limits_, before_;
    MovingLimit concurrency_, rate_;
    std::uint32_t spared_ = 0;      // outcomes of the crowd that was objected to
    Instant rate_spared_until_;
    std::uint32_t unanswered_ = 0;  // in a row
    Instant last_;
    std::uint32_t applied_concurrency_ = 0, applied_rate_ = 0;
    std::uint32_t told_concurrency_ = 0, told_rate_ = 0;
    bool was_cut_ = false;
};

}  // namespace sluice::policy
