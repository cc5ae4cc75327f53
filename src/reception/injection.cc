#include "reception/injection.h"

#include <algorithm>

#include "base/text.h"
#include "policy/assignment.h"
#include "reception/composition.h"
#include "reception/transaction.h"
#include "smtp/data.h"

namespace sluice::reception {
namespace {

using FieldErrors = std::vector<FieldError>;

constexpr std::size_t notes_octets_max = 64 * 1024;
constexpr std::size_t envid_octets_max = 100;  // in xtext, RFC 3461 §4.4

bool is_one_line(std::string_view text) {
    return is_valid_utf8(text) && std::none_of(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) < 0x20) || c == 0x7F;
    });
}

// Envelope fields but the recipients.
smtp::MailFrom read_sender(const Injection& injection, FieldErrors& errors) {
    smtp::MailFrom mail;
    mail.ret = injection.ret;
    if (!injection.reverse_path.empty()) {
        auto address = mail::parse_address(injection.reverse_path);
        if (address) {
            mail.reverse_path = std::move(*address);
        } else {
            errors.push_back({"reverse_path", address.error().detail});
        }
    }
    mail.envid = mail::encode_xtext(injection.envid);
    if (!is_one_line(injection.envid) || !is_ascii(injection.envid) || mail.envid.size() > envid_octets_max) {
        errors.push_back({"envid", "must be one line of at most 100 ASCII characters"});
    }
    return mail;
}

void read_recipients(const Injection& injection, std::uint32_t recipients_max, Transaction& transaction,
                     FieldErrors& errors) {
    if (injection.recipients.empty()) errors.push_back({"recipients", "at least one is needed"});
    if (recipients_max != 0 && injection.recipients.size() > recipients_max) {
        errors.push_back({"recipients", "more than " + std::to_string(recipients_max)});
        return;
    }
    for (std::size_t i = 0; i < injection.recipients.size(); ++i) {
        mail::Recipient recipient;
        recipient.notify = injection.notify;
        auto address = mail::parse_address(injection.recipients[i]);
        if (!address) {
            errors.push_back({"recipients[" + std::to_string(i) + "]", address.error().detail});
            continue;
        }
        recipient.address = std::move(*address);
        transaction.add(std::move(recipient));
    }
}

void check_options(const Injection& injection, FieldErrors& errors) {
    const bool never = (injection.notify & mail::notify_never) != 0;
    if (injection.notify > 15 || (never && injection.notify != mail::notify_never)) {
        errors.push_back({"notify", "never stands alone"});
    }
    if (injection.priority && (*injection.priority < 0 || *injection.priority > 7)) errors.push_back({"priority", "must be 0 to 7"});
    const auto check_line = [&](const char* field, const std::string& text) {
        if (!policy::is_field_value(text)) errors.push_back({field, "must be one line of at most 255 octets"});
    };
    check_line("tenant", injection.tenant);
    check_line("job", injection.job);
    check_line("transport", injection.transport);
    if (!injection.lifetime.empty() && !policy::parse_lifetime(injection.lifetime)) {
        errors.push_back({"lifetime", "must be a time such as 90s, 15m, 2h or 3d"});
    }
    if (injection.notes.size() > notes_octets_max) errors.push_back({"notes", "must have at most 65536 octets"});
}

// A text of LF lines is what files have here; among CRLF lines a bare LF is what smuggles.
std::string with_crlf(std::string content) {
    if (content.find('\r') != std::string::npos) return content;
    std::string out;
    out.reserve(content.size() + content.size() / 32 + 2);
    std::string_view rest(content);
    for (std::size_t lf = rest.find('\n'); lf != std::string_view::npos; lf = rest.find('\n')) {
        out.append(rest.substr(0, lf)).append("\r\n");
        rest.remove_prefix(lf + 1);
    }
    return out.append(rest);
}

void settle_text(std::string& content, const config::ConnectionSettings& limits, FieldErrors& errors) {
    if (content.empty()) errors.push_back({"content", "must not be empty"});
    content = with_crlf(std::move(content));
    if (content.find('\0') != std::string::npos) {
        errors.push_back({"content", "contains a NUL octet"});
        return;
    }
    smtp::DataLimits rules;
    rules.size_max = limits.message_bytes_max;
    rules.line_max = limits.data_line_max;
    rules.bare_eol = limits.strict_bare_eol ? smtp::BareEol::refuse : smtp::BareEol::normalise;
    const smtp::DataFault fault = smtp::settle_content(content, rules, false);
    if (fault != smtp::DataFault::none) errors.push_back({"content", smtp::reply_for(fault).text()});
}

// What Received says after `with`: the first word of the origin.
std::string protocol_of(std::string_view origin) {
    const auto end = std::find_if_not(origin.begin(), origin.end(), is_alnum);
    const std::string word(origin.begin(), end);
    return word.empty() ? "HTTP" : to_upper(word);
}

bool needs_utf8(const mail::Envelope& envelope, std::string_view content) {
    const auto non_ascii = [](const mail::Recipient& one) { return one.address.needs_utf8(); };
    return envelope.reverse_path.needs_utf8() || mail::scan_content(content).has_8bit_header ||
           std::any_of(envelope.recipients.begin(), envelope.recipients.end(), non_ascii);
}

}  // namespace

tl::expected<mail::MessagePtr, std::vector<FieldError>> make_message(
    Injection injection, const config::Settings& settings, const Clock& clock, spool::IdSource& ids) {
    FieldErrors errors;
    Transaction transaction(read_sender(injection, errors), settings.connection.message_bytes_max);
    read_recipients(injection, settings.connection.recipients_max, transaction, errors);
    check_options(injection, errors);
    settle_text(injection.content, settings.connection, errors);
    if (!errors.empty()) return tl::unexpected<FieldErrors>(std::move(errors));

    settle_header_section(injection.content);  // or an 8-bit body would pass for a header that needs SMTPUTF8
    Parts parts;
    parts.envelope = transaction.take_envelope();
    parts.envelope.smtputf8 = needs_utf8(parts.envelope, injection.content);
    parts.content = std::move(injection.content);
    parts.tenant = std::move(injection.tenant);
    parts.job = std::move(injection.job);
    parts.transport = std::move(injection.transport);
    parts.notes = std::move(injection.notes);
    if (injection.priority) parts.priority = static_cast<std::uint8_t>(*injection.priority);
    if (!injection.lifetime.empty()) parts.lifetime = *policy::parse_lifetime(injection.lifetime);
    Bearer bearer;
    bearer.client_ip = injection.client_ip;
    bearer.with = protocol_of(injection.origin);
    bearer.origin = injection.origin;
    bearer.auth_user = injection.auth_user;
    bearer.submits = true;
    bearer.strict_header = injection.strict_header;
    auto message = compose(std::move(parts), bearer, ids.next(), clock.now(), settings);
    if (message) return std::move(*message);
    errors.push_back({"content", message.error().text()});
    return tl::unexpected<FieldErrors>(std::move(errors));
}

}  // namespace sluice::reception
