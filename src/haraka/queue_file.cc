#include "haraka/queue_file.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>
#include <optional>
#include <utility>

#include "base/result.h"
#include "base/text.h"
#include "mail/header.h"

namespace sluice::haraka {
namespace {

namespace json = boost::json;

constexpr std::size_t length_octets = 4;
constexpr std::size_t todo_octets_max = 64 << 20;
// Deeper than any notes that somebody meant.
constexpr std::size_t nesting_max = 200;
constexpr std::size_t local_octets_max = 900;  // fits a line of SMTP
constexpr std::size_t uuid_octets_max = 100;

tl::unexpected<Fault> fault(std::uint64_t offset, std::string reason) {
    return tl::unexpected<Fault>(Fault{offset, std::move(reason)});
}

// ---- the todo -------------------------------------------------------------------------------------------------

std::optional<unsigned> hex_of(std::string_view digits) {
    unsigned value = 0;
    for (const char c : digits) {
        const char low = ascii_lower(c);
        if (!is_digit(c) && (low < 'a' || low > 'f')) return std::nullopt;
        value = value * 16 + static_cast<unsigned>(is_digit(c) ? c - '0' : low - 'a' + 10);
    }
    return value;
}

// The number of the escape \uXXXX that begins at `at`.
std::optional<unsigned> escaped_unit(std::string_view text, std::size_t at) {
    if (at + 6 > text.size() || text.substr(at, 2) != "\\u") return std::nullopt;
    return hex_of(text.substr(at + 2, 4));
}

// JavaScript writes half a character, where a plugin cut a text, as the escape of half a surrogate pair. JSON readers refuse that:
// U+FFFD stands there afterwards, of the same length.
std::string with_whole_characters(std::string_view text) {
    std::string out(text);
    for (std::size_t at = out.find('\\'); at != std::string::npos && at + 1 < out.size(); at = out.find('\\', at)) {
        const auto unit = escaped_unit(out, at);
        if (!unit || *unit < 0xD800 || *unit > 0xDFFF) {
            at += 2;
            continue;
        }
        const auto next = *unit < 0xDC00 ? escaped_unit(out, at + 6) : std::nullopt;
        const bool whole = next && *next >= 0xDC00 && *next <= 0xDFFF;
        if (!whole) out.replace(at, 6, "\\ufffd");
        at += whole ? 12 : 6;
    }
    return out;
}

// On an error `at` is where.
std::optional<json::value> parse_json(std::string_view text, std::size_t& at, std::string& reason) {
    json::parse_options options;
    options.max_depth = nesting_max;
    options.allow_invalid_utf8 = true;
    json::stream_parser parser({}, options);
    json::error_code error;
    at = parser.write_some(text.data(), text.size(), error);
    if (!error && at < text.size()) error = json::error::extra_data;
    if (!error) parser.finish(error);
    if (!error) return parser.release();
    reason = error.message();
    return std::nullopt;
}

std::string text_of(const json::value* value) {
    return value != nullptr && value->is_string() ? std::string(std::string_view(value->get_string())) : std::string();
}

std::string text_of(const json::object& object, std::string_view key) { return text_of(object.if_contains(key)); }

// ---- addresses ------------------------------------------------------------------------------------------------

bool has_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

Result<mail::Address> parsed_path(std::string text) {
    if (!text.starts_with('<')) text = "<" + text + ">";
    mail::PathSyntax syntax;
    syntax.allow_null = true;
    return mail::parse_path(text, syntax);
}

// The parts as Haraka would have sent them, with a domain that can be asked for. A quoted local part stands there with its quotes.
Result<mail::Address> address_of_parts(const std::string& user, const std::string& host) {
    if (user.starts_with('"')) return parsed_path("<" + user + "@" + host + ">");
    if (host.empty()) return fail(Errc::bad_input, "an address without a domain");
    if (has_control(user) || !is_valid_utf8(user)) return fail(Errc::bad_input, "an address with control characters");
    if (user.size() > local_octets_max) return fail(Errc::bad_input, "an address with a local part that is too long");
    TRY(mail::Address address, parsed_path("<x@" + host + ">"));
    TRY_VOID(mail::normalise_domain(address.domain));
    address.local = user;
    return address;
}

// A text, or an object of any generation: with `user` and `host`, since 2.8 also `original_host`, which has the host as it was written.
Result<mail::Address> address_of(const json::value* value) {
    if (value != nullptr && value->is_string()) return parsed_path(text_of(value));
    if (value == nullptr || !value->is_object()) return fail(Errc::bad_input, "an address is expected");
    const json::object& parts = value->get_object();
    const std::string user = text_of(parts, "user");
    if (user.empty()) return parsed_path(text_of(parts, "original"));
    const std::string written = text_of(parts, "original_host");
    return address_of_parts(user, written.empty() ? text_of(parts, "host") : written);
}

// What plugins added to an address. What the last attempt said of it is left out: it is over.
std::string noted_on(const json::value& value) {
    constexpr std::array own{"original", "original_host", "host", "user", "is_utf8", "phrase", "comment", "group",
                             "opts",     "address",       "_kind", "reason"};
    json::object noted;
    if (!value.is_object()) return {};
    for (const auto& member : value.get_object()) {
        const std::string_view key(member.key().data(), member.key().size());
        if (std::find(own.begin(), own.end(), key) == own.end() && !key.starts_with("dsn_")) noted[key] = member.value();
    }
    return noted.empty() ? std::string() : with_valid_utf8(json::serialize(noted));
}

// ---- what the todo says ---------------------------------------------------------------------------------------

class TodoReader {
public:
    TodoReader(std::string_view text, const json::object& todo) : text_(text), todo_(todo) {}

    tl::expected<QueueFile, Fault> read() {
        QueueFile file;
        const json::value* const sender = todo_.if_contains("mail_from");
        Result<mail::Address> reverse_path = address_of(sender);
        if (!reverse_path) return at("mail_from", reverse_path.error().detail);
        file.reverse_path = std::move(*reverse_path);
        const json::value* const recipients = todo_.if_contains("rcpt_to");
        if (recipients == nullptr || !recipients->is_array() || recipients->get_array().empty()) {
            return at("rcpt_to", "no recipients");
        }
        for (const json::value& recipient : recipients->get_array()) {
            Result<mail::Address> address = address_of(&recipient);
            if (address && address->is_null()) address = fail(Errc::bad_input, "a recipient without an address");
            if (!address) return at("rcpt_to", address.error().detail);
            file.recipients.push_back({std::move(*address), noted_on(recipient)});
        }
        const std::string domain = text_of(todo_, "domain");
        const Result<std::string> routed =
            mail::normalise_domain(domain.empty() ? file.recipients.front().address.domain : domain);
        if (!routed) return at("domain", routed.error().detail);
        file.domain = *routed;
        read_rest(file);
        return file;
    }

private:
    void read_rest(QueueFile& file) const {
        const json::value* const time = todo_.if_contains("queue_time");
        if (time != nullptr && time->is_int64()) file.queue_time_ms = std::max<std::int64_t>(time->get_int64(), 0);
        const json::value* const notes = todo_.if_contains("notes");
        if (notes != nullptr && notes->is_object() && !notes->get_object().empty()) file.notes = with_valid_utf8(json::serialize(*notes));
        const json::value* const force = todo_.if_contains("force_tls");
        file.force_tls = force != nullptr && force->is_bool() && force->get_bool();
        file.uuid = text_of(todo_, "uuid");
        const bool plain = std::all_of(file.uuid.begin(), file.uuid.end(), [](char c) { return c > ' ' && c < 0x7F; });
        if (!plain || file.uuid.size() > uuid_octets_max) file.uuid.clear();
    }

    tl::unexpected<Fault> at(std::string_view key, std::string reason) const {
        const std::size_t found = text_.find('"' + std::string(key) + '"');
        return fault(length_octets + (found == std::string_view::npos ? 0 : found), std::string(key) + ": " + std::move(reason));
    }

    std::string_view text_;
    const json::object& todo_;
};

// ---- the message ----------------------------------------------------------------------------------------------

// A dot alone would have ended the message; no version writes it.
std::string without_stuffing(std::string_view wire) {
    std::string text;
    text.reserve(wire.size() + 2);
    while (!wire.empty()) {
        const std::size_t end = std::min(wire.find('\n'), wire.size() - 1) + 1;
        std::string_view line = wire.substr(0, end);
        wire.remove_prefix(end);
        if (line.starts_with('.') && trim(line) != ".") line.remove_prefix(1);
        text.append(line);
    }
    return text;
}

void take_message(std::string_view wire, QueueFile& file) {
    file.content = without_stuffing(wire);
    file.mended = !mail::is_clean_text(file.content);
    if (file.mended) file.content = mail::clean_text(file.content);
}

}  // namespace

tl::expected<QueueFile, Fault> parse_queue_file(std::string_view bytes) {
    if (bytes.empty()) return fault(0, "the file is empty");
    if (bytes.size() < length_octets) return fault(0, "the file ends within the length of its todo");
    std::uint64_t length = 0;
    for (const char octet : bytes.substr(0, length_octets)) length = length << 8 | static_cast<unsigned char>(octet);
    if (length > bytes.size() - length_octets) {
        return fault(0, "the todo has " + std::to_string(length) + " octets, and " +
                            std::to_string(bytes.size() - length_octets) + " are there");
    }
    if (length > todo_octets_max) return fault(0, "the todo has " + std::to_string(length) + " octets, more than any that was meant");
    const std::string_view text = bytes.substr(length_octets, length);
    std::size_t at = 0;
    std::string reason;
    std::optional<json::value> todo = parse_json(text, at, reason);
    if (!todo && text.find("\\u") != std::string_view::npos) {
        todo = parse_json(with_whole_characters(text), at, reason);
    }
    if (!todo) return fault(length_octets + at, "the todo is not JSON: " + reason);
    if (!todo->is_object()) return fault(length_octets, "the todo is not a JSON object");
    auto file = TodoReader(text, todo->get_object()).read();
    if (file) take_message(bytes.substr(length_octets + length), *file);
    return file;
}

}  // namespace sluice::haraka
