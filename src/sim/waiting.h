#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "queue/core.h"
#include "sim/rehearsal_report.h"

namespace sluice::sim {

// Looks at the core now and then, and sums up for which limits mail waited, how much of it and how long. One thread.
class Waiting {
public:
    explicit Waiting(policy::PolicySetPtr set) : set_(std::move(set)) {}

    // What waits now has waited since the last look, `passed` ago.
    void look(const queue::Core& core, Duration passed);

    // Of each policy, and of the buckets for which most waited longest.
    std::vector<Bound> policies() const;
    std::vector<Bound> buckets(std::size_t most) const;

private:
    struct Sum {
        std::string policy, bucket, limits;
        std::array<double, 3> lack{};  // message-seconds, by what was missing
        Duration blocked{0};
        std::uint64_t peak = 0;
        std::uint64_t items = 0;       // in the present look
        const policy::Limits* present = nullptr;
    };
    std::string name_of(const queue::BlockedBucket& bucket) const;
    static Bound bound(const Sum& sum);
    static std::vector<Bound> sorted(const std::vector<Sum>& sums);

    policy::PolicySetPtr set_;
    std::vector<Sum> policies_, buckets_;
    absl::flat_hash_map<const policy::Policy*, std::size_t> policy_places_;
    absl::flat_hash_map<std::string, std::size_t> bucket_places_;
    std::string key_;
};

}  // namespace sluice::sim
