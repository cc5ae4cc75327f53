#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spool/facts.h"
#include "spool/file_journal.h"
#include "spool/ledger.h"

namespace sluice::spool {

// Gives space back: drops segments in which nothing matters any more, and empties the one in which least
// still does by writing that again at the head, when the journal takes more than twice what matters and a
// few segments.
//
// On a full disk only the reserve can be written, and what goes there is not there for outcomes. So a segment is emptied
// into it only when that is one group, of a quarter of what is left at most: the next sync frees a segment for it.
//
// A segment goes only after everything of it that matters is durable elsewhere, and the next step begins only
// when the directory is synced: a crash at any point finds each record at least once. Thread: the writer's.
// Borrows everything; `mutex` is held for each change of the ledger.
class Reclaimer {
public:
    Reclaimer(FileJournal& journal, Ledger& ledger, std::mutex& mutex, std::uint64_t segment_bytes)
        : journal_(journal), ledger_(ledger), mutex_(mutex), segment_bytes_(segment_bytes) {}

    // Drops what is dead and decides whether a segment is to be emptied. `head`: never touched. Error: the
    // disk failed. What could not be dropped still counts as existing, so nothing that it needs goes either;
    // the next look tries again.
    Result<> look(std::uint32_t head);
    // There are records to be written again.
    bool busy() const { return emptying_ != nullptr; }

    // Reads the next records to be written again, up to about `bytes_max`; their total weight. Into the reserve of a full
    // disk goes what can be written at once, is small beside what is left there, and gives a whole segment back; nothing else.
    Weight gather(std::uint64_t bytes_max);
    // There is something gathered that is neither written nor given up.
    bool gathered() const { return !copies_.empty(); }
    // Puts them into a group, before anything else.
    void add_to(Group& group) const;
    // The group is durable, or was not written.
    void written();
    void not_written();
    // What is copied stays copied; the rest stays where it is until the segment is chosen again.
    void give_up();

    std::uint64_t reclaimed_bytes() const { return reclaimed_bytes_; }
    std::uint64_t rewritten_bytes() const { return rewritten_bytes_; }
    std::vector<std::string> take_problems() { return std::exchange(problems_, {}); }

private:
    struct Copy {
        RecordType type;
        std::string body;
        MessageId message;                   // of a message
        std::vector<std::uint32_t> decided;  // its recipients with outcomes
    };
    struct Emptying {
        std::uint32_t segment = 0;
        std::string facts;
        FactReader reader{std::string_view()};
        // Offsets of the latest schedule, hold and policy record of each item and key in this segment: only
        // these are copied, or an older one could come after a newer one.
        absl::flat_hash_map<std::string, std::uint64_t> latest;
        bool exhausted = false;
    };

    bool much_was_decided();
    Result<> drop_dead(std::uint32_t head);
    Result<> drop(std::uint32_t segment);
    std::optional<std::uint32_t> choose(std::uint32_t head) const;
    void begin(std::uint32_t segment);
    Weight gather_up_to(std::uint64_t bytes_max);
    std::uint64_t reserve_share() const;
    void take(const Fact& fact, Weight& weight);
    bool superseded(const Fact& fact) const;

    FileJournal& journal_;
    Ledger& ledger_;
    std::mutex& mutex_;
    std::uint64_t segment_bytes_;
    std::unique_ptr<Emptying> emptying_;
    std::deque<Copy> copies_;
    std::set<std::uint32_t> pinned_;  // holds a damaged record of an undecided message
    std::uint32_t looked_at_head_ = 0;
    std::uint64_t most_live_bytes_ = 0;  // since the last look
    std::uint64_t reclaimed_bytes_ = 0;
    std::uint64_t rewritten_bytes_ = 0;
    std::vector<std::string> problems_;
};

}  // namespace sluice::spool
