#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "net/address.h"

namespace sluice::net {

// What a load balancer says about the connection it passes on (the PROXY protocol, versions 1 and 2). Value.
struct ProxyHeader {
    // The balancer speaks for itself (a health check, or UNKNOWN): the addresses of the connection hold.
    bool local = true;
    Endpoint source;
    Endpoint destination;
    std::size_t size = 0;  // so many bytes belong to the header; what follows is the client's

    friend bool operator==(const ProxyHeader&, const ProxyHeader&) = default;
};

enum class ProxyVersions : std::uint8_t { any, only_v1, only_v2 };

// A header never needs more: 107 bytes in version 1; in version 2 this is our limit, with room for TLVs.
inline constexpr std::size_t proxy_header_bytes_max = 4096;

// Reads the header at the start of `bytes`; nothing as long as it is incomplete. An error (bad_input,
// too_large) is reported at the first byte of a foreign protocol, at the latest at the end of the header or
// its limit; the connection is then to be closed without a word.
Result<std::optional<ProxyHeader>> parse_proxy_header(
    std::string_view bytes, ProxyVersions versions = ProxyVersions::any
);

}  // namespace sluice::net
