#pragma once

#include <absl/container/flat_hash_map.h>

#include <string>

#include "base/clock.h"

namespace sluice::delivery {

// Hosts with a weakness that was met once, by endpoint text, each for a while. Holds so many at most; whom it forgets too early is met
// again, which costs one more try. Shard-owned.
class HostMemory {
public:
    static constexpr std::size_t hosts_max = 50'000;

    bool has(const std::string& remote, Instant now) const {
        const auto found = until_.find(remote);
        return found != until_.end() && now < found->second;
    }
    void remember(const std::string& remote, Instant now, Duration time) {
        if (time <= Duration::zero()) return;
        if (until_.size() >= hosts_max) absl::erase_if(until_, [now](const auto& entry) { return entry.second <= now; });
        if (until_.size() >= hosts_max) until_.clear();
        until_[remote] = now + time;
    }

private:
    absl::flat_hash_map<std::string, Instant> until_;
};

}  // namespace sluice::delivery
