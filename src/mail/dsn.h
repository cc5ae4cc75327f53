#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mail/message.h"

namespace sluice::mail {

// RFC 3464 §2.3.3.
enum class DsnAction : std::uint8_t { failed, delayed, delivered, relayed, expanded };
std::string_view name_of(DsnAction action);

// Whether the sender is to be told (RFC 3461 §4.1, §5.2): nobody is told about a null reverse-path; NOTIFY
// decides; without NOTIFY failures are reported, delays if `report_delays` (our setting), successes never.
bool deserves_dsn(const Envelope& envelope, const Recipient& recipient, DsnAction action, bool report_delays);

// What to say about one recipient.
struct RecipientReport {
    Recipient recipient;
    DsnAction action = DsnAction::failed;
    std::string status;      // "5.1.1"; empty: taken from the diagnostic, else class and ".0.0" by action
    std::string remote_mta;  // name of the MX host that decided, or empty
    std::string
        diagnostic;      // its reply "550 5.1.1 No such user", any octets; empty when no peer said anything
    std::string reason;  // a sentence of ours; empty: the diagnostic
    std::optional<std::int64_t> last_attempt_ms;      // wall clock
    std::optional<std::int64_t> will_retry_until_ms;  // wall clock; for delays only
};

// outbound.bounce_message, _html, _image: header fields, an empty line, a body, with Haraka's {variables}; an
// HTML document; one MIME part (header, empty line, body) that the HTML refers to. Empty: built-in text, no
// HTML, no image.
struct DsnTemplates {
    std::string text;
    std::string html;
    std::string image;
};

struct DsnRequest {
    MessagePtr original;                   // with a reverse-path that is not null
    std::vector<RecipientReport> reports;  // at least one
    std::string reporting_mta;             // our name
    MessageId id;                          // of the notification
    std::int64_t wall_ms = 0;              // now
    std::int64_t arrival_wall_ms = 0;      // when the original arrived, by the same clock
    std::uint64_t full_size_max =
        0;  // RET=FULL is honoured up to this many octets; beyond: header only (DS-12)
    DsnTemplates templates;
    std::string pid;  // for {pid}
};

// A notification, ready to be admitted: null reverse-path, the original sender as only recipient.
struct Dsn {
    Envelope envelope;
    std::string content;  // CRLF text
};

// Composes the multipart/report of RFC 3461 to 3464, 6522, 6533. What came from peers, senders and templates
// cannot add fields, parts or lines; without an SMTPUTF8 sender nothing needs SMTPUTF8 (DS-13).
Dsn compose_dsn(const DsnRequest& request);

// RFC 3464 §2.3.4 for a report without a status: see RecipientReport::status. The class always fits the
// action.
std::string dsn_status(const RecipientReport& report);

}  // namespace sluice::mail
