#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "delivery/stage.h"

namespace sluice::delivery {

// So much of a reply's text is kept, by every recipient that it decides: what a notification shows of it. Events, logs and
// plugins get that too.
inline constexpr std::size_t reply_text_max = 2'000;
// A longer text becomes one line with "..." at its end.
std::string kept(std::string reply_text);

// What decided a recipient: the peer's reply, or why there was none. Value.
struct Verdict {
    Stage stage = Stage::route;
    std::uint16_t code = 0;          // of the reply, 200-299 or 400-599; 0: `error` decided
    Errc error = Errc::link_closed;  // only with code 0
    std::string status;              // enhanced code as the peer (or our refusal) gave it; empty: none
    std::string text;                // of the reply without codes, as kept(), or the error's detail

    static Verdict of_error(Stage stage, const Error& error) { return Verdict{stage, 0, error.code, {}, error.detail}; }
    bool positive() const { return code >= 200 && code < 300; }
    // "550 5.1.1 no such user", or the error's name and detail.
    std::string reply_text() const;
};

// Where the attempt stands when a verdict is judged. Value.
struct Standing {
    bool more_hosts = false;        // another candidate is left
    bool permanent_so_far = true;   // every host tried before refused for good
    bool decided_some = false;      // another recipient of this attempt was decided by this host already
    bool reused_untouched = false;  // reused connection, and no reply to MAIL was read on it for this message
};

enum class Fate : std::uint8_t {
    delivered,
    deferred,
    failed,
    expired,         // the queue's patience is over, whatever the peer said last
    next_candidate,  // the host failed, not the message: nothing is decided
    fresh_session,   // a pooled connection had died unnoticed: the same again on a new one
};

// What a verdict means. Value.
struct Ruling {
    Fate fate = Fate::deferred;
    bool host_refused_for_good = false;  // with next_candidate: a permanent answer of this host
    bool possible_duplicate = false;     // the peer may have taken the message all the same
    bool source_at_fault = false;        // our own address or resources failed: the peer is blameless
    bool session_spent = false;          // nothing more may be sent on this connection
    friend bool operator==(const Ruling&, const Ruling&) = default;
};

// The single place where a reply or an error becomes delivered, deferred or failed. A truth table: no state, no clock.
// The first digit of the reply decides (RFC 5321 §4.2.1), whatever its enhanced code claims (ES-2).
Ruling rule(const Verdict& verdict, const Standing& standing);

// The enhanced code to record (RFC 3463): the peer's own when it has one, with the class that the ruling gives it,
// else derived from stage and code or error.
std::string status_for(const Verdict& verdict, Fate fate);

}  // namespace sluice::delivery
