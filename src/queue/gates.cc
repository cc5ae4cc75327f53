// What suspensions stop.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {

// start_head() while something is suspended. The lane waits for the suspensions that stop it, besides everything else that does.
Core::Impl::Start Core::Impl::start_past_gates(Index lane) {
    Plan plan;
    if (const std::optional<Start> stopped = stopped_at_gates(lane, false, plan)) return *stopped;
    if (!plan.new_session && start_on_idle(lane, plan)) {
        forget_blockers();
        return Start::started;
    }
    if (suspensions_.any_for_new_connections()) {
        plan = Plan();
        if (const std::optional<Start> stopped = stopped_at_gates(lane, true, plan)) return *stopped;
    }
    if (start_on_new(lane, plan)) {
        forget_blockers();
        return Start::started;
    }
    block(lane);
    return Start::blocked;
}

// What came of the lane's head, unless it may go on to the candidates of `plan`.
std::optional<Core::Impl::Start> Core::Impl::stopped_at_gates(Index lane, bool new_connection, Plan& plan) {
    const Pass pass = pass_gates(lane, new_connection);
    if (pass == Pass::aside) {
        set_aside(lane);
        return Start::started;
    }
    const bool chosen = pass == Pass::open && choose_group(lanes_[lane].items.head, lanes_[lane].name.destination, plan);
    excluded_.clear();
    if (chosen) return std::nullopt;
    if (pass == Pass::closed) {
        block(lane);
        return Start::blocked;
    }
    forget_blockers();
    return give_up_head(lane);
}

Core::Impl::Pass Core::Impl::pass_gates(Index lane, bool new_connection) {
    const Pass pass = pass_lane_gates(lane, new_connection);
    return pass == Pass::open && suspensions_.any_late() ? pass_late_gates(lane, new_connection) : pass;
}

Core::Impl::Pass Core::Impl::pass_lane_gates(Index lane, bool new_connection) {
    const Suspensions::Answer answer = ask_gates(lane, values_of(lanes_[lane]), new_connection, false);
    if (answer.gate == none) return Pass::open;
    if (!answer.whole_lane) return Pass::aside;
    note_blocker(spot_of_gate(answer.gate));
    return Pass::closed;
}

// Excludes the candidates that are suspended. When nothing else is left the lane waits for them, but not an item that was with others already: those
// would have to wait for it too.
Core::Impl::Pass Core::Impl::pass_late_gates(Index lane, bool new_connection) {
    const Index row = items_[lanes_[lane].items.head].progress;
    Progress* const progress = row != none && progress_[row].path != none ? &progress_[row] : nullptr;
    const Index path = progress != nullptr ? progress->path : destinations_[lanes_[lane].name.destination].path;
    const std::size_t candidates = paths_[path].hops.size();
    excluded_.assign(candidates, false);
    bool any_left = false, any_tried = false;
    for (std::uint32_t candidate = 0; candidate < candidates; ++candidate) {
        if (progress != nullptr && progress->tried[candidate]) {
            any_tried = true;
            continue;
        }
        const Suspensions::Answer answer = ask_gates(lane, values_of(lanes_[lane], paths_[path], candidate), new_connection, true);
        if (answer.gate == none) {
            any_left = true;
            continue;
        }
        if (!answer.whole_lane) return Pass::aside;
        note_blocker(spot_of_gate(answer.gate));
        excluded_[candidate] = true;
        // It was to be called again, whatever the others are like.
        if (progress != nullptr && progress->only == candidate) progress->only = none;
    }
    return any_left || any_tried ? Pass::open : Pass::closed;
}

Suspensions::Answer Core::Impl::ask_gates(Index lane, const policy::FieldValues& values, bool new_connection, bool late) {
    const std::uint64_t hash = policy::leak_hash(items_[lanes_[lane].items.head].message);
    return suspensions_.ask({values, lanes_[lane].name.part, hash, new_connection}, late);
}

// The lane's head is stopped by a suspension that lets others of the lane pass: it goes to the lane of those like it.
void Core::Impl::set_aside(Index lane) {
    forget_blockers();
    excluded_.clear();
    const Index item = lanes_[lane].items.head;
    LaneKey key = lanes_[lane].name;
    key.part = static_cast<std::uint16_t>(suspensions_.part_of(policy::leak_hash(items_[item].message)));
    ASSERT(key.part < lanes_[lane].name.part);
    const Index aside = lane_of(key);
    const Instant end = items_[item].timer.when;
    leave_place(item);
    wheel_.add(timer_key(Timed::item, item), end);
    join_lane(item, aside, false);
}

}  // namespace sluice::queue
