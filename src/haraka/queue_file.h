#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "mail/address.h"

namespace sluice::haraka {

// A recipient with what plugins noted on it: JSON object text, or empty. Value.
struct QueuedRecipient {
    mail::Address address;
    std::string noted;
};

// The contents of one queue file: a message for the recipients of one destination. Value.
//
//   u32 big-endian: octets of the todo | todo, JSON | message, dots stuffed, without the final dot
struct QueueFile {
    std::int64_t queue_time_ms = 0;  // when Haraka took the message; 0: it does not say
    std::string domain;              // where it goes, as a routing key
    mail::Address reverse_path;
    std::vector<QueuedRecipient> recipients;  // at least one
    std::string notes;               // JSON object text; empty: none
    std::string uuid;                // as Haraka's log calls it; may be empty
    bool force_tls = false;
    std::string content;             // lines end in CRLF, dots are not stuffed
    bool mended = false;             // it had other line ends, a last line without one, or NUL
};

// Why a file cannot be taken: where it stops making sense, and a sentence. Value.
struct Fault {
    std::uint64_t offset = 0;
    std::string reason;
};

// Borrows nothing of `bytes` in the end. Takes what Haraka takes, in all forms that its versions have written, and addresses that are
// stranger than they should be, as long as they can be sent.
tl::expected<QueueFile, Fault> parse_queue_file(std::string_view bytes);

}  // namespace sluice::haraka
