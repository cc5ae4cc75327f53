#include "net/proxy.h"

#include <cstddef>
#include <cstdint>

#include "base/assert.h"

// The PROXY parser never reads beyond its bytes, and what it says about a header does not depend on how the
// bytes were cut: once it has refused or accepted, more bytes change nothing, and one byte less was
// incomplete or refused.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using sluice::net::parse_proxy_header;
    const std::string_view all(reinterpret_cast<const char*>(bytes), size);
    const auto whole = parse_proxy_header(all);
    if (!whole || !whole->has_value()) return 0;

    const sluice::net::ProxyHeader& header = **whole;
    ASSERT(header.size > 0 && header.size <= size && header.size <= sluice::net::proxy_header_bytes_max);
    for (std::size_t cut = 0; cut < header.size; ++cut) {
        const auto part = parse_proxy_header(all.substr(0, cut));
        ASSERT(part && !part->has_value());
    }
    const auto exact = parse_proxy_header(all.substr(0, header.size));
    ASSERT(exact && exact->has_value() && **exact == header);
    return 0;
}
