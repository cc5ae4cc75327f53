#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "mail/address.h"

namespace sluice::mail {

// RFC 3461 §4.1: when a recipient wants to be told. Bits; none set means the sender did not say.
enum Notify : std::uint8_t { notify_default = 0, notify_never = 1, notify_success = 2, notify_failure = 4, notify_delay = 8 };

// RFC 3461 §4.3.
enum class Return : std::uint8_t { unspecified, full, headers };

// RFC 6152, RFC 3030.
enum class BodyType : std::uint8_t { unspecified, seven_bit, eight_bit_mime, binary_mime };

// One forward-path with its parameters. Value.
struct Recipient {
    Address address;
    std::uint8_t notify = notify_default;  // bits of Notify
    std::string orcpt;                     // as received, still in xtext ("rfc822;user+2Bx@y"); forwarded byte-identical
    friend bool operator==(const Recipient&, const Recipient&) = default;
};

// Apart from content: who sends, who receives, and the parameters of the transaction (RFC 5321 §2.3.1). Value.
struct Envelope {
    Address reverse_path;  // null for notifications
    Return ret = Return::unspecified;
    std::string envid;     // as received, still in xtext
    BodyType body = BodyType::unspecified;
    bool smtputf8 = false;
    std::optional<std::int8_t> mt_priority;  // -9 .. 9 (RFC 6710), as received
    std::vector<Recipient> recipients;
    friend bool operator==(const Envelope&, const Envelope&) = default;
};

// One destination of a message: Haraka's hmail. `recipients` are indexes into Envelope::recipients, ascending.
struct ItemSpec {
    std::string domain;  // routing key: lower case, A-labels; or an address literal "[192.0.2.1]"
    std::vector<std::uint32_t> recipients;
    friend bool operator==(const ItemSpec&, const ItemSpec&) = default;
};

// What a scan of the content found; decides which extensions delivery needs.
struct ContentTraits {
    bool has_8bit = false;           // any octet above 127
    bool has_8bit_header = false;    // in the header section: needs SMTPUTF8
    bool has_leading_dot = false;    // some line starts with '.': DATA must stuff
    bool has_bare_eol = false;       // a bare CR or LF (only through BINARYMIME): BDAT only
    std::uint32_t header_size = 0;   // octets of `content` up to and including the empty line (all of it if none)
    std::uint32_t line_max = 0;      // the longest line, without CRLF
    friend bool operator==(const ContentTraits&, const ContentTraits&) = default;
};

// What a note or a header field says of a message, kept beside it because policies may ask for it. Value.
struct Mark {
    std::string field;  // as policies name it: "notes.campaign", "header.x-mailer"
    std::string value;
    friend bool operator==(const Mark&, const Mark&) = default;
};

// One accepted message. Immutable once admitted, shared between threads.
// On the wire it is `trace` followed by `content`; both are CRLF text, not dot-stuffed, each ending in CRLF (or empty).
struct Message {
    MessageId id;
    Instant arrival;
    Envelope envelope;
    std::vector<ItemSpec> items;
    std::string trace;    // header fields that we put on top
    std::string content;  // as received
    ContentTraits traits; // of trace and content together, but header_size counts `content` only
    std::string notes;    // JSON object text, or empty
    std::string tenant;   // who shares capacity with others; empty for the default one
    std::string job;      // what it is part of, a campaign say
    std::string transport;  // which local addresses it goes out from; empty: the default ones
    std::uint8_t priority = 4;  // 0 (lowest) .. 7 (highest)
    std::chrono::seconds lifetime{0};  // given up after this; 0: as long as any other
    std::vector<Mark> marks;
    std::string origin;   // "smtp 192.0.2.1", "http", "dsn": for events and logs
    std::string auth_user;

    std::size_t size() const { return trace.size() + content.size(); }
};
using MessagePtr = std::shared_ptr<const Message>;

// Groups recipients into items, one per domain in order of first appearance, or one per recipient.
std::vector<ItemSpec> split_items(const std::vector<Recipient>& recipients, bool always_split);

}  // namespace sluice::mail
