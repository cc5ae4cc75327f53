// What others may see of the core, and the auditor.

#include "queue/core_impl.h"

namespace sluice::queue {

Stats Core::Impl::stats() const {
    Stats stats;
    stats.items = items_.size();
    stats.scheduled = count_[static_cast<unsigned>(ItemState::scheduled)];
    stats.ready = count_[static_cast<unsigned>(ItemState::ready)];
    stats.sending = count_[static_cast<unsigned>(ItemState::sending)];
    stats.held = count_[static_cast<unsigned>(ItemState::held)];
    stats.sessions = sessions_.size();
    stats.idle_sessions = idle_sessions_;
    stats.lanes = lanes_.size();
    stats.buckets = buckets_.size();
    stats.routes = paths_.size();
    stats.fresh_bytes = fresh_bytes_;
    return stats;
}

ItemView Core::Impl::view(const Item& item) const {
    return {item.key(),
            names_.text(destinations_[item.destination].name),
            names_.text(profiles_[item.profile].name.tenant),
            names_.text(profiles_[item.profile].name.job),
            names_.text(profiles_[item.profile].name.transport),
            names_.text(profiles_[item.profile].name.sender),
            item.state(),
            item.arrival,
            item.due,
            item.attempts,
            item.priority,
            item.size,
            item.recipient_count,
            std::chrono::seconds(item.lifetime_s)};
}

std::optional<ItemView> Core::Impl::find(ItemId id) const {
    const Index at = items_.find(id);
    if (at == none) return std::nullopt;
    return view(items_[at]);
}

std::vector<std::uint32_t> Core::Impl::pending(ItemId id) const {
    const Index at = items_.find(id);
    return at == none ? std::vector<std::uint32_t>() : pending_of(at);
}

void Core::Impl::each(std::string_view domain, const std::function<bool(const ItemView&)>& visit) const {
    if (domain.empty()) {
        for (Index at = 0; at < items_.end(); ++at) {
            if (items_.contains(at) && !visit(view(items_[at]))) return;
        }
        return;
    }
    NameId name{};
    const Index destination = names_.find(domain, name) ? destinations_.find(name) : none;
    if (destination == none) return;
    for (Index at = destinations_[destination].items.head; at != none; at = items_[at].sibling.next) {
        if (!visit(view(items_[at]))) return;
    }
}

std::optional<Core::Place> Core::Impl::each_from(
    Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const {
    Index at = from;
    for (std::uint32_t looked = 0; at < items_.end() && looked < places_max; ++looked) {
        const Index here = at++;
        if (items_.contains(here) && !visit(view(items_[here]))) break;
    }
    return at < items_.end() ? std::optional(at) : std::nullopt;
}

void Core::Impl::each_domain(const std::function<bool(const DomainStats&)>& visit) const {
    for (Index at = 0; at < destinations_.end(); ++at) {
        if (!destinations_.contains(at)) continue;
        const Destination& row = destinations_[at];
        if (row.items.empty() && row.sessions == 0) continue;
        const DomainStats stats{names_.text(row.name), row.count[0], row.count[1], row.count[2], row.count[3], row.sessions};
        if (!visit(stats)) return;
    }
}

// ---- the auditor -----------------------------------------------------------------------------------------------

void Core::Impl::audit() const {
    ASSERT(to_serve_.empty() && blockers_.empty());
    audit_items();
    audit_destinations();
    audit_lanes();
    audit_sessions();
    audit_buckets();
    audit_timers();
    audit_profiles();
}

// Every item has exactly one place and the timer that belongs to its state; states and fresh messages are counted right.
void Core::Impl::audit_items() const {
    std::uint64_t count[4] = {};
    std::size_t with_progress = 0;
    absl::flat_hash_map<std::uint64_t, std::uint32_t> fresh;
    for (Index at = 0; at < items_.end(); ++at) {
        if (!items_.contains(at)) continue;
        const Item& item = items_[at];
        ++count[static_cast<unsigned>(item.state())];
        ASSERT(items_.find(item.key()) == at);
        ASSERT(destinations_.contains(item.destination));
        const bool timed = item.state() == ItemState::scheduled || item.state() == ItemState::ready;
        ASSERT(item.timer.is_set() == timed);
        if (item.state() == ItemState::scheduled) ASSERT(item.timer.when == item.due && item.due > now_ && item.due <= item.deadline());
        if (item.state() == ItemState::sending && item.where != none) ASSERT(sessions_[item.where].item == at);
        ASSERT(item.state() == ItemState::sending || (!item.hold_requested && !item.remove_requested));
        if (item.progress != none) ++with_progress;
        if (item.is_fresh) ++fresh[item.message];
    }
    for (unsigned state = 0; state < 4; ++state) ASSERT(count[state] == count_[state]);
    ASSERT(with_progress == progress_.size());
    std::uint64_t bytes = 0;
    ASSERT(fresh.size() == fresh_.size());
    for (const auto& [message, kept] : fresh_) {
        ASSERT(fresh[message] == kept.items);
        bytes += kept.message->size();
    }
    ASSERT(bytes == fresh_bytes_);
}

void Core::Impl::audit_destinations() const {
    std::size_t items = 0;
    for (Index at = 0; at < destinations_.end(); ++at) {
        if (!destinations_.contains(at)) continue;
        const Destination& row = destinations_[at];
        std::uint32_t count[4] = {};
        for (Index i = row.items.head; i != none; i = items_[i].sibling.next) {
            ASSERT(items_[i].destination == at);
            ++count[static_cast<unsigned>(items_[i].state())];
            ++items;
        }
        for (unsigned state = 0; state < 4; ++state) ASSERT(count[state] == row.count[state]);
        std::uint32_t ready = 0;
        for (Index i = row.unrouted.head; i != none; i = items_[i].place.next) {
            ASSERT(items_[i].state() == ItemState::ready && items_[i].where == none);
            ++ready;
        }
        ASSERT(ready == 0 || (row.path == none && (row.resolving || options_.disabled)));
        for (Index lane = row.lanes.head; lane != none; lane = lanes_[lane].sibling.next) {
            ASSERT(lanes_[lane].name.destination == at);
            ready += lanes_[lane].length;
        }
        ASSERT(ready == count[static_cast<unsigned>(ItemState::ready)]);
        ASSERT(row.path == none || row.timer.is_set() || row.resolving);
        ASSERT(!row.items.empty() || !row.lanes.empty() || row.path != none || row.resolving);
    }
    ASSERT(items == items_.size());
}

// A bucket gives nothing at present: neither to a new session nor, while it is not merely waiting for connections
// that are closing, from its idle ones.
bool Core::Impl::is_blocking(Index bucket) const {
    if (!buckets_.has_token(bucket, now_)) return buckets_[bucket].timer.is_set();
    const bool waits_to_connect = !buckets_.may_connect(bucket, now_) && buckets_[bucket].timer.is_set();
    if (buckets_.has_slot(bucket)) return waits_to_connect;
    return waits_to_connect || buckets_[bucket].idle.empty() || buckets_[bucket].closing > 0;
}

// Work is conserved: a lane that has items waits only where there is nothing to have.
void Core::Impl::audit_lanes() const {
    std::size_t waiters = 0;
    for (Index at = 0; at < lanes_.end(); ++at) {
        if (!lanes_.contains(at)) continue;
        const Lane& lane = lanes_[at];
        std::uint32_t length = 0;
        for (Index i = lane.items.head; i != none; i = items_[i].place.next) {
            ASSERT(items_[i].state() == ItemState::ready && items_[i].where == at);
            ASSERT(profiles_.may_share(items_[i].profile, lane.name.profile) && items_[i].priority == lane.name.priority);
            ++length;
        }
        ASSERT(length == lane.length);
        ASSERT(length > 0 || lane.waiters.empty());
        ASSERT(length == 0 || !lane.waiters.empty() || options_.disabled);
        ASSERT(length > 0 || lane.sessions > 0);
        for (const Index waiter : lane.waiters) {
            ASSERT(waiters_[waiter].lane == at);
            ASSERT(options_.disabled || is_blocking(waiters_[waiter].bucket));
        }
        waiters += lane.waiters.size();
    }
    ASSERT(waiters == waiters_.size());
}

void Core::Impl::audit_sessions() const {
    std::uint64_t idle = 0;
    std::size_t slots = 0;
    for (Index at = 0; at < sessions_.end(); ++at) {
        if (!sessions_.contains(at)) continue;
        const Session& session = sessions_[at];
        const bool working = session.state == SessionState::opening || session.state == SessionState::busy ||
                             session.state == SessionState::gone;
        ASSERT(working == (session.item != none));
        if (working) ASSERT(items_[session.item].state() == ItemState::sending && items_[session.item].where == at);
        ASSERT(session.timer.is_set() == (session.state == SessionState::idle));
        if (session.state == SessionState::idle) ++idle;
        ASSERT(session.slots.size() == (session.state == SessionState::gone ? 0 : buckets_.policies()));
        slots += session.slots.size();
        ASSERT(lanes_.contains(session.lane) && lanes_[session.lane].sessions > 0);
    }
    ASSERT(idle == idle_sessions_);
    ASSERT(slots == slots_.size());
}

void Core::Impl::audit_buckets() const {
    std::vector<std::uint32_t> used(buckets_.end()), closing(buckets_.end()), idle(buckets_.end()), kept(buckets_.end());
    for (Index at = 0; at < slots_.end(); ++at) {
        if (!slots_.contains(at)) continue;
        const Index bucket = slots_[at].bucket;
        const SessionState state = sessions_[slots_[at].session].state;
        ++used[bucket];
        if (state == SessionState::closing) ++closing[bucket];
        if (state == SessionState::idle) ++(is_evictable(sessions_[slots_[at].session]) ? idle : kept)[bucket];
    }
    for (Index at = 0; at < buckets_.end(); ++at) {
        if (!buckets_.contains(at)) continue;
        const Bucket& bucket = buckets_[at];
        ASSERT(!bucket.in_turn);
        ASSERT(bucket.used == used[at] && bucket.closing == closing[at]);
        for (Index slot = bucket.idle.head; slot != none; slot = slots_[slot].idle.next) --idle[at];
        ASSERT(idle[at] == 0 && bucket.kept == kept[at]);
        ASSERT(waiters_.recount(bucket.waiting) == bucket.waiting.count);
        ASSERT(bucket.holders >= bucket.used + bucket.waiting.count);
        ASSERT(bucket.holders > 0 || bucket.timer.is_set());
    }
}

// Every profile is counted right.
void Core::Impl::audit_profiles() const {
    std::vector<std::uint32_t> holders(profiles_.end());
    for (Index at = 0; at < items_.end(); ++at) {
        if (items_.contains(at)) ++holders[items_[at].profile];
    }
    for (Index at = 0; at < lanes_.end(); ++at) {
        if (lanes_.contains(at)) ++holders[lanes_[at].name.profile];
    }
    profiles_.audit(std::move(holders));
}

// Every timer hangs in the wheel under its own key, and everything that has one is there.
void Core::Impl::audit_timers() const {
    std::size_t in_wheel = 0;
    const Nodes nodes{const_cast<Impl*>(this)};
    wheel_.each([&](Index key) {
        ASSERT(nodes(key).is_set() && nodes(key).when > now_);
        ++in_wheel;
    });
    std::size_t set = 0;
    const auto count = [&](const auto& table) {
        for (Index at = 0; at < table.end(); ++at) {
            if (table.contains(at) && table[at].timer.is_set()) ++set;
        }
    };
    count(items_);
    count(sessions_);
    count(destinations_);
    count(buckets_);
    ASSERT(set == in_wheel);
}

}  // namespace sluice::queue
