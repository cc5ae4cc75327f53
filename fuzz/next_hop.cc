#include "config/next_hop.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "config/syntax.h"

// Whatever the bytes: an accepted next hop has a host with a port, or a path; schedules and sizes stay in
// their bounds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice::config;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    if (const auto hop = parse_next_hop(text)) {
        ASSERT(hop->host.empty() != hop->path.empty());
        ASSERT(hop->path.empty() == (hop->port > 0));
    }
    if (const auto intervals = parse_intervals(text)) {
        ASSERT(intervals->size() <= 1000);
        const auto again = parse_intervals(format_intervals(*intervals));
        ASSERT(again.has_value() || !intervals->empty());
    }
    if (const auto endpoint = parse_endpoint(text, 25))
        ASSERT(parse_endpoint(endpoint->text(), 25).has_value());
    if (const auto cidr = parse_cidr(text)) ASSERT(parse_cidr(*cidr) == cidr);
    return 0;
}
