#include "reception/census.h"

#include "base/assert.h"

namespace sluice::reception {

Census::Admission Census::enter(
    const net::IpAddress& client, std::uint32_t total_max, std::uint32_t per_client_max) {
    const std::scoped_lock lock(mutex_);
    if (total_max != 0 && total_ >= total_max) return Admission::too_many;
    std::uint32_t& of_client = by_client_[client];
    if (per_client_max != 0 && of_client >= per_client_max) return Admission::too_many_of_client;
    ++of_client;
    ++total_;
    return Admission::admitted;
}

void Census::leave(const net::IpAddress& client) {
    const std::scoped_lock lock(mutex_);
    const auto found = by_client_.find(client);
    ASSERT(found != by_client_.end() && found->second > 0 && total_ > 0);
    --total_;
    if (--found->second == 0) by_client_.erase(found);
}

std::uint32_t Census::total() const {
    const std::scoped_lock lock(mutex_);
    return total_;
}

}  // namespace sluice::reception
