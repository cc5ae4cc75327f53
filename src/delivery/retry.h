#pragma once

#include <optional>

#include "base/clock.h"
#include "base/random.h"
#include "config/settings.h"

namespace sluice::delivery {

// When to try again after a temporary failure at `now`, the `failed_before`+1st of the item; nothing when the intervals
// are used up or the item has lived queue_lifetime, so that it expires. Intervals vary by ±10 % unless retry_jitter is
// off, and the last attempt falls at the end of the lifetime at the latest.
std::optional<Instant> next_attempt(
    const config::OutboundSettings& settings, std::size_t failed_before, Instant arrival, Instant now, Random& random);

}  // namespace sluice::delivery
