#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "base/clock.h"
#include "config/settings.h"
#include "mail/message.h"
#include "spool/id_source.h"

namespace sluice::reception {

// A message handed in whole, by the HTTP API or the command line. Texts are as the caller gave them: untrusted. Value.
struct Injection {
    std::string reverse_path;             // "a@b", or empty for the null path
    std::vector<std::string> recipients;  // "a@b"; the same mailbox twice gets the message once
    std::string content;                  // header, empty line, body; lines end in CRLF, or all of them in LF
    std::string envid;                    // plain text; goes out in xtext
    mail::Return ret = mail::Return::unspecified;
    std::uint8_t notify = mail::notify_default;  // bits of mail::Notify, for every recipient
    std::string tenant, job, transport;   // what is empty, fields.yaml may say
    std::string notes;                    // JSON object text, or empty
    std::optional<int> priority;          // 0 .. 7
    std::string lifetime;                 // "90", "15m", "3d", or empty
    std::string client_ip;                // of the HTTP client, or empty
    std::string auth_user;
    std::string origin = "http";          // Message::origin; its first word is the protocol in Received
    bool strict_header = true;            // two From or Date fields are refused
};

// What is wrong with which field: "recipients[2]", "content", ... The reason is a sentence without line ends.
struct FieldError {
    std::string field;
    std::string reason;
    friend bool operator==(const FieldError&, const FieldError&) = default;
};

// Makes a message of it by the rules that hold for SMTP: size, line ends (bare CR and NUL always refused, a bare LF among
// CRLF lines unless [main] bare_eol = normalise), header limits, loops; adds Received, Date and Message-ID, removes
// Return-Path. SMTPUTF8 is set when an address or the header needs it. All bad fields are reported together.
// Thread-safe.
tl::expected<mail::MessagePtr, std::vector<FieldError>> make_message(
    Injection injection, const config::Settings& settings, const Clock& clock, spool::IdSource& ids);

}  // namespace sluice::reception
