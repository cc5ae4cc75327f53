#include "mail/header.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"

namespace sluice::mail {
namespace {

// Past the next LF at or after `from`; the end of the text if there is none.
std::size_t line_end(std::string_view text, std::size_t from) {
    const void* lf = std::memchr(text.data() + from, '\n', text.size() - from);
    if (lf == nullptr) return text.size();
    return static_cast<std::size_t>(static_cast<const char*>(lf) - text.data()) + 1;
}

bool is_empty_line(std::string_view line) {
    return line == "\r\n" || line == "\n";
}

std::string_view without_line_end(std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

HeaderField to_field(std::string_view raw) {
    const std::string_view text = without_line_end(raw);
    const std::size_t colon = text.substr(0, text.find('\n')).find(':');
    if (colon == std::string_view::npos) return {{}, text, raw};
    std::string_view name = text.substr(0, colon);
    while (!name.empty() && is_space(name.back()))
        name.remove_suffix(1);
    if (name.find_first_of(" \t\r") != std::string_view::npos) return {{}, text, raw};
    return {name, text.substr(colon + 1), raw};
}

// What a peer says about itself, cut down to what a name or an address literal can contain.
std::string plain_name(std::string_view text) {
    constexpr std::size_t octets_max = 255;
    constexpr std::string_view allowed = "-._:[]";
    std::string out(text.substr(0, octets_max));
    for (char& c : out) {
        if (!is_alnum(c) && allowed.find(c) == std::string_view::npos) c = '?';
    }
    return out;
}

// The same for words of our own making (cipher names), where blanks and "=" are fine.
std::string plain_comment(std::string_view text) {
    std::string out(text.substr(0, 255));
    for (char& c : out) {
        if (c < ' ' || c > '~' || c == '(' || c == ')' || c == '\\') c = '?';
    }
    return out;
}

}  // namespace

std::optional<HeaderField> HeaderReader::next() {
    if (rest_.empty()) return std::nullopt;
    std::size_t end = line_end(rest_, 0);
    if (is_empty_line(rest_.substr(0, end))) {
        rest_ = {};
        return std::nullopt;
    }
    while (end < rest_.size() && is_space(rest_[end]))
        end = line_end(rest_, end);
    const std::string_view raw = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return to_field(raw);
}

std::size_t header_section_size(std::string_view content) {
    for (std::size_t from = 0; from < content.size();) {
        const std::size_t end = line_end(content, from);
        if (is_empty_line(content.substr(from, end - from))) return end;
        from = end;
    }
    return content.size();
}

std::optional<HeaderField> find_field(std::string_view content, std::string_view name) {
    HeaderReader reader(content);
    while (auto field = reader.next()) {
        if (iequals(field->name, name)) return field;
    }
    return std::nullopt;
}

std::size_t count_fields(std::string_view content, std::string_view name) {
    std::size_t count = 0;
    HeaderReader reader(content);
    while (const auto field = reader.next())
        count += iequals(field->name, name) ? 1 : 0;
    return count;
}

std::string unfolded(std::string_view value) {
    std::string out;
    out.reserve(value.size());
    for (const char c : value) {
        if (c == '\r' || c == '\n') continue;
        const bool control = (c >= 0 && c < ' ' && c != '\t') || c == 0x7F;
        out.push_back(control ? ' ' : c);
    }
    return std::string(trim(out));
}

bool remove_fields(std::string& content, std::string_view name) {
    if (!find_field(content, name)) return false;
    std::string kept;
    kept.reserve(content.size());
    HeaderReader reader(content);
    std::size_t seen = 0;
    while (const auto field = reader.next()) {
        seen += field->raw.size();
        if (!iequals(field->name, name)) kept.append(field->raw);
    }
    kept.append(content, seen);
    content = std::move(kept);
    return true;
}

std::string ReceivedWith::keyword() const {
    if (!extended && !lmtp) return tls ? "SMTPS" : "SMTP";
    std::string word = utf8 ? (lmtp ? "UTF8LMTP" : "UTF8SMTP") : (lmtp ? "LMTP" : "ESMTP");
    if (tls) word.push_back('S');
    if (authenticated) word.push_back('A');
    return word;
}

std::string format_received(const ReceivedTrace& trace) {
    std::string out = "Received: ";
    if (!trace.client_ip.empty()) {
        const bool v6 = trace.client_ip.find(':') != std::string_view::npos;
        out += "from " + (trace.helo.empty() ? "unknown" : plain_name(trace.helo)) + " (";
        if (!trace.rdns.empty()) out += plain_name(trace.rdns) + " ";
        out += (v6 ? "[IPv6:" : "[") + plain_name(trace.client_ip) + "])\r\n\t";
    }
    out += "by " + plain_name(trace.by) + " (Sluice) with " + plain_name(trace.with);
    out += " id " + plain_name(trace.id);
    if (!trace.tls.empty()) out += "\r\n\t(" + plain_comment(trace.tls) + ")";
    if (trace.only_recipient != nullptr && !trace.only_recipient->is_null()) {
        out += "\r\n\tfor <" + trace.only_recipient->ascii_domain_text() + ">";
    }
    out += ";\r\n\t" + rfc5322_date(trace.wall_ms) + "\r\n";
    return out;
}

std::string format_date_field(std::int64_t wall_ms) {
    return "Date: " + rfc5322_date(wall_ms) + "\r\n";
}

std::string format_message_id_field(MessageId id, std::string_view host) {
    return "Message-ID: <" + id.text() + "@" + plain_name(host) + ">\r\n";
}

}  // namespace sluice::mail
