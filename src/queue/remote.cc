#include "queue/remote.h"

#include "base/assert.h"

namespace sluice::queue {

Family family_of(std::string_view remote) {
    if (remote.starts_with('[')) return Family::ipv6;
    return remote.starts_with('/') ? Family::local : Family::ipv4;
}

std::string_view ip_of(std::string_view remote) {
    switch (family_of(remote)) {
        case Family::ipv4: return remote.substr(0, remote.rfind(':'));
        case Family::ipv6: return remote.substr(1, remote.find(']') - 1);
        case Family::local: return {};
    }
    UNREACHABLE();
}

std::string_view address_of(std::string_view remote) { return family_of(remote) == Family::local ? remote : ip_of(remote); }

std::string_view port_of(std::string_view remote) {
    const std::size_t colon = remote.rfind(':');
    const bool has_one = family_of(remote) != Family::local && colon != std::string_view::npos;
    return has_one ? remote.substr(colon + 1) : std::string_view();
}

}  // namespace sluice::queue
