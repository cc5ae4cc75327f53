// Work on many lanes, in steps: what it would hold up otherwise goes on between these.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// The next step comes after this.
constexpr Duration step_after{2};
// Of one lane so many items are sorted in its turn.
constexpr std::uint32_t sorted_in_turn = 64;

}  // namespace

// In the next step: what may start there starts.
void Core::Impl::run_later(Index lane) {
    if (!std::exchange(lanes_[lane].in_backlog, true)) backlog_.push_back(lane);
}

void Core::Impl::work_off_backlog() {
    look_at_hosts();
    if (backlog_.empty() || now_ < backlog_due_) return;
    const std::uint32_t most = std::max<std::uint32_t>(options_.lanes_at_once, 1);
    for (std::uint32_t done = 0; !backlog_.empty() && done < most;) {
        const Index lane = backlog_.front();
        backlog_.pop_front();
        done += lanes_.contains(lane) && lanes_[lane].in_backlog ? work_off(lane, most - done) : 1;
        serve_all();
    }
    if (!backlog_.empty()) backlog_due_ = now_ + step_after;
}

// The lane's turn, in which at most so many items are sorted; says how much that was.
std::uint32_t Core::Impl::work_off(Index at, std::uint32_t most) {
    lanes_[at].in_backlog = false;
    std::uint32_t done = 0;
    // A lane that becomes empty may go, and another one take its place.
    for (; lanes_.contains(at) && lanes_[at].unsorted != none && done < std::min(most, sorted_in_turn); ++done) sort_next(at);
    done = std::max<std::uint32_t>(done, 1);
    if (!lanes_.contains(at)) return done;
    if (lanes_[at].unsorted != none) run_later(at);
    run_lane(at);
    return done;
}

// ---- what makes a lane has changed -----------------------------------------------------------------------------

// Ready items of the domain are sorted into lanes again, each before it starts.
void Core::Impl::relane(Index destination) {
    for (Index at = destinations_[destination].lanes.head; at != none; at = lanes_[at].sibling.next) {
        if (lanes_[at].length == 0) continue;
        lanes_[at].unsorted = lanes_[at].items.head;
        run_later(at);
    }
}

bool Core::Impl::stands_right(Index at) const {
    const Item& item = items_[at];
    const Index path = is_under_way(item) ? progress_[item.progress].path : destinations_[item.destination].path;
    return lane_key(item, path) == lanes_[item.where].name;
}

// False when the head belongs elsewhere: nothing starts here before the lane has had its turn.
bool Core::Impl::sort_head(Index at) {
    const Index head = lanes_[at].items.head;
    if (lanes_[at].unsorted != head) return true;
    if (!stands_right(head)) return false;
    watch_end(head);
    lanes_[at].unsorted = items_[head].place.next;
    return true;
}

void Core::Impl::sort_next(Index at) {
    const Index item = lanes_[at].unsorted;
    const bool stays = stands_right(item);
    if (stays) lanes_[at].unsorted = items_[item].place.next;
    else leave_place(item);
    watch_end(item);
    if (!stays) enter_lane(item, false);
}

// ---- what is believed of hosts has changed ---------------------------------------------------------------------

// The lane's head was stopped at the counters of some hosts, chosen by what is believed of them and of others.
void Core::Impl::watch_hosts(Index at) {
    if (!buckets_.depends_on_candidate()) return;  // no host has more room than another
    const Item& head = items_[lanes_[at].items.head];
    const Index path = is_under_way(head) ? progress_[head.progress].path : destinations_[lanes_[at].name.destination].path;
    if (paths_[path].hops.size() > 1) paths_.watch(path, lanes_[at].name.destination);
}

void Core::Impl::look_at_hosts() {
    for (Index destination = paths_.take_changed(); destination != none; destination = paths_.take_changed()) {
        if (!destinations_.contains(destination)) continue;
        for (Index lane = destinations_[destination].lanes.head; lane != none; lane = lanes_[lane].sibling.next) {
            if (lanes_[lane].length > 0) run_later(lane);
        }
    }
}

// Mail may go out from other addresses now, which have counters of their own.
void Core::Impl::look_at_everything() {
    for (Index lane = 0; lane < lanes_.end(); ++lane) {
        if (lanes_.contains(lane) && lanes_[lane].length > 0) run_later(lane);
    }
}

}  // namespace sluice::queue
