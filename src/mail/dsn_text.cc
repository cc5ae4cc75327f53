#include "mail/dsn_text.h"

#include <algorithm>
#include <functional>

#include "base/text.h"
#include "mail/header.h"
#include "mail/mime.h"

namespace sluice::mail {
namespace {

constexpr std::size_t reason_octets_max = 1000;
constexpr std::size_t listed_recipients_max = 100;

bool any_with(const DsnRequest& request, DsnAction action) {
    return std::any_of(
        request.reports.begin(), request.reports.end(),
        [action](const RecipientReport& report) { return report.action == action; }
    );
}

std::string reason_of(const RecipientReport& report) {
    const std::string& source = report.reason.empty() ? report.diagnostic : report.reason;
    return one_line(source, reason_octets_max);
}

std::string shown_address(const RecipientReport& report) {
    return "<" + report.recipient.address.text() + ">";
}

// What {variables} stand for (haraka.md calls them the template's variables). One line each, but
// extended_reason.
class Variables {
public:
    Variables(const DsnRequest& request, std::string_view sender) : request_(request), sender_(sender) {}

    std::string value(std::string_view name) const {
        if (name == "date") return rfc5322_date(request_.wall_ms);
        if (name == "me") return one_line(request_.reporting_mta, 255);
        if (name == "from") return "<>";
        if (name == "to") return "<" + sender_ + ">";
        if (name == "subject") return subject();
        if (name == "recipients") return recipients();
        if (name == "reason") return reason();
        if (name == "extended_reason") return extended_reason();
        if (name == "pid") return one_line(request_.pid, 20);
        if (name == "msgid")
            return "<" + request_.id.text() + "@" + one_line(request_.reporting_mta, 255) + ">";
        return "?";
    }

private:
    std::string subject() const {
        const auto field = find_field(request_.original->content, "Subject");
        return field ? one_line(unfolded(field->value), 500) : std::string();
    }
    std::string recipients() const {
        std::string out;
        for (std::size_t i = 0; i < std::min(request_.reports.size(), listed_recipients_max); ++i) {
            if (i > 0) out += ", ";
            out += shown_address(request_.reports[i]);
        }
        return out;
    }
    std::string reason() const {
        for (const RecipientReport& report : request_.reports) {
            if (std::string text = reason_of(report); !text.empty()) return "Error: " + text;
        }
        return "?";
    }
    std::string extended_reason() const {
        std::string out;
        for (std::size_t i = 0; i < request_.reports.size(); ++i) {
            if (i == listed_recipients_max) return out + "... and more, see the report below";
            const std::string text = reason_of(request_.reports[i]);
            if (!out.empty()) out += "\r\n";
            out += shown_address(request_.reports[i]) + (text.empty() ? text : ": " + text);
        }
        return out;
    }

    const DsnRequest& request_;
    std::string sender_;
};

bool is_word(char c) {
    return is_alnum(c) || c == '_';
}

// Replaces every {word}. Values are inserted once and never looked at again.
std::string fill(
    std::string_view text, const Variables& variables,
    const std::function<std::string(std::string_view)>& escape
) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i + 1;
        while (text[i] == '{' && end < text.size() && is_word(text[end]))
            ++end;
        if (text[i] == '{' && end > i + 1 && end < text.size() && text[end] == '}') {
            out += escape(variables.value(text.substr(i + 1, end - i - 1)));
            i = end + 1;
        } else {
            out.push_back(text[i++]);
        }
    }
    return out;
}

std::string as_is(std::string_view text) {
    return std::string(text);
}

std::string headline(const DsnRequest& request) {
    if (any_with(request, DsnAction::failed)) return "Undelivered mail returned to sender";
    return any_with(request, DsnAction::delayed) ? "Delayed mail, still being retried"
                                                 : "Mail delivery report";
}

std::string_view built_in_text(const DsnRequest& request) {
    if (any_with(request, DsnAction::failed)) {
        return "This is the mail system at {me}.\r\n\r\n"
               "Your message could not be delivered to the recipients below. This is\r\n"
               "final: it will not be tried again for them.\r\n\r\n"
               "Subject: {subject}\r\n\r\n{extended_reason}\r\n";
    }
    if (any_with(request, DsnAction::delayed)) {
        return "This is the mail system at {me}.\r\n\r\n"
               "Your message has not been delivered yet to the recipients below. You\r\n"
               "need not send it again: we keep trying for some time longer.\r\n\r\n"
               "Subject: {subject}\r\n\r\n{extended_reason}\r\n";
    }
    return "This is the mail system at {me}.\r\n\r\n"
           "As you asked, we report that your message was passed on for the\r\n"
           "recipients below. The next mail system may not send reports.\r\n\r\n"
           "Subject: {subject}\r\n\r\n{extended_reason}\r\n";
}

// The fields that say how the content is built are ours alone.
bool is_reserved(std::string_view name) {
    return istarts_with(name, "Content-") || iequals(name, "MIME-Version") || iequals(name, "Return-Path") ||
           iequals(name, "Bcc");
}

bool is_field_name(std::string_view name) {
    return !name.empty() &&
           std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7F && c != ':'; });
}

// A template starts with header fields only if its first line looks like one; otherwise all of it is text.
bool has_header(std::string_view text) {
    HeaderReader reader(text);
    const auto first = reader.next();
    return first && is_field_name(first->name);
}

void add_if_missing(DsnWords& words, std::string_view name, std::string value) {
    for (const auto& field : words.fields) {
        if (iequals(field.first, name)) return;
    }
    words.fields.emplace_back(std::string(name), std::move(value));
}

void read_template_fields(DsnWords& words, std::string_view header, const Variables& variables) {
    HeaderReader reader(header);
    while (const auto field = reader.next()) {
        if (!is_field_name(field->name) || is_reserved(field->name)) continue;
        const std::string value = one_line(fill(unfolded(field->value), variables, as_is), 2000);
        words.fields.emplace_back(std::string(field->name), value);
    }
}

}  // namespace

DsnWords dsn_words(const DsnRequest& request, std::string_view sender, bool full_dropped) {
    const Variables variables(request, sender);
    const std::string custom = with_crlf(request.templates.text);
    DsnWords words;
    std::string_view body = custom.empty() ? built_in_text(request) : std::string_view(custom);
    if (has_header(custom)) {
        const std::size_t header = header_section_size(custom);
        read_template_fields(words, std::string_view(custom).substr(0, header), variables);
        body = std::string_view(custom).substr(header);
        if (trim(body).empty()) body = built_in_text(request);
    }
    const std::string me = variables.value("me");
    add_if_missing(words, "Date", variables.value("date"));
    add_if_missing(words, "From", "Mail Delivery System <MAILER-DAEMON@" + me + ">");
    add_if_missing(words, "To", variables.value("to"));
    add_if_missing(words, "Subject", headline(request));
    add_if_missing(words, "Message-ID", variables.value("msgid"));
    add_if_missing(words, "Auto-Submitted", "auto-replied");

    words.text = with_crlf(fill(body, variables, as_is));
    if (full_dropped) words.text += "\r\nThe message is too large to be returned; its header follows.\r\n";
    if (!request.templates.html.empty()) {
        words.html = fill(with_crlf(request.templates.html), variables, html_escaped);
    }
    return words;
}

}  // namespace sluice::mail
