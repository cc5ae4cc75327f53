#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace sluice::policy {

// The minutes that a cron expression names: "minute hour day month weekday", each `*`, numbers, ranges and steps, as in
// "*/10 8-17 * * 1-5". As in cron, day and weekday are alternatives when both are given. UTC. Value.
class Cron {
public:
    static Result<Cron> parse(std::string_view text);

    bool matches(Instant at) const;
    // The first minute after `after` in which matches() changes; nothing within the next four years.
    std::optional<Instant> next_change(Instant after) const;
    const std::string& text() const { return text_; }
    friend bool operator==(const Cron&, const Cron&) = default;

private:
    bool matches_day(std::int64_t day) const;

    std::string text_;
    std::uint64_t minutes_ = 0;
    std::uint64_t hours_ = 0, days_ = 0, months_ = 0, weekdays_ = 0;
    bool any_day_ = false, any_weekday_ = false;
};

}  // namespace sluice::policy
