#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "queue/names.h"
#include "queue/slab.h"

namespace sluice::queue {

inline constexpr unsigned priorities = 8;

// Lanes that wait for a bucket, and whose turn it is.
//
// A bucket's waiting lanes stand in one line per tenant. Tenants take turns: each visit of the round allows as many starts
// as the tenant's weight (deficit round robin in which every start costs one). A session that is kept for its lane lets it start out of its
// turn: that is owed, and paid with the turns that come. Inside a line the highest priority
// goes first, except that a priority passed over `patience` times is served next: urgent mail does not wait for
// bulk, and cannot starve it. Lanes of one priority take turns. Core-owned.
class Waiters {
public:
    static constexpr std::uint8_t patience = 16;

    // What a bucket keeps: its round of tenants.
    struct Round {
        Index line = none;  // whose turn it is
        std::uint32_t count = 0;
    };
    struct Waiter {
        Index lane = none;
        Index bucket = none;
        Index line = none;
        Links links;
        std::uint8_t priority = 0;
    };

    // Appends a lane; `weight` ≥ 1. `tenant` stays held by the caller as long as it waits.
    Index enter(Round& round, Index bucket, Index lane, NameId tenant, std::uint32_t weight, std::uint8_t priority);
    void leave(Round& round, Index waiter);
    // Whose turn it is; the round is not empty. Changes nothing.
    Index first(const Round& round) const;
    // The waiter's lane started one item, whoever's turn it was.
    void charge(Round& round, Index waiter);

    const Waiter& operator[](Index waiter) const { return waiters_[waiter]; }
    std::size_t size() const { return waiters_.size(); }
    // Calls visit(waiter) for all of a round.
    template <class Visit>
    void each(const Round& round, Visit visit) const {
        for (Index at = round.line; at != none; at = lines_[at].ring.next == round.line ? none : lines_[at].ring.next) {
            for (const Chain& chain : lines_[at].waiting) {
                for (Index waiter = chain.head; waiter != none; waiter = waiters_[waiter].links.next) visit(waiter);
            }
        }
    }
    // Recounts a round; for audits.
    std::uint32_t recount(const Round& round) const;

private:
    // One tenant's waiters at one bucket.
    struct Line {
        using Key = std::pair<Index, std::uint32_t>;
        Index bucket = none;
        NameId tenant = Names::empty;
        std::uint32_t weight = 1;
        std::int64_t credit = 0;    // starts still allowed in this visit, more than 0 for whose turn it is; or less: starts that are owed
        Links ring;                 // circular
        std::array<Chain, priorities> waiting{};
        std::array<std::uint8_t, priorities> passed_over{};
        std::uint8_t present = 0;   // bit p: waiting[p] is not empty
        Key key() const { return {bucket, number_of(tenant)}; }
    };
    static unsigned next_priority(const Line& line);
    Index line_of(Round& round, Index bucket, NameId tenant, std::uint32_t weight);
    void join(Round& round, Index line);
    void part(Round& round, Index line);
    void next_turn(Round& round, Index line);

    Slab<Waiter> waiters_;
    Registry<Line> lines_;
};

}  // namespace sluice::queue
