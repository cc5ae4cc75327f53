#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::policy {

// Where in a conversation something failed, in the words of the policy file.
enum class Stage : std::uint8_t { connect, banner, ehlo, tls, auth, mail, rcpt, data, dot };
inline constexpr std::size_t stage_count = 9;
const char* name_of(Stage stage);

// What a failure means, whatever words it uses. Receivers hardly agree on codes, so the text decides first.
enum class Failure : std::uint8_t {
    connection,       // no connection, or it broke
    tls,
    connections,      // too many sessions at once
    session_messages, // too many messages in one session
    throttled,        // too much mail for now
    blocked,          // our address is on a list
    greylisted,
    busy,             // the receiver has troubles of its own
    unknown_mailbox,
    full_mailbox,
    disabled_mailbox,
    content,          // this message, or what it proves of its sender, is not wanted
    auth,             // our credentials
    other,
};
inline constexpr std::size_t failure_count = 14;
const char* name_of(Failure failure);
std::vector<std::string> failure_names();
std::vector<std::string> stage_names();

// One failure: what a host said, or why it said nothing. Value.
struct Observation {
    Stage stage = Stage::connect;
    std::uint16_t code = 0;          // 400..599; 0: `error` says it
    Errc error = Errc::link_closed;  // only with code 0
    std::string status;              // enhanced code; empty: none
    std::string text;                // of the reply without codes, or the error's detail; at most observed_text_max octets
    Failure failure = Failure::other;

    // "421 4.7.28 unusual rate", "timed_out: ...".
    std::string reply() const;
};
inline constexpr std::size_t observed_text_max = 512;

Failure classify(const Observation& observation);

}  // namespace sluice::policy
