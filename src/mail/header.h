#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "mail/message.h"

namespace sluice::mail {

// One field of a header section as it stands there. All views borrow from the content.
struct HeaderField {
    std::string_view name;  // without blanks before the colon; empty when the line has no colon (not a field)
    std::string_view value;  // after the colon, folding and blanks included, without the last line end
    std::string_view raw;    // the whole field with all its line ends
};

// Walks over the fields of a message from the top to the empty line that ends the header section. Linear
// time, no copies, any octets: a line without colon comes out as a nameless field, and folded lines belong to
// the field above them. Bare LF ends a line, too. Value; borrows `content`.
class HeaderReader {
public:
    explicit HeaderReader(std::string_view content) : rest_(content) {}
    // The next field, or nothing when the header section ended.
    std::optional<HeaderField> next();

private:
    std::string_view rest_;
};

// Octets up to and including the empty line; all of it when there is none.
std::size_t header_section_size(std::string_view content);
// The first field of that name (any case).
std::optional<HeaderField> find_field(std::string_view content, std::string_view name);
// How many fields have that name; what loop detection counts `Received` with (RFC 5321 §6.3).
std::size_t count_fields(std::string_view content, std::string_view name);
// The value on one line: line ends removed, blanks at both ends trimmed (RFC 5322 §2.2.3). Control characters
// other than TAB become spaces, so the result is safe in one line of anything.
std::string unfolded(std::string_view value);
// Removes every field of that name; true when there was one. Return-Path must not survive submission (RFC
// 5321 §4.4).
bool remove_fields(std::string& content, std::string_view name);

// Looks at every octet of the content once: what delivery must know of it. Well under 1 µs for 4 KiB.
ContentTraits scan_content(std::string_view content);
// The traits of trace fields and content together, as Message::traits wants them; `content` are those of the
// content.
ContentTraits with_trace(const ContentTraits& content, std::string_view trace);

// True when CRLF ends every line, the last one too, and there is no other CR, LF or NUL.
bool is_clean_text(std::string_view content);
// Makes clean text of anything: a bare LF becomes CRLF, a bare CR and a NUL become a space, a last line
// without end gets one. A bare CR is no line end here, because CR CR LF would then cut the header section
// short.
std::string clean_text(std::string_view content);

// RFC 3848 and RFC 6531 §4.3: what the `with` clause of Received says.
struct ReceivedWith {
    bool extended = true;  // EHLO rather than HELO
    bool lmtp = false;
    bool tls = false;
    bool authenticated = false;
    bool utf8 = false;  // the transaction used SMTPUTF8
    // "ESMTPSA", "UTF8SMTPS", "LMTP", "SMTP" ...
    std::string keyword() const;
};

// What a Received field tells (RFC 5321 §4.4). Texts from the peer may be hostile: what is no plain name
// character comes out as '?', long ones are cut, and no line exceeds 998 octets.
struct ReceivedTrace {
    std::string_view helo;                    // as the client said it
    std::string_view client_ip;               // text of the address, v4 or v6; empty for mail made here
    std::string_view rdns;                    // verified name of the client, or empty
    std::string_view by;                      // our name
    std::string with;                         // ReceivedWith::keyword(), "HTTP" ...
    std::string_view id;                      // MessageId::text()
    std::string_view tls;                     // protocol and cipher for the comment, or empty
    const Address* only_recipient = nullptr;  // null unless there is exactly one (no disclosure of Bcc)
    std::int64_t wall_ms = 0;
};
// The whole field with its CRLF.
std::string format_received(const ReceivedTrace& trace);

// "Date: ...", "Message-ID: <ID@host>", each with CRLF.
std::string format_date_field(std::int64_t wall_ms);
std::string format_message_id_field(MessageId id, std::string_view host);

}  // namespace sluice::mail
