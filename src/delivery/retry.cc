#include "delivery/retry.h"

#include <algorithm>
#include <cmath>

namespace sluice::delivery {
namespace {

using Retry = policy::DeliverySettings::Retry;

// The step after so many failures before.
std::optional<Retry> step_after(
    const config::OutboundSettings& settings, const policy::DeliverySettings* how, std::size_t failed_before) {
    const bool counted = how != nullptr && how->retry_count;
    if (counted && failed_before >= *how->retry_count) return std::nullopt;
    if (how != nullptr && !how->retries.empty()) return how->retries[std::min(failed_before, how->retries.size() - 1)];
    const auto& intervals = settings.temp_fail_intervals;
    if (intervals.empty() || (!counted && failed_before >= intervals.size())) return std::nullopt;
    return Retry{intervals[std::min(failed_before, intervals.size() - 1)]};
}

}  // namespace

Duration lifetime_of(const config::OutboundSettings& settings, const policy::DeliverySettings* how) {
    return how != nullptr ? how->lifetime.value_or(settings.queue_lifetime) : settings.queue_lifetime;
}

std::optional<NextAttempt> next_attempt(
    const config::OutboundSettings& settings, const policy::DeliverySettings* how, std::size_t failed_before, Instant arrival, Instant now,
    Random& random) {
    const Instant end = arrival + lifetime_of(settings, how);
    const auto step = step_after(settings, how, failed_before);
    if (!step || now >= end) return std::nullopt;
    Duration interval = step->after;
    if (settings.retry_jitter) {
        const double factor = 0.9 + 0.2 * random.unit();
        interval = Duration(std::llround(static_cast<double>(interval.count()) * factor));
    }
    return NextAttempt{std::min(now + interval, end), step->notify};
}

std::vector<Instant> tries_ahead(
    const config::OutboundSettings& settings, const policy::DeliverySettings* how, std::size_t failed_before, Instant first, Instant expires,
    std::size_t most) {
    std::vector<Instant> tries;
    for (Instant at = first; at < expires && tries.size() < most; ++failed_before) {
        const auto step = step_after(settings, how, failed_before);
        if (!step) break;
        at = std::min(at + step->after, expires);
        tries.push_back(at);
    }
    return tries;
}

}  // namespace sluice::delivery
