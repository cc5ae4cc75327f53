#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "mail/message.h"

namespace sluice::spool {

// How one recipient ended. Stored; the numbers are part of the format.
enum class Outcome : std::uint8_t { delivered = 1, bounced = 2, expired = 3, removed = 4 };

// ---- records -------------------------------------------------------------------------------------------------

// A whole message: envelope, items, notes, trace, content.
struct MessageRecord {
    mail::MessagePtr message;
};
// Final outcomes of some recipients of an item. `recipients` are indexes into Envelope::recipients; none: all that are
// undecided, for those who cannot read the message. Then the spool finds out who they are before it writes.
struct OutcomeRecord {
    ItemId item;
    Outcome outcome;
    std::vector<std::uint32_t> recipients;
    Instant at;
    std::string by;  // who removed it: "operator", "plugin NAME"; empty for deliveries
};
// What the next attempt of an item waits for, and why the last one failed. Replaces earlier ones of the item.
struct ScheduleRecord {
    ItemId item;
    std::uint16_t attempts = 0;
    Instant next;
    bool delay_notified = false;  // a delay DSN has been sent
    std::string last_reply;       // for operators; at most 512 octets are kept
};
// What an operator has said of an item: that it is held or not, and what of it is changed. Replaces earlier ones of the item.
struct HoldRecord {
    ItemId item;
    bool held = true;
    std::string by;
    std::string changes = {};  // queue::ItemChanges::format(); opaque here, at most changes_bytes_max octets
};
inline constexpr std::size_t changes_bytes_max = 64 * 1024;
// Opaque, durable state by key; an empty value erases it (dynamic policies, idempotency keys).
struct PolicyRecord {
    std::string key;
    std::string value;
};
using Record = std::variant<MessageRecord, OutcomeRecord, ScheduleRecord, HoldRecord, PolicyRecord>;

// Records that become durable together or not at all (a bounce and its DSN, say).
using Batch = std::vector<Record>;

// ---- completion ----------------------------------------------------------------------------------------------

struct Committed {
    std::uint64_t ticket;  // as given to append()
    Result<> result;
};
// Told about a whole sync at once, on the writer's thread; must hand over quickly (a Mailbox push). Outlives the spool
// or the last ticket that names it.
class CommitListener {
public:
    virtual ~CommitListener() = default;
    virtual void committed(std::span<Committed> commits) = 0;
    // Whether somebody repeats what failed. When not, the spool keeps a failed batch and writes it again, elsewhere, until
    // the disk takes it or the spool closes: such a listener only ever hears of success.
    virtual bool repeats() const { return true; }
};

// ---- recovery ------------------------------------------------------------------------------------------------

// One undecided item found at start. `pending` are the recipients without an outcome. Views live for the call only.
struct RecoveredItem {
    ItemId id;
    std::string_view domain;
    std::string_view tenant, job, transport;
    std::string_view sender_domain;
    std::span<const std::pair<std::string_view, std::string_view>> marks;
    std::string_view last_reply;
    std::string_view changes;  // as in the latest HoldRecord
    std::span<const std::uint32_t> pending;
    std::uint32_t recipient_count = 0;  // of the item as accepted
    std::uint32_t size = 0;             // of the message, octets
    std::uint32_t source_hash = 0;      // see source_hash() below
    Instant arrival;
    Instant next;
    std::uint16_t attempts = 0;
    std::uint8_t priority = 4;
    std::chrono::seconds lifetime{0};   // its own; 0: none
    bool held = false;
    bool delay_notified = false;
};

// CRC-32 (zlib) over "local@domain" of the reverse-path (nothing when it is null) and then of each forward-path of the
// item, as written. The same sender and recipients give the same number for ever: a source address is chosen by it.
std::uint32_t source_hash(const mail::Envelope& envelope, const mail::ItemSpec& item);
// Of the reverse-path, in the form of a routing key; empty for the null path.
std::string sender_domain(const mail::Envelope& envelope);

struct RecoveryReport {
    std::uint64_t messages = 0, items = 0, segments = 0;
    std::uint64_t torn_bytes = 0;         // an unfinished batch at the very end: normal after a crash
    std::uint64_t corrupt_batches = 0;    // checksum failures elsewhere: quarantined, reported
    Instant latest;                       // latest instant in the journal: the floor for the engine's clock
    MessageId last_id;                    // highest id ever seen: new ids start above
    std::vector<std::string> warnings;    // one sentence each, naming the file and offset
    std::vector<PolicyRecord> policies;
};

// ---- the spool -----------------------------------------------------------------------------------------------

struct Options {
    std::string directory;                            // created with mode 0700 when missing
    std::uint64_t segment_bytes = 128ull << 20;
    std::uint64_t reserve_bytes = 16ull << 20;        // preallocated, for outcomes on a full disk
    std::uint64_t free_bytes_min = 64ull << 20;       // admission: below this much free disk, accepting stops
    std::uint64_t queued_bytes_max = 256ull << 20;    // appended but not yet synced; above, accepting stops
    bool sync = true;                                 // false relaxes the durability promise; visibly
    // Told one sentence when the disk fails or fills up, when damage is met, when space cannot be given back: somebody must
    // look. Once for each failure, however often it is tried again. From the writer's thread, and within open().
    std::function<void(const std::string& sentence)> on_problem = [](const std::string&) {};
};

struct Status {
    std::uint64_t segments = 0, disk_bytes = 0, live_bytes = 0, live_messages = 0;
    std::uint64_t appended_bytes = 0, syncs = 0, sync_failures = 0, reclaimed_bytes = 0, rewritten_bytes = 0;
    std::uint64_t free_disk_bytes = 0, waiting_bytes = 0;
    bool accepting = true;  // false: admission answers 452
    std::string why_not;    // a sentence, when not accepting
    std::uint64_t problems = 0;  // damage and failed reclaiming since the start: somebody should look
    std::string last_problem;    // a sentence, naming the file
};

// Whether the writer's thread does its work.
struct Pulse {
    std::uint64_t steps = 0;  // grows with everything that it and the disk get done
    bool idle = true;         // nothing waits for it
    bool at_disk = false;     // some call to the disk, of any thread, has not come back yet
};

// Keeps accepted messages until every recipient is decided.
//
// Promise: when `committed` reports success for a ticket, its records survive a crash of the process or the machine, as
// the OS reports it. A batch is atomic. After a failed sync nothing is retried on the same data (DESIGN §5): every ticket
// of that sync fails with disk_failed or disk_full, the segment is abandoned, a new one is opened and probed.
// Thread: append(), load(), status(), pulse() from any thread. Writing, syncing and reclaiming run on the spool's own thread.
// Limits: one message at most 1 GiB. load() reads the disk: call it on a blocking pool.
class Spool {
public:
    // Takes the lock (locked: another instance runs), recovers, and tells every undecided item to `on_item`.
    // Reads segment indexes and the tail, not bodies.
    static Result<std::unique_ptr<Spool>> open(
        const Options& options, const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report);
    virtual ~Spool() = default;

    // Queues a batch for the next sync. `listener` may be null: nobody waits, and nobody repeats. A message whose last recipient gets its
    // outcome is forgotten and its space reclaimed later.
    virtual void append(Batch batch, CommitListener* listener, std::uint64_t ticket) = 0;

    // The message from disk. Errors: not_found (all decided), corrupt (quarantined and reported), disk_failed.
    virtual Result<mail::MessagePtr> load(MessageId id) = 0;

    virtual Status status() const = 0;
    virtual Pulse pulse() const = 0;  // never waits for the disk
    // Cheap enough to be asked per message: false when admission should answer 452.
    virtual bool accepting() const = 0;

    // Writes and syncs what waits, seals, releases the lock. append() must not be called any more.
    virtual void close() = 0;
};

}  // namespace sluice::spool
