#include "reception/census.h"

#include "base/assert.h"

namespace sluice::reception {

void Census::cap(std::uint32_t total_max) {
    counts_.with([&](Counts& counts) { counts.cap = total_max; });
}

Census::Admission Census::enter(
    const net::IpAddress& client, std::uint32_t total_max, std::uint32_t per_client_max) {
    return counts_.with([&](Counts& counts) {
        if (counts.total >= counts.cap) return Admission::too_many;
        if (total_max != 0 && counts.total >= total_max) return Admission::too_many;
        const auto known = counts.by_client.find(client);
        const std::uint32_t of_client = known == counts.by_client.end() ? 0 : known->second;
        if (per_client_max != 0 && of_client >= per_client_max) return Admission::too_many_of_client;
        counts.by_client[client] = of_client + 1;
        ++counts.total;
        return Admission::admitted;
    });
}

void Census::leave(const net::IpAddress& client) {
    counts_.with([&](Counts& counts) {
        const auto found = counts.by_client.find(client);
        ASSERT(found != counts.by_client.end() && found->second > 0 && counts.total > 0);
        --counts.total;
        if (--found->second == 0) counts.by_client.erase(found);
    });
}

std::uint32_t Census::total() const {
    return counts_.with([](const Counts& counts) { return counts.total; });
}

}  // namespace sluice::reception
