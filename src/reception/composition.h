#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "config/settings.h"
#include "mail/header.h"
#include "mail/message.h"
#include "smtp/reply.h"

namespace sluice::reception {

// Who brings a message, as its trace tells. Views live for the call.
struct Bearer {
    std::string_view client_ip;  // empty for the API
    std::string_view helo;
    std::string_view tls;        // "TLSv1.3 TLS_AES_256_GCM_SHA384", or empty
    std::string with;            // the keyword of Received
    std::string origin;          // Message::origin
    std::string auth_user;
    std::uint16_t port = 0;      // of ours; 0: none
    // Ours to complete: a relaying client hands in new mail, so a missing Date or Message-ID is added (RFC 6409 §8).
    bool submits = false;
    // A user, not a program that relays: what no user agent may send is refused (F5322-01).
    bool strict_header = false;
    // The client could have said SMTPUTF8, so a header with octets above 127 without it is refused (EA-1).
    bool knows_smtputf8 = false;
};

// What makes a message of an envelope and clean content (CRLF lines only).
struct Parts {
    mail::Envelope envelope;
    std::string content;
    std::string notes;
    // What the sender says by other means than the header; it comes before what fields.yaml says.
    std::string tenant, job, transport;
    std::optional<std::uint8_t> priority;
    std::chrono::seconds lifetime{0};  // 0: does not say
    bool traced = false;  // prepare_content() was called for the content
};

// Makes sure that content begins with its header section, so that no field set in front of it goes on in it and no line of
// the body becomes a field: lines of a mailbox file above the first field ("From someone Mon Jan ...") go; where the first
// line is no field all of it is body, behind an empty header section; and where no empty line ends the fields, the body
// begins with the first line that is none.
void settle_header_section(std::string& content);

// Makes of content what plugins are to see before compose() has the rest to say: cleaned, with an end of the header section,
// and with our Received on top. A reply: it is beyond the limits, as compose() says.
std::optional<smtp::Reply> prepare_content(
    std::string& content, const mail::Envelope& envelope, const Bearer& bearer, MessageId id, const config::Settings& settings);

// Checks the header section against the limits, unless that was done before plugins added to it, gives the message its fields (assignment.h), adds what the standards ask for on top, removes Return-Path, and
// splits the recipients into items. A refusal is the reply to the end of the content: 554 5.4.6 for a loop, 552 5.3.4
// for a header too large, 554 5.6.0 for one with too many lines or two From fields, 553 5.6.7 for EA-1. Then the
// envelope stays in the parts.
tl::expected<mail::MessagePtr, smtp::Reply> compose(
    Parts&& parts, const Bearer& bearer, MessageId id, Instant arrival, const config::Settings& settings);

}  // namespace sluice::reception
