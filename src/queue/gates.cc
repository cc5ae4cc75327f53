// What suspensions stop.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {

// start_head() while something is suspended. The lane waits for the suspensions that stop it, besides everything else that does.
Core::Impl::Start Core::Impl::start_past_gates(Index lane) {
    const Start start = start_where_open(lane);
    suspended_.clear();
    return start;
}

Core::Impl::Start Core::Impl::start_where_open(Index lane) {
    const bool apart = suspensions_.any_for_new_connections();
    Plan plan;
    if (const std::optional<Start> stopped = stopped_at_gates(lane, false, plan)) return *stopped;
    if (start_over(lane, plan, apart ? Ways::idle_session : Ways::any)) return Start::started;
    if (apart) {
        plan = Plan();
        if (const std::optional<Start> stopped = stopped_at_gates(lane, true, plan)) return *stopped;
        if (start_over(lane, plan, Ways::new_session)) return Start::started;
    }
    block(lane);
    return Start::blocked;
}

// What came of the lane's head, unless it may go on to the candidates of `plan`.
std::optional<Core::Impl::Start> Core::Impl::stopped_at_gates(Index lane, bool new_connection, Plan& plan) {
    suspended_.clear();
    const Pass pass = pass_gates(lane, new_connection);
    if (pass == Pass::aside) {
        set_aside(lane);
        return Start::started;
    }
    if (pass == Pass::open && choose_group(lanes_[lane].items.head, lanes_[lane], plan, group_)) {
        choose_departures(lanes_[lane], paths_[plan.path]);
        return std::nullopt;
    }
    if (pass == Pass::closed) {
        block(lane);
        return Start::blocked;
    }
    forget_blockers();
    return give_up_head(lane, plan);
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

// Finds the candidates, and addresses to call them from, that are suspended. When nothing else is left the lane waits for them; but not for the sake of an item
// that is under way, which may have other candidates left than those behind it.
Core::Impl::Pass Core::Impl::pass_late_gates(Index lane, bool new_connection) {
    const Item& head = items_[lanes_[lane].items.head];
    Progress* const progress = is_under_way(head) ? &progress_[head.progress] : nullptr;
    const Index path = progress != nullptr ? progress->path : destinations_[lanes_[lane].name.destination].path;
    choose_departures(lanes_[lane], paths_[path]);
    const std::size_t candidates = paths_[path].hops.size();
    suspended_.assign(candidates * ranks(), false);
    bool any_closed = false, any_left = false;
    for (std::uint32_t candidate = 0; candidate < candidates; ++candidate) {
        if (!sources_.serves(departure(candidate).pool, paths_[path].hops[candidate].family)) continue;
        if (progress != nullptr && progress->tried[candidate]) {
            any_left = true;
            continue;
        }
        const Pass pass = ask_for_candidate(lane, path, candidate, new_connection);
        if (pass == Pass::aside) return Pass::aside;
        (pass == Pass::open ? any_left : any_closed) = true;
        // It was to be called again, whatever the others are like.
        if (pass == Pass::closed && progress != nullptr && progress->only == candidate) progress->only = none;
    }
    return any_left || !any_closed || progress != nullptr ? Pass::open : Pass::closed;
}

Core::Impl::Pass Core::Impl::ask_for_candidate(Index lane, Index path, std::uint32_t candidate, bool new_connection) {
    const std::vector<Local>& from = locals(paths_[path], candidate);
    Pass pass = Pass::closed;
    for (std::size_t rank = 0; rank < from.size(); ++rank) {
        const policy::FieldValues values = values_of(lanes_[lane], paths_[path], candidate, from[rank].address);
        const Suspensions::Answer answer = ask_gates(lane, values, new_connection, true);
        if (answer.gate == none) {
            pass = Pass::open;
            continue;
        }
        if (!answer.whole_lane) return Pass::aside;
        note_blocker(spot_of_gate(answer.gate));
        suspended_[candidate * ranks() + rank] = true;
    }
    return pass;
}

bool Core::Impl::is_suspended(const Path& path, std::uint32_t candidate) const {
    if (suspended_.empty()) return false;
    for (std::size_t rank = 0; rank < locals(path, candidate).size(); ++rank) {
        if (!is_suspended(candidate, rank)) return false;
    }
    return true;
}

// Any of the group may be called from its address of this rank.
bool Core::Impl::all_are_open(const Path& path, std::size_t rank) const {
    if (suspended_.empty()) return rank == 0;
    return std::all_of(group_.begin(), group_.end(), [&](std::uint32_t candidate) {
        return rank < locals(path, candidate).size() && !is_suspended(candidate, rank);
    });
}

Suspensions::Answer Core::Impl::ask_gates(Index lane, const policy::FieldValues& values, bool new_connection, bool late) {
    const std::uint64_t hash = policy::leak_hash(items_[lanes_[lane].items.head].message);
    return suspensions_.ask({values, lanes_[lane].name.part, hash, new_connection}, late);
}

// The lane's head is stopped by a suspension that lets others of the lane pass: it goes to the lane of those like it.
void Core::Impl::set_aside(Index lane) {
    forget_blockers();
    suspended_.clear();
    const Index item = lanes_[lane].items.head;
    LaneKey key = lanes_[lane].name;
    key.part = static_cast<std::uint16_t>(suspensions_.part_of(policy::leak_hash(items_[item].message)));
    ASSERT(key.part < lanes_[lane].name.part);
    const Index aside = lane_of(key);
    const std::optional<Instant> end = items_[item].timer.is_set() ? std::optional(items_[item].timer.when) : std::nullopt;
    leave_place(item);
    if (end) wheel_.add(timer_key(Timed::item, item), *end);
    join_lane(item, aside, false);
}

}  // namespace sluice::queue
