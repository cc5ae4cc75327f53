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
    if (backlog_size() == 0 || now_ < backlog_due_) return;
    const std::uint32_t most = std::max<std::uint32_t>(options_.lanes_at_once, 1);
    for (std::uint32_t left = most; left > 0 && destination_sweep_.left() > 0; --left) tend_destination(destination_sweep_.next());
    for (std::uint32_t left = most; left > 0 && bucket_sweep_.left() > 0; --left) {
        tend_bucket(bucket_sweep_.next());
        serve_all();
    }
    work_off_lanes(most);
    if (backlog_size() > 0) backlog_due_ = now_ + step_after;
    if (bucket_sweep_.left() == 0 && lane_sweep_.left() == 0 && buckets_.has_past()) buckets_.forget_past();
}

// Lanes of the sweep and those that stand in line take turns.
void Core::Impl::work_off_lanes(std::uint32_t most) {
    bool from_sweep = true;
    for (std::uint32_t done = 0; done < most && (lane_sweep_.left() > 0 || !backlog_.empty()); from_sweep = !from_sweep) {
        Index lane = none;
        bool has_turn = true;
        if (backlog_.empty() || (from_sweep && lane_sweep_.left() > 0)) {
            lane = lane_sweep_.next();
        } else {
            lane = backlog_.front();
            backlog_.pop_front();
            has_turn = lanes_.contains(lane) && lanes_[lane].in_backlog;
        }
        done += has_turn && lanes_.contains(lane) ? work_off(lane, most - done) : 1;
        serve_all();
    }
}

// The lane's turn, in which at most so many items are sorted; says how much that was.
std::uint32_t Core::Impl::work_off(Index at, std::uint32_t most) {
    lanes_[at].in_backlog = false;
    catch_up(at);
    std::uint32_t done = 0;
    // A lane that becomes empty may go, and another one take its place.
    for (; lanes_.contains(at) && lanes_[at].unsorted != none && done < std::min(most, sorted_in_turn); ++done) sort_next(at);
    done = std::max<std::uint32_t>(done, 1);
    if (!lanes_.contains(at)) return done;
    if (lanes_[at].unsorted != none) run_later(at);
    run_lane(at);
    return done;
}

// ---- after a reload --------------------------------------------------------------------------------------------

// What a reload means for a lane is found out when it has its turn, or somebody comes to it before: nothing starts there by what was counted then. Until
// it has had its turn it need not wait anywhere.
void Core::Impl::catch_up(Index at) {
    Lane& lane = lanes_[at];
    const std::uint32_t before = std::exchange(lane.era, era_);
    if (before == era_) return;
    if (before < sorted_anew_) lane.unsorted = lane.items.head;
    if (before >= counted_anew_) return;
    stop_waiting(at);
    const BucketList old = std::exchange(lane.buckets, {});
    hold_lane_buckets(at);
    for (const Index bucket : old) {
        if (bucket != none) drop_bucket(bucket);
    }
}

// Its limits may be others. A retired one that lanes wait for goes with the last of these.
void Core::Impl::tend_bucket(Index at) {
    if (!buckets_.contains(at)) return;
    if (buckets_.is_retired(at)) return settle(at);
    buckets_.catch_up(at);
    limits_moved(at);
}

// What makes a route may have changed as well: families, static routes.
void Core::Impl::tend_destination(Index at) {
    if (!destinations_.contains(at) || destinations_[at].path == none || destinations_[at].resolving) return;
    resolve_anew(at);
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

// Whom a suspension has set aside belongs there as long as nothing else has changed.
bool Core::Impl::stands_right(Index at) const {
    const Item& item = items_[at];
    const Index path = is_under_way(item) ? progress_[item.progress].path : destinations_[item.destination].path;
    LaneKey key = lane_key(item, path);
    key.part = lanes_[item.where].name.part;
    return key == lanes_[item.where].name;
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
void Core::Impl::look_at_everything() { lane_sweep_.begin(lanes_.end()); }

}  // namespace sluice::queue
