// Where items are, and how they move.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

using InLane = Chained<&Item::place>;
using Sibling = Chained<&Item::sibling>;

// A route is kept at least this long, so that records without a lifetime do not turn into a stream of questions.
constexpr Duration route_kept_min{5'000};
// While nothing may start, an outdated route is looked at again after this.
constexpr Duration refresh_postponed{60'000};

}  // namespace

void Core::Impl::set_state(Index at, ItemState next) {
    Item& item = items_[at];
    Destination& destination = destinations_[item.destination];
    const auto from = static_cast<unsigned>(item.state());
    item.become(next);
    --destination.count[from];
    --count_[from];
    ++destination.count[static_cast<unsigned>(next)];
    ++count_[static_cast<unsigned>(next)];
}

// An item without a place waits for its due time, or is ready when that has come.
void Core::Impl::schedule(Index at) {
    items_[at].due = std::min(items_[at].due, items_[at].deadline());
    if (items_[at].due <= now_) return make_ready(at, false);
    set_state(at, ItemState::scheduled);
    wheel_.add(timer_key(Timed::item, at), items_[at].due);
}

void Core::Impl::make_ready(Index at, bool first_in_lane) {
    set_state(at, ItemState::ready);
    Item& item = items_[at];
    item.where = none;
    if (item.deadline() <= now_) return conclude_late(at);
    find_place(at, first_in_lane);
    // Most of them have started by now, and need no timer.
    if (item.state() == ItemState::ready && !item.timer.is_set()) watch_end(at);
}

// A ready item waits for plugins, then for the route of its domain, then in a lane.
void Core::Impl::find_place(Index at, bool first_in_lane) {
    Item& item = items_[at];
    if (options_.consult && !is_under_way(item) && !item.consulted) return wait_for_plugins(at);
    Destination& destination = destinations_[item.destination];
    if (is_under_way(item) || destination.path != none) return enter_lane(at, first_in_lane);
    InLane::push_back(items_, destination.unrouted, at);
    resolve(item.destination);
}

// How the item would be delivered to the first host of its route, as far as that is known.
Deliveries::Place Core::Impl::how_to(const Item& item) {
    if (!deliveries_.has_conditions()) return 0;
    Lane lane;
    const Index path = destinations_[item.destination].path;
    if (path == none) {
        lane.name = {item.destination, profiles_.lane_of(item.profile), {}, item.priority, told_attempt(item.attempts)};
        return deliveries_.of(values_of(lane));
    }
    lane.name = lane_key(item, path);
    return how_to(lane, paths_[path], 0, preferred_local(lane, paths_[path], pool_for(lane, paths_[path], 0), paths_[path].hops[0].family));
}

Duration Core::Impl::lifetime_of(const Item& item) {
    if (!deliveries_.set_lifetimes()) return options_.lifetime;
    return deliveries_[how_to(item)].lifetime.value_or(options_.lifetime);
}

Instant Core::Impl::end_of(const Item& item) {
    return std::min(item.deadline(), std::max(item.arrival + lifetime_of(item), now_ + options_.last_chance));
}

// The timer of a ready item.
void Core::Impl::watch_end(Index at) {
    wheel_.cancel(timer_key(Timed::item, at));
    wheel_.add(timer_key(Timed::item, at), end_of(items_[at]));
}

// What policy and routing can tell an item by.
LaneKey Core::Impl::lane_key(const Item& item, Index path) const {
    const Index profile = profiles_.lane_of(item.profile);
    const SourceChoice source = sources_.choose(profiles_[profile].pool, paths_[path].route->mx_hash, item.source_hash);
    return {item.destination, profile, source, item.priority, told_attempt(item.attempts)};
}

std::uint8_t Core::Impl::told_attempt(std::uint16_t attempts) const {
    return attempts_matter_ ? static_cast<std::uint8_t>(std::min<unsigned>(attempts + 1U, attempts_told_apart)) : std::uint8_t{0};
}

void Core::Impl::enter_lane(Index at, bool first_in_lane) {
    Item& item = items_[at];
    const Index path = is_under_way(item) ? progress_[item.progress].path : destinations_[item.destination].path;
    join_lane(at, lane_of(lane_key(item, path)), first_in_lane);
}

void Core::Impl::join_lane(Index at, Index lane_at, bool first_in_lane) {
    Item& item = items_[at];
    Lane& lane = lanes_[lane_at];
    if (first_in_lane) {
        InLane::push_front(items_, lane.items, at);
    } else {
        InLane::push_back(items_, lane.items, at);
    }
    ++lane.length;
    item.where = lane_at;
    bool try_now = lane.waiters.empty() || first_in_lane;
    for (const Index waiter : lane.waiters) {
        const Spot spot = waiters_[waiter].bucket;
        if (!is_gate(spot) && buckets_.has_idle(spot)) try_now = true;
    }
    if (try_now) run_lane(lane_at);
}

// Takes an item out of wherever it waits; its state is then to be changed.
void Core::Impl::leave_place(Index at) {
    Item& item = items_[at];
    wheel_.cancel(timer_key(Timed::item, at));
    if (item.state() != ItemState::ready) return;
    if (item.where == none) {
        InLane::remove(items_, destinations_[item.destination].unrouted, at);
        return;
    }
    if (item.where == consult_line) {
        InLane::remove(items_, to_consult_, at);
        item.where = none;
        return;
    }
    const Index lane_at = std::exchange(item.where, none);
    Lane& lane = lanes_[lane_at];
    if (lane.unsorted == at) lane.unsorted = item.place.next;
    const bool was_head = lane.items.head == at;
    const bool waited_alone = is_under_way(item);
    InLane::remove(items_, lane.items, at);
    if (--lane.length > 0) {
        if (was_head && (waited_alone || is_under_way(items_[lane.items.head]))) reheaded_.push_back(lane_at);
        return;
    }
    stop_waiting(lane_at);
    release_lane(lane_at);
}

// Its own time is over.
void Core::Impl::conclude_late(Index at) { conclude(at, Error(Errc::timed_out, "the message was not delivered in the time that it has")); }

// Asks for a decision without an attempt; the answer is AttemptEnded without a session.
void Core::Impl::conclude(Index at, Error error, bool rejected) {
    end_progress(at);
    set_state(at, ItemState::sending);
    items_[at].where = none;
    const auto shard = static_cast<std::uint32_t>(items_[at].message % options_.shards);
    actions_->push_back(Conclude{shard, work_of(at), std::move(error), deliveries_.share(how_to(items_[at])), rejected});
}

void Core::Impl::conclude_waiting(Index destination, const Error& error) {
    std::vector<Index> waiting;
    const auto collect = [&](const Chain& chain) {
        for (Index at = chain.head; at != none; at = items_[at].place.next) {
            if (!is_under_way(items_[at])) waiting.push_back(at);
        }
    };
    collect(destinations_[destination].unrouted);
    for (Index lane = destinations_[destination].lanes.head; lane != none; lane = lanes_[lane].sibling.next) {
        collect(lanes_[lane].items);
    }
    for (const Index at : waiting) {
        leave_place(at);
        conclude(at, error);
    }
    // Heads that are under way on an older route may have come to the front.
    for (const Index lane : lanes_of(destination)) run_lane(lane);
}

// The end of an item's life in the queue. It has no place any more.
void Core::Impl::forget(Index at) {
    drop_fresh(at);
    replies_.drop(at);
    forget_changes(at);
    rejections_.erase(at);
    if (items_[at].progress != none) {
        progress_[items_[at].progress].pending.clear();
        end_progress(at);
    }
    const Item item = items_[at];
    Destination& destination = destinations_[item.destination];
    --destination.count[static_cast<unsigned>(item.state())];
    --count_[static_cast<unsigned>(item.state())];
    Sibling::remove(items_, destination.items, at);
    items_.remove(at);
    profiles_.drop(item.profile);
    release_destination(item.destination);
}

Work Core::Impl::work_of(Index at) {
    const Item& item = items_[at];
    Work work{item.key(), item.arrival, item.attempts, item.delay_notified, nullptr, pending_of(at)};
    if (item.is_fresh) work.message = fresh_.find(item.message)->second.message;
    return work;
}

std::vector<std::uint32_t> Core::Impl::pending_of(Index at) const {
    const Index progress = items_[at].progress;
    return progress == none ? std::vector<std::uint32_t>() : progress_[progress].pending;
}

Progress& Core::Impl::progress_of(Index at) {
    if (items_[at].progress == none) items_[at].progress = progress_.add();
    return progress_[items_[at].progress];
}

// Forgets how far an attempt has come; the undecided recipients stay known.
void Core::Impl::end_progress(Index at) {
    items_[at].consulted = false;
    const Index row = items_[at].progress;
    if (row == none) return;
    Progress& progress = progress_[row];
    if (progress.path != none) paths_.drop(progress.path);
    if (progress.pending.empty()) {
        progress_.remove(row);
        items_[at].progress = none;
        return;
    }
    Progress rest;
    rest.pending = std::move(progress.pending);
    progress = std::move(rest);
}

void Core::Impl::keep_fresh(Index at, mail::MessagePtr message) {
    const auto found = fresh_.find(items_[at].message);
    if (found == fresh_.end()) {
        if (fresh_bytes_ + message->size() > options_.fresh_bytes_max) return;
        fresh_bytes_ += message->size();
        fresh_.emplace(items_[at].message, Fresh{std::move(message), 1});
    } else {
        ++found->second.items;
    }
    items_[at].is_fresh = true;
}

void Core::Impl::drop_fresh(Index at) {
    if (!items_[at].is_fresh) return;
    items_[at].is_fresh = false;
    const auto found = fresh_.find(items_[at].message);
    if (--found->second.items > 0) return;
    fresh_bytes_ -= found->second.message->size();
    fresh_.erase(found);
}

// ---- destinations and their routes -----------------------------------------------------------------------------

Index Core::Impl::destination_of(std::string_view domain, std::string_view via) {
    if (const Index known = find_destination(domain, via); known != none) return known;
    Destination destination;
    destination.name = names_.intern(domain);
    destination.via = via.empty() ? names_.hold(Names::empty) : names_.intern(via);
    return destinations_.add(destination);
}

Index Core::Impl::find_destination(std::string_view domain, std::string_view via) const {
    NameId name{}, next_hop{};
    return names_.find(domain, name) && names_.find(via, next_hop) ? destinations_.find({name, next_hop}) : none;
}

void Core::Impl::release_destination(Index at) {
    const Destination& destination = destinations_[at];
    if (!destination.items.empty() || !destination.lanes.empty() || destination.sessions > 0) return;
    if (destination.path != none || destination.resolving) return;
    const Destination::Key key = destination.key();
    destinations_.remove(at);
    names_.drop(key.first);
    names_.drop(key.second);
}

bool Core::Impl::has_ready(const Destination& destination) {
    return destination.count[static_cast<unsigned>(ItemState::ready)] > 0;
}

// Asks for the route; one question at a time.
void Core::Impl::resolve(Index at) {
    Destination& destination = destinations_[at];
    if (options_.disabled || std::exchange(destination.resolving, true)) return;
    destination.asked = configured_;
    actions_->push_back(Resolve{std::string(names_.text(destination.name)), std::string(names_.text(destination.via))});
}

// The old route serves until the answer is here, so that waiting lanes keep their turn.
void Core::Impl::refresh(Index at) {
    resolve(at);
    const Index timer = timer_key(Timed::destination, at);
    wheel_.cancel(timer);
    if (!destinations_[at].resolving) wheel_.add(timer, now_ + refresh_postponed);
}

// What makes a route has changed, so that an answer to an older question does not count.
void Core::Impl::resolve_anew(Index at) {
    destinations_[at].asked_anew = true;
    if (destinations_[at].path != none && has_ready(destinations_[at])) return refresh(at);
    drop_path(at);
    if (!destinations_[at].unrouted.empty()) resolve(at);
    release_destination(at);
}

void Core::Impl::set_path(Index at, Index path) {
    Destination& destination = destinations_[at];
    const Index old = std::exchange(destination.path, path);
    const Route& route = *paths_[path].route;
    wheel_.cancel(timer_key(Timed::destination, at));
    wheel_.add(timer_key(Timed::destination, at), std::max(route.expires, now_ + route_kept_min));
    if (old != none) {
        const bool other_sources = paths_[old].route->mx_hash != route.mx_hash;
        paths_.drop(old);
        if (other_sources) relane(at);
    }
    for (Index lane = destination.lanes.head; lane != none; lane = lanes_[lane].sibling.next) run_later(lane);
    while (!destination.unrouted.empty()) {
        const Index item = destination.unrouted.head;
        InLane::remove(items_, destination.unrouted, item);
        if (deliveries_.set_lifetimes() && deliveries_.by_candidate()) watch_end(item);
        enter_lane(item, false);
    }
}

void Core::Impl::drop_path(Index at) {
    wheel_.cancel(timer_key(Timed::destination, at));
    const Index path = std::exchange(destinations_[at].path, none);
    if (path != none) paths_.drop(path);
}

std::vector<Index> Core::Impl::lanes_of(Index destination) const {
    std::vector<Index> lanes;
    for (Index at = destinations_[destination].lanes.head; at != none; at = lanes_[at].sibling.next) {
        lanes.push_back(at);
    }
    return lanes;
}

}  // namespace sluice::queue
