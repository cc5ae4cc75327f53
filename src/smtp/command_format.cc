// The client's side of commands, and how a server cuts them from the stream.

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"
#include "smtp/command.h"

namespace sluice::smtp {
namespace {

std::string_view ret_word(mail::Return ret) {
    return ret == mail::Return::full ? "FULL" : "HDRS";
}

std::string_view body_word(mail::BodyType body) {
    switch (body) {
        case mail::BodyType::unspecified:
        case mail::BodyType::seven_bit:
            return "7BIT";
        case mail::BodyType::eight_bit_mime:
            return "8BITMIME";
        case mail::BodyType::binary_mime:
            return "BINARYMIME";
    }
    UNREACHABLE();
}

std::string notify_words(std::uint8_t bits) {
    std::string words;
    const auto add = [&](std::uint8_t bit, std::string_view word) {
        if ((bits & bit) == 0) return;
        if (!words.empty()) words.push_back(',');
        words += word;
    };
    add(mail::notify_never, "NEVER");
    add(mail::notify_success, "SUCCESS");
    add(mail::notify_failure, "FAILURE");
    add(mail::notify_delay, "DELAY");
    return words;
}

// An address without UTF-8 where SMTPUTF8 is not in use: the domain can always go as A-labels.
std::string path_of(const mail::Address& address, bool utf8) {
    return "<" + (utf8 ? address.text() : address.ascii_domain_text()) + ">";
}

bool body_offered(mail::BodyType body, const Extensions& offered) {
    if (body == mail::BodyType::unspecified) return false;
    return body == mail::BodyType::binary_mime ? offered.binarymime : offered.eight_bit_mime;
}

}  // namespace

bool is_hello_name(std::string_view name) {
    constexpr std::size_t octets_max = 255;
    return !name.empty() && name.size() <= octets_max && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

std::string format_hello(Verb verb, std::string_view name) {
    std::string out(name_of(verb));
    return out.append(" ").append(name).append("\r\n");
}

std::string format_mail(
    const mail::Envelope& envelope, std::uint64_t size, bool needs_utf8, const Extensions& offered
) {
    const bool utf8 = needs_utf8 && offered.smtputf8;
    std::string out = "MAIL FROM:" + path_of(envelope.reverse_path, utf8);
    if (offered.size) out += " SIZE=" + std::to_string(size);
    if (body_offered(envelope.body, offered)) out.append(" BODY=").append(body_word(envelope.body));
    if (utf8) out += " SMTPUTF8";
    if (offered.dsn && envelope.ret != mail::Return::unspecified)
        out.append(" RET=").append(ret_word(envelope.ret));
    if (offered.dsn && !envelope.envid.empty()) out += " ENVID=" + envelope.envid;
    if (offered.mt_priority && envelope.mt_priority) out += " MT-PRIORITY=" + std::to_string(*envelope.mt_priority);
    return out.append("\r\n");
}

std::string format_rcpt(const mail::Recipient& recipient, bool smtputf8, const Extensions& offered) {
    std::string out = "RCPT TO:" + path_of(recipient.address, smtputf8);
    if (offered.dsn && recipient.notify != mail::notify_default)
        out += " NOTIFY=" + notify_words(recipient.notify);
    const bool utf8_orcpt = !is_ascii(recipient.orcpt);
    if (offered.dsn && !recipient.orcpt.empty() && (smtputf8 || !utf8_orcpt))
        out += " ORCPT=" + recipient.orcpt;
    return out.append("\r\n");
}

std::string format_bdat(std::uint64_t size, bool last) {
    return "BDAT " + std::to_string(size) + (last ? " LAST\r\n" : "\r\n");
}

std::size_t command_line_max(const Extensions& offered) {
    constexpr std::size_t base = 512;         // RFC 5321 §4.5.3.1.4
    constexpr std::size_t auth_line = 12288;  // RFC 4954 §4: initial responses are long
    std::size_t size = base;
    if (offered.size) size += 26;                                  // RFC 1870 §3
    if (offered.eight_bit_mime || offered.binarymime) size += 17;  // RFC 6152 §2
    if (offered.smtputf8) size += 10;                              // RFC 6531 §3.1
    if (offered.mt_priority) size += 15;                           // RFC 6710 §3
    if (offered.dsn) size += 600;  // RFC 3461 §4: NOTIFY, ORCPT of 500, ENVID of 100
    if (!offered.auth.empty()) size = std::max(size + 500, auth_line);  // RFC 4954 §5 for MAIL
    return size;
}

std::optional<CommandLines::Line> CommandLines::next(std::string_view& bytes, std::size_t octets_max) {
    if (taken_) reset();
    while (!bytes.empty()) {
        const std::size_t lf = bytes.find('\n');
        const std::size_t count = lf == std::string_view::npos ? bytes.size() : lf + 1;
        const std::string_view piece = bytes.substr(0, count);
        bytes.remove_prefix(count);
        const bool whole = lf != std::string_view::npos;
        if (whole && line_.empty() && !too_long_ && count <= octets_max) return finished(piece);
        if (!too_long_ && line_.size() + count <= octets_max) {
            line_.append(piece);
            if (whole) return finished(line_);
            continue;
        }
        // Of a line too long only its end matters. A bare LF is none: what follows it would be read as a
        // command.
        const bool after_cr = count > 1 ? piece[count - 2] == '\r' : line_.ends_with('\r') || dropped_cr_;
        dropped_cr_ = piece.back() == '\r';
        too_long_ = true;
        line_.clear();
        if (!whole || !after_cr) continue;
        taken_ = true;
        return Line{Kind::too_long, {}};
    }
    return std::nullopt;
}

CommandLines::Line CommandLines::finished(std::string_view line) {
    taken_ = true;
    line.remove_suffix(1);
    const bool crlf = line.ends_with('\r');
    if (crlf) line.remove_suffix(1);
    const bool stray = line.find_first_of(std::string_view("\r\0", 2)) != std::string_view::npos;
    return Line{crlf && !stray ? Kind::line : Kind::unclean, line};
}

void CommandLines::reset() {
    line_.clear();
    taken_ = false;
    too_long_ = false;
    dropped_cr_ = false;
}

}  // namespace sluice::smtp
