#include "sim/arrivals.h"

#include <algorithm>
#include <cmath>

namespace sluice::sim {

Arrivals::Arrivals(const Traffic& traffic, std::uint64_t seed) : traffic_(traffic) {
    for (const Source& source : traffic.sources) {
        Flow flow;
        flow.source = &source;
        flow.random = Random(seed * 0x9E3779B97F4A7C15ULL + flows_.size());
        flow.tenant = static_cast<std::uint32_t>(std::find(traffic.tenants.begin(), traffic.tenants.end(), source.tenant) - traffic.tenants.begin());
        const double minutes = static_cast<double>(traffic.lasts.count()) / 60'000;
        for (double at = 0; at < minutes; ++at) {
            flow.total += source.minutes[static_cast<std::size_t>(at) % source.minutes.size()] * std::min(minutes - at, 1.0);
        }
        double sum = 0;
        for (const auto& [domain, part] : source.to) flow.domains.push_back(sum += part);
        flows_.push_back(std::move(flow));
    }
    for (std::size_t flow = 0; flow < flows_.size(); ++flow) plan(flow);
}

void Arrivals::plan(std::size_t number) {
    Flow& flow = flows_[number];
    const Source& source = *flow.source;
    if (flow.sent == source.messages) return;
    const double part = (static_cast<double>(flow.sent) + flow.random.unit()) / static_cast<double>(source.messages);
    const double wanted = part * flow.total;
    const auto weight = [&] { return source.minutes[flow.minute % source.minutes.size()]; };
    while (weight() == 0 || flow.passed + weight() <= wanted) flow.passed += source.minutes[flow.minute++ % source.minutes.size()];
    const double minutes = static_cast<double>(flow.minute) + (wanted - flow.passed) / weight();
    const Duration at(std::min(static_cast<std::int64_t>(minutes * 60'000), traffic_.lasts.count()));
    ++flow.sent;
    agenda_.add(traffic_.begin + at, number);
}

Instant Arrivals::next() const {
    if (traffic_.recorded.empty()) return agenda_.next();
    return recorded_ == traffic_.recorded.size() ? Instant::max() : traffic_.begin + traffic_.recorded[recorded_].at;
}

Arrival Arrivals::take() {
    if (!traffic_.recorded.empty()) return traffic_.recorded[recorded_++];
    at_ = agenda_.next() - traffic_.begin;
    const std::size_t flow = agenda_.take();
    Arrival arrival = make(flows_[flow]);
    plan(flow);
    return arrival;
}

Arrival Arrivals::make(Flow& flow) {
    Arrival arrival;
    arrival.at = at_;
    arrival.tenant = flow.tenant;
    arrival.source = static_cast<std::uint32_t>(flow.source - traffic_.sources.data());
    arrival.priority = flow.source->priority;
    const double wanted = flow.random.unit() * flow.domains.back();
    const auto found = std::upper_bound(flow.domains.begin(), flow.domains.end() - 1, wanted);
    arrival.domain = flow.source->to[static_cast<std::size_t>(found - flow.domains.begin())].first;
    const Span size = flow.source->size;
    arrival.size = static_cast<std::uint32_t>(size.least + (size.most - size.least) * flow.random.unit());
    return arrival;
}

}  // namespace sluice::sim
