#include "control/failure_limit.h"

#include <algorithm>

namespace sluice::control {

bool FailureLimit::reached(const net::IpAddress& client, TimePoint now) const {
    const auto found = clients_.find(client);
    return found != clients_.end() && now < found->second.until && found->second.count >= failures_max;
}

void FailureLimit::add(const net::IpAddress& client, TimePoint now) {
    if (clients_.size() >= addresses_max && !clients_.contains(client)) forget_some(now);
    Failures& failures = clients_[client];
    if (now >= failures.until) failures = {0, now + window};
    ++failures.count;
}

void FailureLimit::forget_some(TimePoint now) {
    absl::erase_if(clients_, [now](const auto& entry) { return now >= entry.second.until; });
    if (clients_.size() < addresses_max) return;
    const auto older = [](const auto& a, const auto& b) { return a.second.until < b.second.until; };
    clients_.erase(std::min_element(clients_.begin(), clients_.end(), older));
}

}  // namespace sluice::control
