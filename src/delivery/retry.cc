#include "delivery/retry.h"

#include <algorithm>
#include <cmath>

namespace sluice::delivery {

std::optional<Instant> next_attempt(
    const config::OutboundSettings& settings, std::size_t failed_before, Instant arrival, Instant now, Random& random) {
    const Instant end = arrival + settings.queue_lifetime;
    if (failed_before >= settings.temp_fail_intervals.size() || now >= end) return std::nullopt;
    Duration interval = settings.temp_fail_intervals[failed_before];
    if (settings.retry_jitter) {
        const double factor = 0.9 + 0.2 * random.unit();
        interval = Duration(std::llround(static_cast<double>(interval.count()) * factor));
    }
    return std::min(now + interval, end);
}

}  // namespace sluice::delivery
