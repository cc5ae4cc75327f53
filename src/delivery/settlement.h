#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "config/settings.h"
#include "delivery/bounce.h"
#include "delivery/client_session.h"
#include "delivery/disposition.h"
#include "delivery/dsn_admission.h"
#include "delivery/hooks.h"
#include "event/events.h"
#include "event/log.h"
#include "queue/core.h"
#include "spool/spool.h"

namespace sluice::delivery {

class CoreInbox;
struct Surroundings;

// An attempt that has ended, or an item that is decided without one: what was found out. Views live for the call.
struct Attempted {
    const queue::Work& work;
    mail::MessagePtr message;
    std::string_view domain;                  // routing key, for the log
    std::vector<std::uint32_t>& recipients;   // the undecided ones of the item; indexes into the envelope
    Verdicts& verdicts;                       // one for each of them
    Standing standing;
    event::Link link;
    const policy::DeliverySettings* how = nullptr;  // of delivery.yaml; may be null
    bool next_hop_has_dsn = false;            // our NOTIFY parameters were passed on (RFC 3461 §5.2.2)
    Duration took{0};
    bool may_go_on = true;                    // false: decided without a session, so there is no other host or session
};

// When nothing more is tried: at the end of the queue's lifetime, or of the message's own.
Instant given_up_at(const queue::Work& work, const mail::Message& message, const config::Settings& settings,
                    const policy::DeliverySettings* how);

// What will become of an attempt's recipients if no plugin objects: places in Attempted::recipients.
struct Prospect {
    bool goes_on = false;  // with another host or session: nothing is decided
    std::vector<std::size_t> delivered, deferred, failed;  // the last with those that expire
    Instant next;          // of the deferred ones
};

// What plugins want instead. Value.
struct Wishes {
    std::optional<Instant> next;             // of the deferred ones
    std::vector<std::size_t> dropped;        // these of the deferred ones are removed
    std::string dropped_by;                  // by this plugin
    std::optional<std::string> silenced_by;  // no failure is notified, says this plugin
    std::optional<Bounce> notification;      // as plugins made it; nothing: settle() composes it, when there is one
    std::optional<Instant> asked_at;         // what was foreseen then comes to pass, however long they took
    std::vector<std::size_t> recorded;       // see record_early()
};

// Turns verdicts into what is kept: outcomes, the next attempt, notifications, events and log lines.
//
// Promise: one spool batch carries all of it but what record_early() did, so that a crash neither repeats nor loses a notification;
// the core is told afterwards. Shard-owned.
class Settlement {
public:
    Settlement(const Surroundings& surroundings, std::uint64_t seed);

    // Gives the AttemptEnded to push, with item, verdict, next, pending, delay_notified, permanent and source_unusable
    // filled in. When the verdict is next_candidate or fresh_session nothing was recorded. With wishes, `settings` are
    // those that they were foreseen with.
    queue::AttemptEnded settle(
        const Attempted& attempted, const config::Settings& settings, Wishes wishes = {});
    // What settle() would decide at `now`. The time of the next attempt varies: a wish has to name it.
    Prospect foresee(const Attempted& attempted, const config::Settings& settings, Instant now);
    // Before plugins think about the others: who got the message does not get it again if the engine ends meanwhile. Leaves out those of whom
    // the sender is to be told, which is recorded together. Returns the places that are recorded, for the wishes.
    std::vector<std::size_t> record_early(const Attempted& attempted, std::vector<std::size_t> delivered, Instant now);
    // What settle() would tell the sender, with these wishes.
    std::optional<Bounce> draft(const Attempted& attempted, const config::Settings& settings, const Wishes& wishes);
    // An attempt that does not begin yet, though nothing has failed.
    queue::AttemptEnded postpone(const queue::Work& work, Instant next, const std::string& why);
    // The same for an item whose message cannot be read. One that is damaged is held for the operator and reported as an
    // error; a disk that fails is a temporary failure; of one that is gone everything was decided before.
    queue::AttemptEnded settle_lost(
        const queue::Work& work, const Error& error, const config::Settings& settings, const policy::DeliverySettings* how);

private:
    struct Sorted;

    static void grant(const Wishes& wishes, Sorted& sorted);
    Sorted sort(const Attempted& attempted, const config::Settings& settings, Instant now);
    std::optional<Bounce> notify(
        const Attempted& attempted, const Sorted& sorted, const config::Settings& settings, Instant now);
    spool::Batch record(const Attempted& attempted, const Sorted& sorted, Instant now, bool delay_told) const;
    void forget(ItemId item);
    void tell(const Attempted& attempted, const Sorted& sorted, MessageId dsn, Instant now);
    void warn_of_source(const Attempted& attempted, Instant now);
    void tell_duplicates(const Attempted& attempted, const Sorted& sorted, Instant now);
    void log_delivered(const Attempted& attempted, const Sorted& sorted, Instant now) const;
    void log_failures(const Attempted& attempted, const Sorted& sorted, MessageId dsn, Instant now) const;

    spool::Spool& spool_;
    CoreInbox& core_;
    Hooks* const hooks_;
    event::Recorder& events_;
    event::Log& log_;
    const Clock& clock_;
    Random random_;
    Bounces bounces_;
    DsnAdmission dsn_admission_;
    Instant source_warned_until_;
};

}  // namespace sluice::delivery
