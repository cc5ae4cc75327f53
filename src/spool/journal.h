#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "spool/group.h"

namespace sluice::spool {

// What a group may use up.
struct Room {
    std::uint64_t records = 0;
    std::uint64_t index = 0;
    bool from_reserve =
        false;  // outcomes and the like may go into the reserve of a full disk; messages may not
};

// The append-only log under the spool: durable groups, in segments that are dropped whole. The file journal
// is its first implementation; epoch and sequence are there so that a replicated one can be another. Thread:
// everything but read() belongs to the writer.
class Journal {
public:
    virtual ~Journal() = default;

    // Where a group of at most this size goes. Seals and opens segments as needed. Errors: disk_full,
    // disk_failed; another call tries again.
    virtual Result<Head> prepare(const Room& room) = 0;
    // Makes the group durable. After an error nothing of it counts, now or after a crash, and its segment is
    // never written again.
    virtual Result<> append(Group& group) = 0;

    // The index of a segment, from its end or by a scan. Error: corrupt, disk_failed.
    virtual Result<std::string> facts(std::uint32_t segment) = 0;
    // The body of the record at `offset`, verified. Any thread. Errors: not_found (no such segment), corrupt,
    // disk_failed.
    virtual Result<std::string> read(std::uint32_t segment, std::uint64_t offset, std::uint32_t length)
        const = 0;

    // Gives the space of a segment back. When it returns without an error, the segment will not be there
    // after a crash.
    virtual Result<> drop(std::uint32_t segment) = 0;
    // Nothing may be dropped while an older segment depends on it to know where it ends.
    virtual bool droppable(std::uint32_t segment) const = 0;
    // Keeps a copy of what is damaged, for people.
    virtual Result<> quarantine(std::uint32_t segment) = 0;

    virtual void close() = 0;
};

}  // namespace sluice::spool
