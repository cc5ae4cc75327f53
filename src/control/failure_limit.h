#pragma once

#include <absl/container/flat_hash_map.h>

#include <chrono>
#include <cstdint>

#include "net/address.h"

namespace sluice::control {

// Who offered wrong tokens lately. An address that did so too often is not listened to for a while, so a token cannot be
// found by trying. Bounded: when very many addresses fail at once, the oldest are forgotten first. Shard-owned.
class FailureLimit {
public:
    using TimePoint = std::chrono::steady_clock::time_point;

    static constexpr std::uint32_t failures_max = 20;
    static constexpr std::chrono::seconds window{60};  // from the first failure; the count then begins anew
    static constexpr std::size_t addresses_max = 10'000;

    bool reached(const net::IpAddress& client, TimePoint now) const;
    void add(const net::IpAddress& client, TimePoint now);

private:
    struct Failures {
        std::uint32_t count = 0;
        TimePoint until;
    };
    void forget_some(TimePoint now);

    absl::flat_hash_map<net::IpAddress, Failures> clients_;
};

}  // namespace sluice::control
