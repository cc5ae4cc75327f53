#include "delivery/downgrade.h"

#include <algorithm>

#include "base/text.h"
#include "mail/header.h"
#include "mail/mime.h"

namespace sluice::delivery {
namespace {

constexpr int depth_max = 30;
constexpr std::size_t base64_line_octets = 57;  // 76 characters
constexpr std::size_t line_octets_max = 998;    // RFC 5322 §2.1.1

bool fits_seven_bit(std::string_view text) {
    return is_ascii(text) && mail::scan_content(text).line_max <= line_octets_max;
}

std::string field_value(std::string_view entity, std::string_view name) {
    const auto field = mail::find_field(entity, name);
    return field ? mail::unfolded(field->value) : std::string();
}

std::string media_type(std::string_view content_type) {
    return to_lower(trim(content_type.substr(0, content_type.find(';'))));
}

// The boundary parameter of a multipart (RFC 2046 §5.1.1); empty when there is none.
std::string boundary_of(std::string_view content_type) {
    const std::string lower = to_lower(content_type);
    const std::size_t at = lower.find("boundary=");
    if (at == std::string::npos) return {};
    std::string_view rest = content_type.substr(at + 9);
    if (rest.starts_with('"')) return std::string(rest.substr(1, rest.find('"', 1) - 1));
    return std::string(trim(rest.substr(0, rest.find_first_of("; \t"))));
}

// The header without its encoding, with the one given.
std::string header_with_encoding(std::string_view header, std::string_view encoding) {
    std::string out;
    mail::HeaderReader reader(header);
    while (const auto field = reader.next()) {
        if (!iequals(field->name, "Content-Transfer-Encoding")) out += field->raw;
    }
    return out.append("Content-Transfer-Encoding: ").append(encoding).append("\r\n\r\n");
}

// Lines with CRLF between them.
std::string base64_lines(std::string_view body) {
    std::string out;
    for (std::size_t at = 0; at < body.size(); at += base64_line_octets) {
        out.append(at == 0 ? "" : "\r\n").append(base64_encode(body.substr(at, base64_line_octets)));
    }
    return out;
}

// A delimiter line stands at the left margin; blanks may follow it (RFC 2046 §5.1.1).
std::string_view without_trailing_blanks(std::string_view line) {
    return line.substr(0, line.find_last_not_of(" \t\r\n") + 1);
}

class Downgrade {
public:
    std::optional<std::string> entity(std::string_view content, int depth) {
        const std::size_t header_size = mail::header_section_size(content);
        const std::string_view header = content.substr(0, header_size);
        const std::string_view body = content.substr(header_size);
        if (!is_ascii(header) || depth > depth_max) return std::nullopt;
        if (fits_seven_bit(body)) return std::string(content);

        const std::string content_type = field_value(header, "Content-Type");
        const std::string type = media_type(content_type);
        const std::string encoding = to_lower(field_value(header, "Content-Transfer-Encoding"));
        if (encoding == "quoted-printable" || encoding == "base64") return std::nullopt;
        if (type == "multipart/signed" || type == "multipart/encrypted") return std::nullopt;
        if (type.starts_with("multipart/")) return multipart(header, body, boundary_of(content_type), depth);
        if (type == "message/rfc822") {
            const auto inner = entity(body, depth + 1);
            if (!inner) return std::nullopt;
            return header_with_encoding(header, "7bit") + *inner;
        }
        return leaf(header, body, type, depth);
    }

private:
    std::optional<std::string> leaf(
        std::string_view header, std::string_view body, const std::string& type, int depth) {
        std::string fields(header);
        if (type.empty() && depth == 0 && !mail::find_field(header, "MIME-Version")) {
            // The empty line goes, and comes back behind the encoding.
            if (fields.ends_with("\r\n\r\n") || fields == "\r\n") fields.resize(fields.size() - 2);
            fields += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n";
        }
        if (type.empty() || type.starts_with("text/")) {
            return header_with_encoding(fields, "quoted-printable") + mail::quoted_printable(body);
        }
        return header_with_encoding(fields, "base64") + base64_lines(body);
    }

    // Parts stand between lines "--boundary"; what stands around them is for nobody to see.
    std::optional<std::string> multipart(
        std::string_view header, std::string_view body, const std::string& boundary, int depth) {
        if (boundary.empty()) return std::nullopt;
        const std::string delimiter = "--" + boundary;
        std::string out = header_with_encoding(header, "7bit");
        std::string_view part;
        bool in_part = false;
        while (!body.empty()) {
            const std::size_t end = std::min(body.find("\r\n"), body.size() - std::min<std::size_t>(2, body.size()));
            const std::string_view line = body.substr(0, end + 2);
            const std::string_view text = without_trailing_blanks(line);
            const bool closes = text == delimiter + "--";
            if (closes || text == delimiter) {
                if (in_part && !append_delimited_part(out, part, depth)) return std::nullopt;
                out += line;
                in_part = !closes;
                part = body.substr(line.size(), 0);
            } else if (in_part) {
                part = std::string_view(part.data(), part.size() + line.size());
            } else {
                if (!is_ascii(line)) return std::nullopt;
                out += line;
            }
            body.remove_prefix(line.size());
        }
        if (in_part && !append_part(out, part, depth)) return std::nullopt;
        return out;
    }

    bool append_part(std::string& out, std::string_view part, int depth) {
        const auto converted = entity(part, depth + 1);
        if (converted) out += *converted;
        return converted.has_value();
    }

    // The CRLF in front of a delimiter line belongs to that, and not to the part (RFC 2046 §5.1.1).
    bool append_delimited_part(std::string& out, std::string_view part, int depth) {
        const std::string_view line_end = part.ends_with("\r\n") ? part.substr(part.size() - 2) : std::string_view();
        part.remove_suffix(line_end.size());
        if (!append_part(out, part, depth)) return false;
        out += line_end;
        return true;
    }
};

}  // namespace

std::optional<std::string> to_seven_bit(std::string_view content) {
    auto converted = Downgrade().entity(content, 0);
    if (converted && !converted->empty() && !converted->ends_with("\r\n")) *converted += "\r\n";
    return converted;
}

}  // namespace sluice::delivery
