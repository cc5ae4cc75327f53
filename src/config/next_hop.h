#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::config {

// Where a static route leads. Value.
struct NextHop {
    bool lmtp = false;
    std::string host;            // name in lower case or address without brackets; empty for a socket
    std::uint16_t port = 0;      // 25, or 24 for LMTP, when not given
    std::string path;            // Unix socket
    std::string user, password;  // credentials for AUTH, percent-decoded; empty: none
    friend bool operator==(const NextHop&, const NextHop&) = default;
};

// `host`, `host:port`, `ip`, `ip:port`, `[v6]`, `[v6]:port`, a bare IPv6 address,
// `smtp://user:pass@host:port`, `lmtp://…`, `/socket` or `lmtp:///socket`. Errors: bad_input with a phrase
// that continues "expected".
Result<NextHop> parse_next_hop(std::string_view text);

}  // namespace sluice::config
