#pragma once

#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "config/settings.h"
#include "policy/delivery.h"

namespace sluice::delivery {

struct NextAttempt {
    Instant when;
    bool notify = false;  // the sender is to be told of the delay
};

// When to try again after a temporary failure at `now`, the `failed_before`+1st of the item; nothing when the attempts are used up or the
// item has lived its lifetime, so that it expires. `how` is of delivery.yaml and may be null; what it does not say is as the settings
// say. Its last interval repeats; so does that of the settings where it gives a count. Intervals vary by ±10 % unless retry_jitter is off,
// and the last attempt falls at the end of the lifetime at the latest.
std::optional<NextAttempt> next_attempt(
    const config::OutboundSettings& settings, const policy::DeliverySettings* how, std::size_t failed_before, Instant arrival, Instant now,
    Random& random);

// When an item that failed so often would be tried again if all attempts failed, the next one at `first`; without jitter, and at most `most` times.
std::vector<Instant> tries_ahead(
    const config::OutboundSettings& settings, const policy::DeliverySettings* how, std::size_t failed_before, Instant first, Instant expires,
    std::size_t most);

// How long an item is tried.
Duration lifetime_of(const config::OutboundSettings& settings, const policy::DeliverySettings* how);

}  // namespace sluice::delivery
