#pragma once

#include <optional>
#include <vector>

#include "config/settings.h"
#include "delivery/disposition.h"
#include "mail/dsn.h"
#include "queue/core.h"
#include "spool/id_source.h"

namespace sluice::delivery {

// A notification ready to enter the queue: its message goes into the batch of the outcomes that it tells of.
struct Bounce {
    mail::MessagePtr message;
    queue::Admit admit;
    bool tells_failure = false;  // not only of delays or successes
    bool tells_delay = false;

    // Plugins have made another message of it, with the same envelope.
    void become(mail::MessagePtr changed);
};

// What is to be told about one recipient, if its sender wants to know.
struct Told {
    std::uint32_t recipient = 0;  // index into the envelope
    const Verdict* verdict = nullptr;
    Fate fate = Fate::failed;
};

// Writes delivery status notifications (RFC 3461 to 3464): failures unless NOTIFY says otherwise, delays and successes
// when it asks for them, nothing at all about a null reverse-path. Shard-owned.
class Bounces {
public:
    explicit Bounces(spool::IdSource& ids) : ids_(ids) {}

    // What all recipients of one notification share.
    struct About {
        mail::MessagePtr original;
        std::string_view remote_mta;
        bool relayed_blind = false;  // the next hop does not know DSN: success must be told here (DS-03)
        bool final_hop = false;      // LMTP: what was delivered has arrived
        bool delay_is_due = false;   // waits long enough, and no delay was told of yet
        bool tell_delay = false;     // also to senders who did not say whether they want to know
        Instant now;
        Instant given_up_at;         // when the queue's patience ends, for delays
    };

    // One notification about all of `told` that deserve it, or nothing.
    std::optional<Bounce> compose(const About& about, const std::vector<Told>& told, const config::Settings& settings);

private:
    spool::IdSource& ids_;
};

}  // namespace sluice::delivery
