#include "plugin/native_reply.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <chrono>
#include <cstring>
#include <string_view>

#include "base/text.h"
#include "mail/header.h"
#include "plugin/facts.h"
#include "plugin/images.h"
#include "plugin/native_event.h"
#include "plugin/native_structures.h"

namespace sluice::plugin {
namespace {

constexpr std::size_t mx_count_max = 100;
constexpr std::size_t text_bytes_max = 4 * 1024;
constexpr std::size_t fields_max = 100, field_name_bytes_max = 76, field_value_bytes_max = 64 * 1024;
constexpr std::size_t words_lines_max = 100;
constexpr std::size_t word_bytes_max = 900, line_bytes_usual = 78;
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

bool is_field_name(std::string_view name) {
    if (name.empty() || name.size() > field_name_bytes_max) return false;
    return std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f' && c != ':'; });
}

// RFC 5322 §2.1.1: a line has at most 998 octets, and may end before a blank only.
bool can_be_folded(std::string_view value) {
    std::size_t word = 0;
    for (const char c : value) {
        word = is_space(c) ? 0 : word + 1;
        if (word > word_bytes_max) return false;
    }
    return true;
}

// Nothing when it is no field.
std::optional<NativeField> field_of(const sluice_header& given) {
    const std::string_view name = view_of(given.name), value = view_of(given.value);
    if (!is_field_name(name) || value.size() > field_value_bytes_max) return std::nullopt;
    NativeField field{given.first != 0, std::string(name), mail::unfolded(value)};
    return can_be_folded(field.value) ? std::optional(std::move(field)) : std::nullopt;
}

}  // namespace

std::string NativeField::text() const {
    std::string whole = name + ":";
    std::size_t column = whole.size();
    for (std::size_t at = 0; at < value.size();) {
        const std::size_t begin = std::min(value.find_first_not_of(" \t", at), value.size());
        const std::size_t end = std::min(value.find_first_of(" \t", begin), value.size());
        // The first word stays beside the name: a line of nothing but blanks is none.
        if (at > 0 && column + 1 + (end - begin) > line_bytes_usual) {
            whole += "\r\n";
            column = 0;
        }
        whole.append(1, ' ').append(value, begin, end - begin);
        column += 1 + end - begin;
        at = end;
    }
    return whole + "\r\n";
}

void NativeReply::take(const sluice_answer& given) {
    const sluice_answer answer = plugin::take(&given);
    code = answer.code;
    force_tls = (answer.flags & SLUICE_FORCE_TLS) != 0;
    delay = std::clamp(Duration(answer.delay_ms), Duration(0), delay_max);
    reason = view_of(answer.reason).substr(0, text_bytes_max);
    // One octet more than is accepted, so that noted() can tell.
    notes = view_of(answer.notes).substr(0, notes_bytes_max + 1);
    mx.clear();
    each_of(answer.mx, std::min(answer.mx_count, mx_count_max), [this](const sluice_mx& one) { append_mx(mx, one); });
    reply_code = static_cast<int>(std::min<std::uint32_t>(answer.reply_code, 1000));
    relaying.reset();
    if ((answer.flags & SLUICE_RELAY) != 0) relaying = true;
    if ((answer.flags & SLUICE_DO_NOT_RELAY) != 0) relaying = false;
    fields.clear();
    bad_field = answer.header_count > fields_max;
    each_of(answer.headers, std::min(answer.header_count, fields_max), [this](const sluice_header& one) {
        auto field = field_of(one);
        bad_field |= !field;
        if (field) fields.push_back(std::move(*field));
    });
}

std::vector<std::string> NativeReply::words() const {
    std::vector<std::string> lines;
    for (const std::string_view line : split(reason, '\n')) {
        const std::string_view words = trim(line);
        if (!words.empty() && lines.size() < words_lines_max) lines.emplace_back(words);
    }
    return lines;
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
