#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/address.h"
#include "queue/route.h"

namespace sluice::dns {

// Where a static route leads: exactly one of path, address and host is there. Value.
struct Nexthop {
    std::string path;  // Unix socket, always LMTP
    std::optional<net::IpAddress> address;
    std::string host;  // a name in A-labels whose A and AAAA count, never its MX
    std::uint16_t port = 25;
    queue::Transport transport;
};

// Reads `host`, `host:port`, an IP address, `ip:port`, `[v6]`, `[v6]:port`, `smtp://user:password@host:port`,
// `lmtp://host:port`, `lmtp:///path` and `/path`. The port defaults to 25, for LMTP to 24. User and password
// are percent-decoded. Anything else is Errc::config; its detail never shows the credentials.
Result<Nexthop> parse_nexthop(std::string_view text);

}  // namespace sluice::dns
