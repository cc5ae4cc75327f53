#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"

namespace sluice::queue {

// How mail travels on a route, apart from where to. Part of the key under which connections are pooled. Value.
struct Transport {
    bool lmtp = false;
    bool force_tls = false;  // mandatory, verified
    std::string auth_user, auth_password, auth_type;  // credentials; empty user: none
    std::string helo;        // EHLO name; empty: `me`
    std::string bind;        // local address demanded by the route; empty: from the pools
    bool from_dns = true;    // false for static routes: local addresses are allowed
    friend bool operator==(const Transport&, const Transport&) = default;
};

// One way to hand over: an address of an MX host. Value.
struct Candidate {
    std::string mx_host;      // the name in the MX plan, for SNI, logs and DSNs; the address itself for literals
    std::string remote;       // endpoint text: "192.0.2.1:25", "[2001:db8::1]:25" or a socket path
    std::uint32_t level = 0;  // candidates of one level are equally preferred; lower levels first
    std::uint32_t preference = 0;  // the same by MX preference alone: a level is part of one preference
    friend bool operator==(const Candidate&, const Candidate&) = default;
};

// The ordered candidates towards one routing key (usually a domain). Immutable, shared.
struct Route {
    std::string key;
    std::vector<Candidate> candidates;  // by level; never empty
    Transport transport;
    std::uint32_t mx_hash = 0;          // CRC-32 of the MX addresses in order, for the choice of the source address
    Instant expires;                    // resolve again afterwards
};
using RoutePtr = std::shared_ptr<const Route>;

}  // namespace sluice::queue
