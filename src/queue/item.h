#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/ids.h"
#include "queue/core.h"
#include "queue/names.h"
#include "queue/slab.h"
#include "queue/timer_wheel.h"

namespace sluice::queue {

// state -> may become. An item leaves the queue from any state but `sending` by Remove, and from `sending` when its attempt decides it.
bool may_become(ItemState from, ItemState to);

// Item::where of a ready item that plugins will be asked about.
inline constexpr Index consult_line = none - 1;

// One queued item. Everything else about it is in the journal: a million of these must fit into 120 MB with their tables.
struct Item {
    using Key = ItemId;

    std::uint64_t message = 0;
    std::uint32_t index = 0;
    Index destination = none;
    Instant arrival;
    Instant due;
    TimerNode timer;              // scheduled: due; ready: end of its time; otherwise not set
    Links place;                  // ready: in its lane, or in the line of those who wait for the route
    Links sibling;                // among all items of the destination
    Index where = none;           // ready: lane, none while it waits for the route, or consult_line; sending: session, or none after Conclude
    Index progress = none;        // Progress, if there is anything to remember
    Index profile = none;         // tenant, job, transport, ...: what it has in common with others
    std::uint32_t size = 0;
    std::uint32_t recipient_count = 0;
    std::uint32_t source_hash = 0;
    std::uint32_t lifetime_s = 0; // its own, in seconds; 0: the engine's
    std::uint16_t attempts = 0;
    std::uint8_t priority = 0;
    bool delay_notified : 1 = false;
    bool is_fresh : 1 = false;         // its message is in the core's fresh store
    bool asking : 1 = false;           // while sending: plugins are asked, no session has it
    bool consulted : 1 = false;        // ready: plugins said that this attempt may begin
    bool hold_requested : 1 = false;   // while sending
    bool remove_requested : 1 = false; // while sending

    ItemId key() const { return {MessageId{message}, index}; }
    // Its own end; of an item that has none the end of time.
    Instant deadline() const { return lifetime_s == 0 ? Instant::max() : arrival + Duration(std::int64_t{lifetime_s} * 1'000); }
    ItemState state() const { return state_; }
    bool take_hold_request() {
        const bool requested = hold_requested;
        hold_requested = false;
        return requested;
    }
    // For a new item only.
    void begin_as(ItemState state) { state_ = state; }
    // Asserts that the move is legal.
    void become(ItemState next) {
        ASSERT(may_become(state_, next));
        state_ = next;
    }

private:
    ItemState state_ : 2 = ItemState::scheduled;
};
static_assert(sizeof(Item) <= 96);

}  // namespace sluice::queue
