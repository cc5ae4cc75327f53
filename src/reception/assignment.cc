#include "reception/assignment.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/assert.h"
#include "base/text.h"
#include "mail/header.h"
#include "policy/assignment.h"

namespace sluice::reception {
namespace {

namespace json = boost::json;
using From = policy::FieldOrigin::From;

constexpr std::string_view note_prefix = "notes.";
constexpr std::string_view header_prefix = "header.";

// What can be found out about a message that is being accepted.
class Findings {
public:
    Findings(const mail::Message& message, const Parts& parts, const Bearer& bearer) : message_(message), parts_(parts), bearer_(bearer) {}

    std::string header(std::string_view name) const {
        const auto field = bearer_.submits ? mail::find_field(parts_.content, name) : std::nullopt;
        return field ? mail::unfolded(field->value) : std::string();
    }

    // A text as it is, numbers and booleans as JSON writes them.
    std::string note(std::string_view key) {
        if (!bearer_.submits || parts_.notes.empty()) return {};
        if (!notes_read_) {
            json::error_code error;
            json::value value = json::parse(parts_.notes, error);
            if (!error && value.is_object()) notes_ = std::move(value.as_object());
            notes_read_ = true;
        }
        const json::value* const value = notes_.if_contains(key);
        if (value == nullptr || value->is_object() || value->is_array() || value->is_null()) return {};
        return value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
    }

    std::string at(const policy::FieldOrigin& origin) {
        switch (origin.from) {
            case From::header: return header(origin.name);
            case From::note: return note(origin.name);
            case From::login: return bearer_.auth_user;
            case From::login_domain: {
                const std::size_t at = bearer_.auth_user.rfind('@');
                return at == std::string::npos ? std::string() : to_lower(bearer_.auth_user.substr(at + 1));
            }
            case From::port: return bearer_.port == 0 ? std::string() : std::to_string(bearer_.port);
            case From::field:
                return origin.field == policy::Field::tenantid ? message_.tenant
                       : origin.field == policy::Field::jobid  ? message_.job
                                                               : message_.transport;
            case From::constant: return origin.name;
        }
        UNREACHABLE();
    }

    // Of the first origin that says something which `parse` understands.
    template <class Parse>
    auto first(const std::vector<policy::FieldOrigin>& origins, Parse parse) -> decltype(parse(std::string())) {
        for (const policy::FieldOrigin& origin : origins) {
            const auto meaning = origin.meaning(at(origin));
            if (!meaning || meaning->empty()) continue;
            if (auto value = parse(*meaning)) return value;
        }
        return std::nullopt;
    }

private:
    const mail::Message& message_;
    const Parts& parts_;
    const Bearer& bearer_;
    json::object notes_;
    bool notes_read_ = false;
};

std::optional<std::string> plain_value(const std::string& text) {
    return policy::is_field_value(text) ? std::optional(text) : std::nullopt;
}

void assign_from(Findings& findings, mail::Message& message, bool has_priority, const policy::Assignments& from) {
    if (message.tenant.empty()) message.tenant = findings.first(from.tenant, plain_value).value_or("");
    if (message.job.empty()) message.job = findings.first(from.job, plain_value).value_or("");
    if (message.transport.empty()) message.transport = findings.first(from.transport, plain_value).value_or("");
    if (!has_priority) message.priority = findings.first(from.priority, policy::parse_priority).value_or(message.priority);
    if (message.lifetime.count() == 0) message.lifetime = findings.first(from.lifetime, policy::parse_lifetime).value_or(message.lifetime);
}

// A long text is cut, between characters.
std::string shortened_to_a_value(std::string text) {
    text = with_valid_utf8(std::move(text));
    if (text.size() <= policy::value_octets_max) return text;
    std::size_t end = policy::value_octets_max;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return text.substr(0, end);
}

}  // namespace

std::uint8_t priority_of(std::int8_t mt_priority) {
    constexpr std::uint8_t by_number[19] = {0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7};
    return by_number[std::clamp<int>(mt_priority, -9, 9) + 9];
}

void assign_fields(mail::Message& message, const Parts& parts, const Bearer& bearer, const config::Settings& settings) {
    message.tenant = parts.tenant;
    message.job = parts.job;
    message.transport = parts.transport;
    message.lifetime = parts.lifetime;
    const bool has_priority = parts.priority || parts.envelope.mt_priority;
    if (has_priority) message.priority = parts.priority ? *parts.priority : priority_of(*parts.envelope.mt_priority);
    if (settings.fields == nullptr && settings.kept_fields.empty()) return;

    Findings findings(message, parts, bearer);
    if (settings.fields != nullptr) assign_from(findings, message, has_priority, *settings.fields);
    for (const std::string& field : settings.kept_fields) {
        std::string value = field.starts_with(note_prefix) ? findings.note(std::string_view(field).substr(note_prefix.size()))
                                                           : findings.header(std::string_view(field).substr(header_prefix.size()));
        value = shortened_to_a_value(std::move(value));
        if (!value.empty()) message.marks.push_back({field, std::move(value)});
    }
}

bool strip_fields(std::string& content, const config::Settings& settings) {
    if (settings.fields == nullptr) return false;
    bool changed = false;
    const policy::Assignments& from = *settings.fields;
    for (const auto* const origins : {&from.tenant, &from.job, &from.transport, &from.priority, &from.lifetime}) {
        for (const policy::FieldOrigin& origin : *origins) {
            if (origin.from == From::header && origin.strip) changed |= mail::remove_fields(content, origin.name);
        }
    }
    return changed;
}

}  // namespace sluice::reception
