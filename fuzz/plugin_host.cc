#include <boost/json/parse.hpp>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "plugin/facts.h"
#include "plugin/frames.h"

// What a plugin host may send: frames, cut at a place that the first byte chooses, and answers to get_mx in them. Hosts that
// come out of it can be connected to.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    using namespace sluice::plugin;
    if (size == 0) return 0;
    const std::string_view stream(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    const std::size_t cut = stream.size() * bytes[0] / 256;
    FrameReader reader;
    for (const std::string_view part : {stream.substr(0, cut), stream.substr(cut)}) {
        reader.append(part);
        for (;;) {
            const auto frame = reader.next();
            if (!frame) return 0;
            if (!*frame) break;
            boost::system::error_code error;
            const boost::json::value messages = boost::json::parse((*frame)->payload, error);
            if (error || !messages.is_array()) continue;
            for (const boost::json::value& message : messages.get_array()) {
                if (!message.is_object()) continue;
                ASSERT(seconds_member(message.get_object(), "seconds") >= Duration(0));
                const auto hosts = mx_member(message.get_object());
                if (!hosts) continue;
                for (const dns::Nexthop& host : *hosts) {
                    ASSERT(host.port != 0);
                    ASSERT(host.path.empty() ? host.address.has_value() || !host.host.empty() : host.path.front() == '/');
                }
            }
        }
    }
    return 0;
}
