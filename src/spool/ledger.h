#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/slab.h"
#include "spool/facts.h"
#include "spool/record_codec.h"

namespace sluice::spool {

// Where a record stands.
struct Place {
    std::uint32_t segment = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    friend bool operator==(const Place&, const Place&) = default;
};

// Which messages are undecided, where they stand, and what still matters in each segment. The same facts in
// the same order give the same ledger, whether they were just written or are read at start.
//
// What matters in a segment:
//   messages that stand there and have an undecided recipient;
//   outcomes whose message has a record in a segment that exists, for without them it would come back;
//   the latest schedule and the latest hold of an undecided item;
//   the latest value of a policy key, or its erasure while an older value exists.
// Not thread-safe. A message of one item and one recipient takes a row of 28 octets and its place in the index of the rows.
class Ledger {
public:
    void add_segment(std::uint32_t segment, std::uint64_t bytes);
    // Only when the segment is gone for good.
    void remove_segment(std::uint32_t segment);

    // Error: corrupt, for a record that passes its checksum and still makes no sense; it changes nothing.
    Result<> apply(std::uint32_t segment, const Fact& fact);

    // While segments are read at start, a schedule or hold may come before the copy of its message. Ends
    // that.
    void end_of_recovery();

    std::optional<Place> find(MessageId id) const;
    // The message is about to be asked for: its place is fetched into the processor's cache meanwhile.
    void prefetch(MessageId id) const { live_.prefetch(id); }
    // A small number that stands for a message as long as it is undecided; `none` for others. For tables beside the ledger.
    Index row(MessageId id) const { return live_.find(id); }
    Place place(Index row) const;
    // The recipients of `candidates` that have no outcome yet.
    void pending(MessageId id, const std::vector<std::uint32_t>& candidates, std::vector<std::uint32_t>& into)
        const;
    // Recipients with an outcome, of a message that has others without.
    std::vector<std::uint32_t> decided(MessageId id) const;

    // Whether a record of `segment` must be written again before the segment goes.
    bool matters(std::uint32_t segment, const Fact& fact);
    // Nothing in it does.
    bool dead(std::uint32_t segment) const;
    // Whether a message, schedule, hold or policy that matters stands there, whatever becomes of its
    // outcomes.
    bool holds_state(std::uint32_t segment) const;
    // Whether some segment may have died since the last call.
    bool take_maybe_dead() { return std::exchange(maybe_dead_, false); }
    // What would have to be written again, with its entries in the index, in octets. Right but for what was decided or replaced since it
    // was written, which takes an average with it.
    std::uint64_t matter_bytes(std::uint32_t segment) const;

    std::vector<std::uint32_t> segments() const;
    std::uint64_t bytes(std::uint32_t segment) const;
    std::uint64_t live_messages() const { return live_.size(); }
    std::uint64_t live_bytes() const { return live_bytes_; }
    Instant latest() const { return latest_; }
    MessageId last_id() const { return last_id_; }

private:
    // Every queued message has one of these, so its id is kept in halves: eight octets would be aligned, and cost four more.
    struct Live {
        using Key = MessageId;
        std::uint32_t id_high = 0;
        std::uint32_t id_low = 0;
        std::uint32_t segment : 31 = 0;
        std::uint32_t many : 1 = 0;  // the rest is in many_
        std::uint32_t offset = 0;    // in units of 8 octets
        std::uint32_t length = 0;
        std::uint32_t schedule = 0;  // segment of the latest schedule; 0: none. Of one-recipient messages only
        std::uint32_t hold = 0;

        MessageId key() const { return MessageId{std::uint64_t{id_high} << 32 | id_low}; }
    };
    static_assert(sizeof(Live) == 28);
    static_assert(segment_number_max + 100'000'000 < 1U << 31);
    struct ItemNotes {
        std::uint32_t schedule = 0;
        std::uint32_t hold = 0;
    };
    // The state of a message with more than one item or recipient.
    struct Many {
        std::vector<bool> listed;  // by recipient: some item has it
        std::vector<bool> pending;
        std::uint32_t pending_count = 0;
        std::vector<ItemNotes> items;
    };
    // Records of one kind that matter in a segment. How long each one is would be a word for every item; so what leaves takes
    // the average with it, and the last one all that is left.
    struct Kept {
        std::uint32_t count = 0;
        std::uint64_t bytes = 0;

        void enter(std::uint64_t octets) {
            ++count;
            bytes += octets;
        }
        void leave() {
            bytes -= bytes / count;
            --count;
        }
    };
    struct Tally {
        std::uint64_t bytes = 0;
        std::uint64_t live_bytes = 0;
        Kept messages;  // their entries in the index; the records are in live_bytes
        Kept notes;     // latest schedules and holds
        Kept policies;  // latest values and needed erasures
        // By segment of the message: octets of the outcomes that stand here.
        absl::flat_hash_map<std::uint32_t, std::uint64_t> outcomes;
    };
    struct PlacedNote {
        std::uint32_t segment = 0;
        std::uint32_t octets = 0;
    };
    struct EarlyNotes {  // read before their message
        PlacedNote schedule, hold;
    };
    struct Latest {
        std::uint32_t at = 0;     // where the latest value, or the erasure, stands
        std::uint32_t first = 0;  // the oldest segment that may hold a value
    };

    Result<> apply_message(std::uint32_t segment, const Fact& fact);
    Result<> apply_outcome(std::uint32_t segment, const Fact& fact);
    Result<> apply_policy(std::uint32_t segment, const Fact& fact);
    void admit(std::uint32_t segment, const Fact& fact);
    void note(PlacedNote at, const ItemId& item, bool hold);
    std::uint32_t* note_of(const ItemId& item, bool hold);
    void decide(MessageId id, const std::vector<std::uint32_t>& recipients);
    void forget(Index at);
    void drop_note(std::uint32_t segment);
    void take_early_notes(MessageId id);
    void keep_older(std::uint32_t segment, std::uint32_t older);
    void leave(Tally& tally, const Live& live);
    void enter(Tally& tally, const Live& live, const Fact& fact);
    bool outcome_matters(std::uint32_t segment, std::uint32_t message_segment) const;
    void settle_erasures();
    void leave_policy(std::uint32_t segment);
    bool exists(std::uint32_t segment) const { return tallies_.contains(segment); }

    Registry<Live> live_;
    absl::flat_hash_map<MessageId, Many> many_;
    std::map<std::uint32_t, Tally> tallies_;
    // By segment: others that may hold older copies of messages that stand, or stood, there. An outcome that
    // names the segment matters as long as one of them exists.
    std::map<std::uint32_t, std::set<std::uint32_t>> older_copies_;
    absl::flat_hash_map<std::string, Latest> policies_;  // by key
    absl::flat_hash_map<std::string, Latest> erasures_;  // of keys that have no value any more
    absl::flat_hash_map<ItemId, EarlyNotes> early_;      // of messages not seen yet; during recovery only
    bool recovering_ = true;
    bool maybe_dead_ = true;
    std::uint64_t live_bytes_ = 0;
    Instant latest_;
    MessageId last_id_;
    // Kept to be filled again.
    MessageSummary summary_;
    OutcomeView outcome_;
    DecidedView decided_;
};

}  // namespace sluice::spool
