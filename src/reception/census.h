#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <limits>

#include "async/guarded.h"
#include "net/address.h"

namespace sluice::reception {

// Counts the clients of all shards, because connections_max and connections_per_client_max hold for the whole
// instance. Thread-safe: a lock, but taken only when a connection comes and when it goes.
class Census {
public:
    enum class Admission : std::uint8_t { admitted, too_many, too_many_of_client };

    // Never more clients than this, whatever enter() is told: their descriptors are needed elsewhere too.
    void cap(std::uint32_t total_max);

    // 0: no limit. Whoever was admitted must leave().
    Admission enter(const net::IpAddress& client, std::uint32_t total_max, std::uint32_t per_client_max);
    void leave(const net::IpAddress& client);
    std::uint32_t total() const;

private:
    struct Counts {
        std::uint32_t total = 0;
        std::uint32_t cap = std::numeric_limits<std::uint32_t>::max();
        absl::flat_hash_map<net::IpAddress, std::uint32_t> by_client;
    };
    async::Guarded<Counts> counts_;
};

}  // namespace sluice::reception
