#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "smtp/reply.h"

namespace sluice::smtp {

// RFC 9422. Nothing: no such limit known.
struct Limits {
    std::optional<std::uint32_t> rcpt_max;         // recipients per transaction
    std::optional<std::uint32_t> mail_max;         // transactions per connection
    std::optional<std::uint32_t> rcpt_domain_max;  // recipient domains per transaction
    friend bool operator==(const Limits&, const Limits&) = default;
};

// What one side of a session offers after EHLO. Value. Forget it at STARTTLS: the other side may offer
// something else inside (RFC 3207 §4.2).
struct Extensions {
    bool pipelining = false;      // RFC 2920
    bool size = false;            // RFC 1870
    std::uint64_t size_max = 0;   // octets; 0: no fixed limit
    bool eight_bit_mime = false;  // RFC 6152
    bool smtputf8 = false;        // RFC 6531
    bool chunking = false;        // RFC 3030
    bool binarymime = false;      // RFC 3030
    bool dsn = false;             // RFC 3461
    bool enhanced_codes = false;  // RFC 2034
    bool starttls = false;        // RFC 3207
    bool requiretls = false;      // RFC 8689
    bool mt_priority = false;     // RFC 6710
    bool help = false;
    bool vrfy = false;
    std::vector<std::string> auth;  // SASL mechanisms, upper case, as offered (RFC 4954)
    Limits limits;

    friend bool operator==(const Extensions&, const Extensions&) = default;
    bool offers_auth(std::string_view mechanism) const;
};

// From the reply to EHLO or LHLO: its first line is a greeting, each other one a keyword. Unknown keywords
// are passed over; so are limits that are no positive number of at most six digits (LI-5), a SIZE beyond 64 bits,
// what is too long for the name of a mechanism, and mechanisms after the thirty-second.
Extensions parse_extensions(const Reply& ehlo);

// The reply to EHLO: the greeting line, then a keyword line per extension.
Reply format_extensions(const Extensions& offered, std::string_view greeting);

}  // namespace sluice::smtp
