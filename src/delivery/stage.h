#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "config/settings.h"
#include "policy/delivery.h"

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

// How long the peer may take in each stage towards one host: as delivery.yaml says, or else the settings. Value.
class StageTimeouts {
public:
    // `how` may be null.
    StageTimeouts(const config::OutboundSettings& settings, const policy::DeliverySettings* how, bool lmtp);

    Duration operator[](Stage stage) const { return times_[static_cast<std::size_t>(stage)]; }
    // EHLO was refused: from now on stage `helo` is HELO.
    void fall_back_to_helo() { times_[static_cast<std::size_t>(Stage::helo)] = old_helo_; }

private:
    std::array<Duration, stage_count> times_{};
    Duration old_helo_{0};
};

}  // namespace sluice::delivery
