#include "plugin/native_reply.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <chrono>
#include <cstring>
#include <string_view>

#include "plugin/facts.h"
#include "plugin/native_event.h"
#include "plugin/native_structures.h"

namespace sluice::plugin {
namespace {

constexpr std::size_t mx_count_max = 100;
constexpr std::size_t notes_bytes_max = 64 * 1024;
constexpr std::size_t text_bytes_max = 4 * 1024;
constexpr Duration delay_max = std::chrono::hours(24 * 366);

// Texts with their lengths, one after the other.
void append_text(std::string& out, const sluice_text& text) {
    const std::string_view bytes = view_of(text).substr(0, text_bytes_max);
    const auto size = static_cast<std::uint16_t>(bytes.size());
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
    out += bytes;
}

std::string_view next_text(std::string_view& in) {
    std::uint16_t size = 0;
    std::memcpy(&size, in.data(), sizeof size);
    const std::string_view text = in.substr(sizeof size, size);
    in.remove_prefix(sizeof size + size);
    return text;
}

// In the order in which host_of() reads them.
void append_mx(std::string& out, const sluice_mx& mx) {
    out.append(reinterpret_cast<const char*>(&mx.port), sizeof mx.port);
    out.append(reinterpret_cast<const char*>(&mx.flags), sizeof mx.flags);
    for (const sluice_text* text :
         {&mx.next_hop, &mx.host, &mx.path, &mx.user, &mx.password, &mx.auth_type, &mx.helo, &mx.bind}) {
        append_text(out, *text);
    }
}

// As JavaScript plugins' hosts come, so that both are checked in the same way.
boost::json::object host_of(std::string_view& in, std::string& next_hop) {
    std::uint16_t port = 0, flags = 0;
    std::memcpy(&port, in.data(), sizeof port);
    std::memcpy(&flags, in.data() + sizeof port, sizeof flags);
    in.remove_prefix(sizeof port + sizeof flags);
    next_hop = next_text(in);
    boost::json::object host;
    for (const char* name : {"host", "path", "user", "password", "auth", "helo", "bind"}) {
        const std::string_view text = next_text(in);
        if (!text.empty()) host[name] = text;
    }
    if (port != 0) host["port"] = static_cast<std::int64_t>(port);
    if ((flags & SLUICE_MX_LMTP) != 0 || host.contains("path")) host["lmtp"] = true;
    return host;
}

}  // namespace

void NativeReply::take(const sluice_answer& given) {
    const sluice_answer answer = plugin::take(&given);
    code = answer.code;
    force_tls = (answer.flags & SLUICE_FORCE_TLS) != 0;
    delay = std::clamp(Duration(answer.delay_ms), Duration(0), delay_max);
    reason = view_of(answer.reason).substr(0, text_bytes_max);
    // One octet more than is accepted, so that noted() can tell.
    notes = view_of(answer.notes).substr(0, notes_bytes_max + 1);
    mx.clear();
    if (answer.mx == nullptr) return;
    const auto* bytes = reinterpret_cast<const char*>(answer.mx);
    const std::size_t stride = plugin::take(answer.mx).size;
    for (std::size_t i = 0; i < std::min(answer.mx_count, mx_count_max); ++i) {
        append_mx(mx, plugin::take(reinterpret_cast<const sluice_mx*>(bytes + i * stride)));
    }
}

Result<std::vector<dns::Nexthop>> NativeReply::hosts() const {
    std::vector<dns::Nexthop> hosts;
    std::string_view rest = mx;
    while (!rest.empty()) {
        std::string next_hop;
        boost::json::object host = host_of(rest, next_hop);
        if (!next_hop.empty()) {
            auto hop = dns::parse_nexthop(next_hop);
            if (!hop) return fail(Errc::bad_input, "get_mx named a host that is none: " + hop.error().detail);
            hosts.push_back(std::move(*hop));
            continue;
        }
        boost::json::object answer;
        answer["mx"] = boost::json::array{std::move(host)};
        TRY(std::vector<dns::Nexthop> one, mx_member(answer));
        hosts.push_back(std::move(one.front()));
    }
    if (hosts.empty()) return fail(Errc::bad_input, "get_mx named no host");
    return hosts;
}

Result<boost::json::object> NativeReply::noted() const {
    if (notes.empty()) return boost::json::object();
    if (notes.size() > notes_bytes_max) return fail(Errc::too_large, "notes of more than 64 Ki octets");
    boost::system::error_code error;
    boost::json::value parsed = boost::json::parse(notes, error);
    if (error || !parsed.is_object()) return fail(Errc::bad_input, "notes that are no JSON object");
    return std::move(parsed.get_object());
}

}  // namespace sluice::plugin
