#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::mail {

// A mailbox as SMTP carries it (RFC 5321 §4.1.2, RFC 6531). Value.
// `local` is the dequoted local part with its octets preserved (case, no Unicode normalisation);
// `domain` as written by the sender, without trailing dot. Both empty: the null reverse-path.
struct Address {
    std::string local;
    std::string domain;

    bool is_null() const { return local.empty() && domain.empty(); }
    bool is_literal() const { return !domain.empty() && domain.front() == '['; }
    // Either part needs SMTPUTF8.
    bool needs_utf8() const;
    // Only the local part does: the domain can always go out as A-labels.
    bool local_needs_utf8() const;
    // "user@domain" with the local part quoted where the grammar asks for it; empty for the null path.
    // Never contains an octet below 0x20 or 0x7F: for every accepted address, parse(text()) gives the address back.
    std::string text() const;
    // The same with the domain in A-labels.
    std::string ascii_domain_text() const;
    // Routing key: domain in lower case and A-labels (UTS 46, non-transitional), literals canonical.
    std::string routing_domain() const;

    friend bool operator==(const Address&, const Address&) = default;
};

// Options of parse_path().
struct PathSyntax {
    bool allow_null = false;        // "<>" (MAIL FROM)
    bool allow_utf8 = true;         // octets above 127 (SMTPUTF8 was given)
    bool allow_postmaster = false;  // "<Postmaster>" without a domain (RCPT TO); local set, domain empty
    bool require_brackets = true;
};

// "<a@b>" of MAIL and RCPT: exactly one path and nothing else. Source routes ("<@x:a@b>"), unqualified and malformed
// addresses, control characters, ports after the domain, labels and parts beyond RFC 5321 §4.5.3.1 are refused;
// a refusal's detail is a sentence fit for an SMTP reply.
Result<Address> parse_path(std::string_view text, const PathSyntax& syntax);

// A bare "a@b" from configuration, API or command line.
Result<Address> parse_address(std::string_view text);

// Lower case, A-labels, no trailing dot; refuses what DNS must never be asked (EA-8). Literals pass when well-formed.
Result<std::string> normalise_domain(std::string_view domain);

// The octets that decode_xtext/encode_xtext carry (RFC 3461 §4).
std::string encode_xtext(std::string_view text);
Result<std::string> decode_xtext(std::string_view text);

}  // namespace sluice::mail
