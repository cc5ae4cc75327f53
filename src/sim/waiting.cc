#include "sim/waiting.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace sluice::sim {
namespace {

constexpr std::array lack_names = {"sessions", "rate", "connect interval"};

}  // namespace

void Waiting::look(const queue::Core& core, Duration passed) {
    const double seconds = static_cast<double>(passed.count()) / 1e3;
    for (Sum& sum : policies_) sum.items = 0;
    core.each_blocked([&](const queue::BlockedBucket& bucket) {
        const auto [policy, is_new] = policy_places_.try_emplace(bucket.policy, policies_.size());
        if (is_new) policies_.push_back({.policy = bucket.policy->name, .bucket = {}, .limits = {}});
        Sum& whole = policies_[policy->second];
        whole.items += bucket.items;

        // The policy's place and the values name the bucket; NUL is in no value.
        key_.assign(std::to_string(policy->second));
        for (std::size_t i = 0; i < bucket.policy->fields.size(); ++i) {
            key_ += (bucket.groups >> i & 1U) != 0 ? std::string_view("\0#", 2) : std::string_view("\0", 1);
            key_ += bucket.values[i];
        }
        const auto [place, is_first] = bucket_places_.try_emplace(key_, buckets_.size());
        if (is_first) buckets_.push_back({.policy = bucket.policy->name, .bucket = name_of(bucket), .limits = {}});
        Sum& sum = buckets_[place->second];
        if (sum.present != bucket.limits) sum.limits = bucket.limits->text();
        sum.present = bucket.limits;
        const double waited = seconds * static_cast<double>(bucket.items);
        for (Sum* const one : {&sum, &whole}) one->lack[static_cast<std::size_t>(bucket.lack)] += waited;
        sum.blocked += passed;
        sum.peak = std::max(sum.peak, bucket.items);
    });
    for (Sum& sum : policies_) {
        if (sum.items > 0) sum.blocked += passed;
        sum.peak = std::max(sum.peak, sum.items);
    }
}

std::string Waiting::name_of(const queue::BlockedBucket& bucket) const {
    std::string name;
    for (std::size_t i = 0; i < bucket.policy->fields.size(); ++i) {
        const policy::Field field = bucket.policy->fields[i];
        name += name.empty() ? "" : ", ";
        name += set_ != nullptr ? set_->fields.name_of(field) : policy::name_of(field);
        name += (bucket.groups >> i & 1U) != 0 ? " #" : " ";
        name += bucket.values[i].empty() ? std::string_view("\"\"") : bucket.values[i];
    }
    return name.empty() ? "all mail" : name;
}

Bound Waiting::bound(const Sum& sum) {
    Bound bound{sum.policy, sum.bucket, sum.limits, {}, sum.blocked, 0, sum.peak, 0};
    bound.message_seconds = std::accumulate(sum.lack.begin(), sum.lack.end(), 0.0);
    bound.lack = lack_names[static_cast<std::size_t>(std::max_element(sum.lack.begin(), sum.lack.end()) - sum.lack.begin())];
    if (sum.blocked > Duration::zero()) bound.waiting_mean = bound.message_seconds / (static_cast<double>(sum.blocked.count()) / 1e3);
    return bound;
}

std::vector<Bound> Waiting::sorted(const std::vector<Sum>& sums) {
    std::vector<Bound> bounds;
    for (const Sum& sum : sums) bounds.push_back(bound(sum));
    std::sort(bounds.begin(), bounds.end(), [](const Bound& a, const Bound& b) {
        return a.message_seconds != b.message_seconds ? a.message_seconds > b.message_seconds
                                                      : std::tie(a.policy, a.bucket) < std::tie(b.policy, b.bucket);
    });
    return bounds;
}

std::vector<Bound> Waiting::policies() const { return sorted(policies_); }

std::vector<Bound> Waiting::buckets(std::size_t most) const {
    std::vector<Bound> bounds = sorted(buckets_);
    if (bounds.size() > most) bounds.resize(most);
    return bounds;
}

}  // namespace sluice::sim
