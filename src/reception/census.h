#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>

#include "async/guarded.h"
#include "net/address.h"

namespace sluice::reception {

// Counts the clients of all shards, because connections_max and connections_per_client_max hold for the whole
// instance. Thread-safe: a lock, but taken only when a connection comes and when it goes.
class Census {
public:
    enum class Admission : std::uint8_t { admitted, too_many, too_many_of_client };

    // 0: no limit. Whoever was admitted must leave().
    Admission enter(const net::IpAddress& client, std::uint32_t total_max, std::uint32_t per_client_max);
    void leave(const net::IpAddress& client);
    std::uint32_t total() const;

private:
    struct Counts {
        std::uint32_t total = 0;
        absl::flat_hash_map<net::IpAddress, std::uint32_t> by_client;
    };
    async::Guarded<Counts> counts_;
};

}  // namespace sluice::reception
