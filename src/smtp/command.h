#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <variant>

#include "mail/address.h"
#include "mail/message.h"
#include "smtp/extensions.h"
#include "smtp/reply.h"

namespace sluice::smtp {

enum class Verb : std::uint8_t {
    helo,
    ehlo,
    lhlo,
    mail,
    rcpt,
    data,
    bdat,
    rset,
    noop,
    vrfy,
    expn,
    help,
    quit,
    starttls,
    auth,
    unknown
};
// The word on the wire, upper case; "UNKNOWN" for unknown.
std::string_view name_of(Verb verb);

// HELO, EHLO, LHLO. `name` is a domain or an address literal by syntax; it proves nothing.
struct Hello {
    std::string name;
};
// MAIL FROM.
struct MailFrom {
    mail::Address reverse_path;
    std::optional<std::uint64_t> size;  // SIZE=
    mail::BodyType body = mail::BodyType::unspecified;
    mail::Return ret = mail::Return::unspecified;
    bool smtputf8 = false;
    bool requiretls = false;
    std::optional<std::int8_t> mt_priority;  // MT-PRIORITY=
    std::string envid;                // still in xtext
    std::optional<std::string> auth;  // AUTH= decoded; "" for AUTH=<>
};
// RCPT TO. A "<Postmaster>" without domain comes with an empty domain.
struct RcptTo {
    mail::Recipient recipient;
};
// BDAT: this many octets follow the command line at once.
struct Bdat {
    std::uint64_t size = 0;
    bool last = false;
};
// AUTH. `initial` is base64 as received; "" stands for "=", an empty initial response (RFC 4954 §4).
struct Auth {
    std::string mechanism;  // upper case
    std::optional<std::string> initial;
};
// The argument of VRFY, EXPN, HELP, NOOP, or all of an unknown command.
struct Words {
    std::string text;
};

// One command line, understood. DATA, RSET, QUIT and STARTTLS carry nothing. Value.
struct Command {
    Verb verb = Verb::unknown;
    std::variant<std::monostate, Hello, MailFrom, RcptTo, Bdat, Auth, Words> arguments;

    template <class T>
    const T& as() const {
        return std::get<T>(arguments);
    }
};

// What the session stands for while the line is read.
struct CommandSyntax {
    const Extensions* offered =
        nullptr;            // what our last EHLO offered; null: nothing (before EHLO, or after HELO)
    bool smtputf8 = false;  // this transaction's MAIL had SMTPUTF8
};

// Why a command is refused, as the reply to send. `payload_unknown`: BDAT octets follow, but how many cannot
// be told: send the reply and close, or they would be read as commands (BD-4).
struct Refusal {
    Reply reply;
    Verb verb = Verb::unknown;
    bool payload_unknown = false;
};

// Understands one command line (without its CRLF). Verbs and keywords in any case; blanks at the end are
// forgiven. Does not know the order of commands: 503 is the session's word. Refusals: 500 5.5.2 for an
// unknown or unreadable line, 501 for bad arguments, 555 5.5.4 for parameters unknown or of an extension that
// was not offered, 553 5.6.7 for a non-ASCII address without SMTPUTF8, 552 5.3.4 for sizes beyond 64 bits or
// beyond our limit. An unknown verb is no refusal: it may belong to the session (XCLIENT).
tl::expected<Command, Refusal> parse_command(std::string_view line, const CommandSyntax& syntax);

// Whether this may stand in HELO, EHLO or LHLO: one word of visible ASCII characters, 255 at most.
bool is_hello_name(std::string_view name);

// Bytes of a client's commands, with CRLF. Parameters go out only for extensions that `offered` has.
std::string format_hello(Verb verb, std::string_view name);
// `size`: octets of the message, for SIZE=. `needs_utf8`: the addresses or the header need SMTPUTF8.
std::string format_mail(
    const mail::Envelope& envelope, std::uint64_t size, bool needs_utf8, const Extensions& offered
);
std::string format_rcpt(const mail::Recipient& recipient, bool smtputf8, const Extensions& offered);
std::string format_bdat(std::uint64_t size, bool last);

// The longest command line we must take with these extensions, with CRLF (RFC 5321 §4.5.3.1.4 and the
// extensions' own additions; AUTH by RFC 4954 §4).
std::size_t command_line_max(const Extensions& offered);

// Cuts the bytes of a client into command lines. Not thread-safe.
// Only CRLF ends a line properly. A line with a bare CR or NUL, or ended by a bare LF, is told apart at once:
// what smuggles commands looks like that, so the session answers and closes.
class CommandLines {
public:
    enum class Kind : std::uint8_t { line, too_long, unclean };
    struct Line {
        Kind kind = Kind::line;
        std::string_view
            text;  // without line end; empty when too long; valid until the next call, and as `bytes` is
    };

    // Takes octets from the front of `bytes` up to the end of a line. Nothing: more octets are needed. Of a
    // line longer than `octets_max` (with CRLF) nothing is kept, and it is reported once, at its CRLF.
    std::optional<Line> next(std::string_view& bytes, std::size_t octets_max);
    // True between lines.
    bool idle() const { return (line_.empty() || taken_) && !too_long_; }
    void reset();

private:
    Line finished(std::string_view line);

    std::string line_;         // begun, or handed out by the last call
    bool taken_ = false;       // the last call gave a line
    bool too_long_ = false;    // dropping the rest of a line
    bool dropped_cr_ = false;  // the last octet dropped was a CR
};

}  // namespace sluice::smtp
