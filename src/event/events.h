#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/ids.h"
#include "mail/message.h"

// One struct per fact. All are views for the duration of the call that records them.
namespace sluice::event {

// Which connection a delivery fact is about. Empty when no connection was made.
struct Link {
    std::string_view mx_host;
    std::string_view remote;       // "192.0.2.1:25" or a socket path
    std::string_view local;        // "198.51.100.7:41234"
    std::string_view tls_version;  // empty in clear
    std::string_view tls_cipher{};
    bool tls_verified = false;
    bool authenticated = false;
    bool lmtp = false;
    std::uint32_t message_number = 0;  // on this connection, from 1
};

// A client's message is durable; it was told 250.
struct Accepted {
    const mail::Message& message;
    std::string_view client{};      // address of the submitting peer, or "http", "dsn"
    std::string_view helo{};
    std::string_view tls_cipher{};
    Duration took{0};              // from the first octet of content to durable
};
// A client was refused something: one reply of class 4 or 5 to MAIL, RCPT, DATA or the final dot.
struct Refused {
    std::string_view session{};
    std::string_view client;
    std::string_view stage{};       // "connect", "mail", "rcpt", "data", ...
    std::string_view reply{};       // "550 5.7.1 relaying denied"
    std::string_view reverse_path{}, forward_path{};
};
// Base of what happens to recipients of an item. `recipients` are indexes into the envelope.
struct ItemFact {
    const mail::Message& message;
    ItemId item;
    std::span<const std::uint32_t> recipients;
    std::uint16_t attempts = 0;    // this one included
    Link link{};
    std::string_view stage{};       // where it was decided: "connect", "greeting", "rcpt", "dot", "dns" ...
    std::string_view reply{};       // deciding reply, or the error's text
    std::string_view status{};       // enhanced code "2.0.0"
    Duration since_arrival{0};
    Duration attempt_took{0};
};
struct Delivered : ItemFact {
    std::uint32_t deferred_count = 0, bounced_count = 0;  // of the same attempt
};
struct Deferred : ItemFact {
    std::int64_t next_wall_ms = 0;  // when it is tried again
};
struct Bounced : ItemFact {
    MessageId dsn{};               // 0: none was sent (NOTIFY=NEVER, null sender)
};
struct Expired : ItemFact {
    MessageId dsn;
};
struct Removed : ItemFact {
    std::string_view by{};
};
// The link was lost after our final dot and before the reply: the next attempt may repeat the message.
struct PossibleDuplicate : ItemFact {};

// A condition or suspension that is not in the files was set, or is gone.
struct PolicyChanged {
    std::string_view kind;        // "condition", "suspension"
    std::string_view change;      // "added", "updated", "expired", "removed"
    std::string_view id;
    std::string_view definition;  // all of it, as JSON
    std::string_view by{}, reason{};
};

// The engine changed limits by itself: by a rule of the policy file, or as they move with the outcomes.
struct Reaction {
    std::string_view by;        // "rule google-unusual-rate", "adaptive NAME OF POLICY"
    std::string_view concerns;  // "localip 192.0.2.1, remotemx #google"
    std::string_view what;      // "10 per 60 s for 1800 s"
    std::string_view because{}; // the reply that led to it; empty when only time has passed
    std::string_view id{};      // of the condition or suspension
};

// Receives facts from any thread. Must be quick: formatting into a buffer, counting.
class Recorder {
public:
    virtual ~Recorder() = default;
    virtual void record(const Accepted& fact) = 0;
    virtual void record(const Refused& fact) = 0;
    virtual void record(const Delivered& fact) = 0;
    virtual void record(const Deferred& fact) = 0;
    virtual void record(const Bounced& fact) = 0;
    virtual void record(const Expired& fact) = 0;
    virtual void record(const Removed& fact) = 0;
    virtual void record(const PossibleDuplicate& fact) = 0;
    virtual void record(const PolicyChanged& fact) = 0;
    virtual void record_reaction(const Reaction&) {}
};

}  // namespace sluice::event
