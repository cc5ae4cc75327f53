#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "sim/traffic.h"

// The files of `sluice policy simulate`. A first byte chooses: 't' made-up mail, 'r' receivers alone, 'e' what events.jsonl told. Whatever the
// octets: traffic whose parts fit together, or an error about a line that exists.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    using namespace sluice::sim;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    Problems problems;
    std::optional<Traffic> traffic;
    if (bytes[0] == 'r') {
        traffic.emplace();
        if (!parse_receivers(text, "f", *traffic, problems)) traffic.reset();
    } else {
        traffic = bytes[0] == 'e' ? parse_recording(text, "f", problems) : parse_traffic(text, "f", problems);
    }
    ASSERT(traffic.has_value() == !problems.any_error());
    for (const Problem& problem : problems.all()) ASSERT(!problem.message.empty() && problem.line >= 0);
    if (!traffic) return 0;
    ASSERT(traffic->receiver_of.size() == traffic->domains.size());
    for (const std::uint32_t receiver : traffic->receiver_of) ASSERT(receiver < traffic->receivers.size());
    traffic->messages();
    return 0;
}
