#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::policy {

// The local addresses that mail of one transport goes out from. Value.
struct LocalPool {
    enum class Order : std::uint8_t {
        sticky,  // the same correspondents keep the same address while it has room
        spread,  // by weight
        fill,    // the first one that has room
    };
    struct Source {
        std::string address;
        std::uint32_t weight = 1;  // at least 1; with `spread`
        std::string helo;          // the EHLO name; "": the usual one
        friend bool operator==(const Source&, const Source&) = default;
    };
    std::string transport;  // the transportid
    Order order = Order::spread;
    std::vector<Source> sources;  // of both families; empty: as mail without a transport
    friend bool operator==(const LocalPool&, const LocalPool&) = default;
};
// A decision looks at no more addresses of a family.
inline constexpr std::size_t local_addresses_max = 64;

}  // namespace sluice::policy
