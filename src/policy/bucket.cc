#include "policy/bucket.h"

#include <algorithm>

namespace sluice::policy {

Instant BucketState::opens(const Limits& limits) const {
    Instant opens = limits.bytes_per_second != 0 ? bytes_.opens() : Instant{};
    for (std::size_t i = 0; i < rates_.size() && i < limits.rates.size(); ++i) {
        opens = std::max(opens, rates_[i].opens(limits.rates[i]));
    }
    return opens;
}

void BucketState::take(const Limits& limits, std::uint64_t bytes, Instant now) {
    if (!limits.rates.empty()) {
        rates_.resize(limits.rates.size());
        for (std::size_t i = 0; i < rates_.size(); ++i) rates_[i].take(limits.rates[i], now);
    }
    bytes_.take(limits.bytes_per_second, bytes, now);
}

Instant BucketState::remembers_until(const Limits& limits) const {
    Instant until = std::max(connects_, limits.bytes_per_second != 0 ? bytes_.opens() : Instant{});
    for (std::size_t i = 0; i < rates_.size() && i < limits.rates.size(); ++i) {
        until = std::max(until, rates_[i].remembers_until(limits.rates[i]));
    }
    return until;
}

void BucketState::adopt(const Limits& before, const Limits& after, Instant now) {
    if (before.connect_interval != after.connect_interval) connects_ = std::min(connects_, now + after.connect_interval);
    if (before.bytes_per_second != after.bytes_per_second) bytes_ = {};
    if (before.rates == after.rates || rates_.empty()) return;
    rates_.resize(after.rates.size());
    for (std::size_t i = 0; i < rates_.size(); ++i) {
        if (i < before.rates.size()) rates_[i].adopt(before.rates[i], after.rates[i], now);
    }
}

}  // namespace sluice::policy
