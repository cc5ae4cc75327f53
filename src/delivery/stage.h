#pragma once

#include <cstdint>

#include "config/settings.h"

namespace sluice::delivery {

// How far an attempt has come; where a reply or an error belongs to.
enum class Stage : std::uint8_t {
    route,     // before any connection: the answer of DNS or of the route table
    load,      // reading the message from the spool
    connect,
    greeting,
    helo,      // EHLO, HELO or LHLO
    starttls,  // the command
    tls,       // the handshake
    auth,
    mail,
    rcpt,
    data,      // the command
    body,      // content under way, the end of it not yet handed over
    dot,       // all content is handed over, its reply is awaited
    quit,
};
constexpr int stage_count = static_cast<int>(Stage::quit) + 1;

// What holds for a stage whatever happens in it. Immutable.
struct StageFacts {
    const char* name;  // for logs and events
    // How long the peer may take in it (RFC 5321 §4.5.3.2); null before there is a peer.
    config::Milliseconds config::OutboundSettings::* timeout;
    bool of_host;        // what fails here says something of the host and nothing of the message
    bool may_duplicate;  // a link lost here leaves open whether the peer took the message (RFC 1047)
};
const StageFacts& facts_of(Stage stage);

}  // namespace sluice::delivery
