#include "mail/dsn.h"

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"
#include "mail/dsn_text.h"
#include "mail/header.h"
#include "mail/mime.h"

namespace sluice::mail {
namespace {

constexpr std::size_t returned_header_max = 64 * 1024;
constexpr std::size_t diagnostic_octets_max = 2000;
constexpr std::size_t line_octets_max = 998;  // RFC 5322 §2.1.1

// One MIME entity: its Content fields and its body, CRLF text.
struct Part {
    std::string header;
    std::string body;
};

char class_of(DsnAction action) {
    switch (action) {
        case DsnAction::failed:
            return '5';
        case DsnAction::delayed:
            return '4';
        case DsnAction::delivered:
        case DsnAction::relayed:
        case DsnAction::expanded:
            return '2';
    }
    UNREACHABLE();
}

// "x.y.z" at the start of `text`, each part one to three digits; empty if there is none.
std::string_view leading_status(std::string_view text) {
    std::size_t at = 0;
    for (int part = 0; part < 3; ++part) {
        if (part > 0) {
            if (!text.substr(at).starts_with('.')) return {};
            ++at;
        }
        const std::size_t first = at;
        while (at < text.size() && is_digit(text[at]))
            ++at;
        if (at == first || at - first > (part == 0 ? 1 : 3)) return {};
    }
    return at == text.size() || is_space(text[at]) ? text.substr(0, at) : std::string_view();
}

// "550 text", "550-text" of a reply with more lines, or "550" alone.
bool starts_with_reply_code(std::string_view text) {
    const bool code =
        text.size() >= 3 && text[0] >= '2' && text[0] <= '5' && is_digit(text[1]) && is_digit(text[2]);
    return code && (text.size() == 3 || text[3] == ' ' || text[3] == '-');
}

// A typed address for Final-Recipient: RFC 3464 §2.3.2, RFC 6533 §3.
std::string typed_address(const Address& address, bool utf8) {
    if (is_ascii(address.local)) return "rfc822; " + address.ascii_domain_text();
    return "utf-8; " + (utf8 ? address.text() : embedded_unicode(address.text()));
}

// ORCPT for people and programs: out of xtext again (RFC 3461 §5.2.1). Empty when it cannot be shown safely.
std::string original_recipient(const std::string& orcpt, bool utf8) {
    const std::size_t semicolon = orcpt.find(';');
    if (semicolon == std::string::npos) return {};
    const std::string type = orcpt.substr(0, semicolon);
    const std::string coded = orcpt.substr(semicolon + 1);
    const std::string address = is_ascii(coded) ? decode_xtext(coded).value_or(std::string()) : coded;
    if (address.empty() || !is_valid_utf8(address) || one_line(address, address.size()) != address) return {};
    const bool ascii = is_ascii(address);
    return one_line(type, 60) + "; " + (ascii || utf8 ? address : embedded_unicode(address));
}

std::string recipient_fields(const RecipientReport& report, bool utf8) {
    std::string out;
    // Whatever a peer or a sender wrote, a notification that may not use UTF-8 has none.
    const auto field = [&out, utf8](std::string_view name, const std::string& value) {
        if (!value.empty()) out += folded_field(name, utf8 ? value : embedded_non_ascii(value));
    };
    field("Original-Recipient", original_recipient(report.recipient.orcpt, utf8));
    field("Final-Recipient", typed_address(report.recipient.address, utf8));
    field("Action", std::string(name_of(report.action)));
    field("Status", dsn_status(report));
    if (!report.remote_mta.empty()) field("Remote-MTA", "dns; " + one_line(report.remote_mta, 255));
    const std::string diagnostic = one_line(report.diagnostic, diagnostic_octets_max);
    if (!diagnostic.empty()) {
        field("Diagnostic-Code", (starts_with_reply_code(diagnostic) ? "smtp; " : "x-sluice; ") + diagnostic);
    }
    if (report.last_attempt_ms) field("Last-Attempt-Date", rfc5322_date(*report.last_attempt_ms));
    if (report.will_retry_until_ms && report.action == DsnAction::delayed) {
        field("Will-Retry-Until", rfc5322_date(*report.will_retry_until_ms));
    }
    return out;
}

Part status_part(const DsnRequest& request, const std::string& me, bool utf8) {
    const Message& original = *request.original;
    Part part;
    part.header = utf8 ? "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"
                       : "Content-Type: message/delivery-status\r\n";
    part.body = folded_field("Reporting-MTA", "dns; " + me);
    const std::string envid = one_line(decode_xtext(original.envelope.envid).value_or(std::string()), 200);
    if (!envid.empty() && is_ascii(envid)) part.body += folded_field("Original-Envelope-Id", envid);
    part.body += folded_field("Arrival-Date", rfc5322_date(request.arrival_wall_ms));
    for (const RecipientReport& report : request.reports)
        part.body += "\r\n" + recipient_fields(report, utf8);
    return part;
}

std::string valid_utf8(std::string text) {
    if (is_valid_utf8(text)) return text;
    for (char& c : text) {
        if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    return text;
}

Part text_part(std::string_view type, std::string text) {
    text = valid_utf8(std::move(text));
    const ContentTraits traits = scan_content(text);
    Part part;
    part.header = "Content-Type: " + std::string(type) +
                  (traits.has_8bit ? "; charset=utf-8\r\n" : "; charset=us-ascii\r\n");
    if (traits.has_8bit || traits.line_max > line_octets_max) {
        part.header += "Content-Transfer-Encoding: quoted-printable\r\n";
        part.body = quoted_printable(text);
    } else {
        part.body = std::move(text);
    }
    return part;
}

// The original's header section, trace first, cut between fields at a sensible size, without the empty line.
std::string returned_header(const Message& original) {
    std::string out;
    for (const std::string_view section :
         {std::string_view(original.trace), std::string_view(original.content)}) {
        HeaderReader reader(section);
        while (const auto field = reader.next()) {
            if (out.size() + field->raw.size() > returned_header_max) return out;
            out += with_crlf(field->raw);
        }
    }
    return out;
}

Part header_part(const Message& original, bool utf8) {
    std::string header = returned_header(original);
    const ContentTraits traits = scan_content(header);
    const bool global = traits.has_8bit && is_valid_utf8(header);
    Part part;
    part.header =
        global ? "Content-Type: message/global-headers\r\n" : "Content-Type: text/rfc822-headers\r\n";
    if (traits.line_max > line_octets_max || (traits.has_8bit && !(utf8 && global))) {
        part.header += "Content-Transfer-Encoding: quoted-printable\r\n";
        part.body = quoted_printable(header);
    } else {
        if (traits.has_8bit) part.header += "Content-Transfer-Encoding: 8bit\r\n";
        part.body = std::move(header);
    }
    return part;
}

Part full_part(const Message& original, bool utf8) {
    Part part;
    const bool global = original.traits.has_8bit_header;
    part.header = global ? "Content-Type: message/global\r\n" : "Content-Type: message/rfc822\r\n";
    std::string whole = original.trace + original.content;
    if (global && !utf8) {
        // Only message/global may be encoded (RFC 6532 §3.7): that keeps the notification free of SMTPUTF8.
        part.header += "Content-Transfer-Encoding: quoted-printable\r\n";
        part.body = quoted_printable(whole);
    } else {
        if (original.traits.has_8bit) part.header += "Content-Transfer-Encoding: 8bit\r\n";
        part.body = std::move(whole);
    }
    return part;
}

bool wants_full(const DsnRequest& request) {
    const bool failure =
        std::any_of(request.reports.begin(), request.reports.end(), [](const RecipientReport& report) {
            return report.action == DsnAction::failed;
        });
    return failure && request.original->envelope.ret == Return::full;
}

// Content that could not stand as it is inside a message that goes by DATA stays out.
bool can_return_full(const DsnRequest& request) {
    const Message& original = *request.original;
    return original.size() <= request.full_size_max && !original.traits.has_bare_eol &&
           original.traits.line_max <= line_octets_max && is_clean_text(original.content);
}

std::string join_parts(const std::vector<Part>& parts, const std::string& boundary) {
    std::string out;
    for (const Part& part : parts) {
        // The CRLF before a boundary belongs to the boundary (RFC 2046 §5.1.1), so the body keeps its own.
        out += "--" + boundary + "\r\n" + part.header + "\r\n" + part.body + "\r\n";
    }
    return out + "--" + boundary + "--\r\n";
}

bool contains_boundary(const std::vector<Part>& parts, const std::string& boundary) {
    return std::any_of(parts.begin(), parts.end(), [&](const Part& part) {
        return part.body.find(boundary) != std::string::npos ||
               part.header.find(boundary) != std::string::npos;
    });
}

// A boundary that no part contains; the id makes it unguessable enough, the counter makes it certain.
std::string free_boundary(const std::vector<Part>& parts, const std::string& stem) {
    std::string boundary = stem;
    for (int n = 1; contains_boundary(parts, boundary); ++n)
        boundary = stem + "_" + std::to_string(n);
    return boundary;
}

Part multipart(std::string_view type, const std::vector<Part>& parts, const std::string& stem) {
    const std::string boundary = free_boundary(parts, stem);
    Part part;
    part.header = "Content-Type: multipart/" + std::string(type) + ";\r\n boundary=\"" + boundary + "\"\r\n";
    part.body = join_parts(parts, boundary);
    return part;
}

// The image file is a whole MIME part; without a header of its own it cannot be one.
std::optional<Part> image_part(const std::string& file) {
    const std::string text = with_crlf(file);
    const std::size_t header = header_section_size(text);
    const auto type = find_field(text, "Content-Type");
    if (!type || header == text.size() || !is_ascii(text)) return std::nullopt;
    return Part{text.substr(0, header - 2), text.substr(header)};
}

// text/plain alone, or with HTML: multipart/related of (multipart/alternative of both) and the image.
Part words_part(const DsnRequest& request, const DsnWords& words, const std::string& stem) {
    Part plain = text_part("text/plain", words.text);
    if (words.html.empty()) return plain;
    Part both =
        multipart("alternative", {std::move(plain), text_part("text/html", words.html)}, stem + "b");
    const auto image = image_part(request.templates.image);
    if (!image) return both;
    return multipart("related; type=\"multipart/alternative\"", {std::move(both), *image}, stem + "a");
}

// Unstructured fields may carry encoded-words; in others a foreign character becomes '?', since an
// encoded-word could change an address.
std::string header_value(const std::string& name, const std::string& value, bool utf8) {
    if (utf8 || is_ascii(value)) return valid_utf8(value);
    if (iequals(name, "Subject") || iequals(name, "Comments")) return encoded_words(valid_utf8(value));
    std::string out = value;
    for (char& c : out) {
        if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    return out;
}

std::string top_header(const DsnWords& words, const Message& original, bool utf8) {
    std::string out;
    bool referenced = false;
    for (const auto& [name, value] : words.fields) {
        out += folded_field(name, header_value(name, value, utf8));
        referenced = referenced || iequals(name, "References");
    }
    const auto id = find_field(original.content, "Message-ID");
    if (id && !referenced) {
        const std::string reference = one_line(unfolded(id->value), 500);
        if (is_ascii(reference) && !reference.empty()) out += folded_field("References", reference);
    }
    return out + "MIME-Version: 1.0\r\n";
}

}  // namespace

std::string_view name_of(DsnAction action) {
    switch (action) {
        case DsnAction::failed:
            return "failed";
        case DsnAction::delayed:
            return "delayed";
        case DsnAction::delivered:
            return "delivered";
        case DsnAction::relayed:
            return "relayed";
        case DsnAction::expanded:
            return "expanded";
    }
    UNREACHABLE();
}

bool deserves_dsn(
    const Envelope& envelope, const Recipient& recipient, DsnAction action, bool report_delays
) {
    if (envelope.reverse_path.is_null() || (recipient.notify & notify_never) != 0) return false;
    const bool silent = recipient.notify == notify_default;
    switch (action) {
        case DsnAction::failed:
            return silent || (recipient.notify & notify_failure) != 0;
        case DsnAction::delayed:
            return silent ? report_delays : (recipient.notify & notify_delay) != 0;
        case DsnAction::delivered:
        case DsnAction::relayed:
        case DsnAction::expanded:
            return (recipient.notify & notify_success) != 0;
    }
    UNREACHABLE();
}

std::string dsn_status(const RecipientReport& report) {
    std::string status(leading_status(report.status));
    if (status.empty() && starts_with_reply_code(report.diagnostic) && report.diagnostic.size() > 4) {
        status = leading_status(std::string_view(report.diagnostic).substr(4));
    }
    const char klass = class_of(report.action);
    if (status.empty()) return std::string(1, klass) + ".0.0";
    // A message that failed by expiry keeps the transient status that explains it (RFC 3464 §2.3.4: 4.4.7).
    if (status[0] == '4' && report.action == DsnAction::failed && !report.status.empty()) return status;
    status[0] = klass;
    return status;
}

Dsn compose_dsn(const DsnRequest& request) {
    ASSERT(request.original != nullptr && !request.reports.empty());
    const Message& original = *request.original;
    const Address& sender = original.envelope.reverse_path;
    ASSERT(!sender.is_null());
    // Only a sender who cannot be reached otherwise is known to understand SMTPUTF8.
    const bool utf8 = sender.local_needs_utf8();
    const bool full = wants_full(request) && can_return_full(request);
    const std::string me = normalise_domain(request.reporting_mta).value_or("localhost");

    DsnRequest normalised = request;
    normalised.reporting_mta = me;
    const std::string shown_sender = utf8 ? sender.text() : sender.ascii_domain_text();
    const DsnWords words = dsn_words(normalised, shown_sender, wants_full(request) && !full);
    const std::string stem = "=_sluice_" + request.id.text();
    const std::vector<Part> parts = {
        words_part(request, words, stem),
        status_part(request, me, utf8),
        full ? full_part(original, utf8) : header_part(original, utf8),
    };
    const Part report = multipart("report; report-type=delivery-status", parts, stem + "c");

    Dsn dsn;
    dsn.content = top_header(words, original, utf8) + report.header;
    const bool eight_bit = !is_ascii(report.body);
    if (eight_bit) dsn.content += "Content-Transfer-Encoding: 8bit\r\n";
    dsn.content += "\r\n" + report.body;
    dsn.envelope.smtputf8 = utf8;
    if (eight_bit) dsn.envelope.body = BodyType::eight_bit_mime;
    Recipient to;
    to.address = sender;
    dsn.envelope.recipients.push_back(std::move(to));
    return dsn;
}

}  // namespace sluice::mail
