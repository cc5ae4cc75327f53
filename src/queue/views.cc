// What others may see of the core, and the auditor.

#include <absl/container/flat_hash_set.h>

#include <algorithm>

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
    stats.conditions = buckets_.conditions().size();
    stats.suspensions = suspensions_.size();
    stats.routes = paths_.size();
    stats.backlog = backlog_size();
    stats.fresh_bytes = fresh_bytes_;
    return stats;
}

ItemView Core::Impl::view(Index at) const {
    const Item& item = items_[at];
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
            std::chrono::seconds(item.lifetime_s),
            replies_.text(at),
            names_.text(destinations_[item.destination].via)};
}

std::optional<ItemView> Core::Impl::find(ItemId id) const {
    const Index at = items_.find(id);
    if (at == none) return std::nullopt;
    return view(at);
}

std::vector<std::uint32_t> Core::Impl::pending(ItemId id) const {
    const Index at = items_.find(id);
    return at == none ? std::vector<std::uint32_t>() : pending_of(at);
}

void Core::Impl::each(std::string_view domain, const std::function<bool(const ItemView&)>& visit) const {
    if (domain.empty()) {
        for (Index at = 0; at < items_.end(); ++at) {
            if (items_.contains(at) && !visit(view(at))) return;
        }
        return;
    }
    const Index destination = find_destination(domain);
    if (destination == none) return;
    for (Index at = destinations_[destination].items.head; at != none; at = items_[at].sibling.next) {
        if (!visit(view(at))) return;
    }
}

std::optional<Core::Place> Core::Impl::each_from(
    Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const {
    Index at = from;
    for (std::uint32_t looked = 0; at < items_.end() && looked < places_max; ++looked) {
        const Index here = at++;
        if (items_.contains(here) && !visit(view(here))) break;
    }
    return at < items_.end() ? std::optional(at) : std::nullopt;
}

void Core::Impl::each_domain(const std::function<bool(const DomainStats&)>& visit) const {
    for (Index at = 0; at < destinations_.end(); ++at) {
        if (!destinations_.contains(at)) continue;
        const Destination& row = destinations_[at];
        if (row.items.empty() && row.sessions == 0) continue;
        const DomainStats stats{names_.text(row.name), names_.text(row.via), row.count[0], row.count[1], row.count[2], row.count[3], row.sessions};
        if (!visit(stats)) return;
    }
}

// ---- conditions and suspensions --------------------------------------------------------------------------------

void Core::Impl::each_condition(const std::function<void(const ConditionView&)>& visit) const {
    const Conditions& conditions = buckets_.conditions();
    for (Index at = 0; at < conditions.end(); ++at) {
        if (conditions.contains(at)) visit({*conditions[at].what, conditions[at].policy == none, conditions[at].buckets});
    }
}

void Core::Impl::each_suspension(const std::function<void(const SuspensionView&)>& visit) const {
    for (Index at = 0; at < suspensions_.end(); ++at) {
        if (!suspensions_.contains(at) || suspensions_[at].ended) continue;
        const Gate& gate = suspensions_[at];
        visit({*gate.what, gate.origin == Origin::file, gate.in_force, gate.waiting.count});
    }
}

std::string Core::Impl::same_as(const policy::DynamicCondition& condition) const {
    const Index at = buckets_.conditions().like(condition);
    return at == none ? "" : buckets_.conditions()[at].what->id;
}

std::string Core::Impl::same_as(const policy::Suspension& suspension) const {
    const Index at = suspensions_.like(suspension);
    return at == none ? "" : suspensions_[at].what->id;
}

Reach Core::Impl::reach_of(const policy::DynamicCondition& condition) const {
    Reach reach;
    absl::flat_hash_set<Index> buckets;
    for (const Index bucket : buckets_.concerned_by(condition)) buckets.insert(bucket);
    reach.buckets = buckets.size();
    const auto concerned = [&](Index waiter) { return buckets.contains(waiters_[waiter].bucket); };
    reach.at_least = each_waiting_lane([&](const Lane& lane) {
        if (std::any_of(lane.waiters.begin(), lane.waiters.end(), concerned)) reach.items += lane.length;
    });
    return reach;
}

Reach Core::Impl::reach_of(const policy::Suspension& suspension) const {
    Reach reach;
    Impl& impl = const_cast<Impl&>(*this);  // what is found out of values on the way is kept, which nobody notices
    policy::FieldTable fields = fields_;
    const policy::Match match = policy::renumbered(suspension.match, suspension.fields, fields);
    const auto matches = [&](const policy::FieldValues& values) {
        policy::FieldTexts texts;
        for (std::size_t i = 0; i < policy::field_max; ++i) {
            const auto field = static_cast<policy::Field>(i);
            if (policy::is_text(values[field])) texts.set(field, names_.text(NameId{values[field]}));
        }
        return match.holds(texts);
    };
    const bool is_late = match.fields().depends_on_candidate();
    reach.at_least = each_waiting_lane([&](const Lane& lane) {
        const Index path = destinations_[lane.name.destination].path;
        bool stopped = !is_late && matches(values_of(lane));
        const std::size_t candidates = is_late && path != none ? paths_[path].hops.size() : 0;
        std::vector<Local> from;
        for (std::uint32_t candidate = 0; candidate < candidates && !stopped; ++candidate) {
            impl.list_locals(lane, paths_[path], pool_for(lane, paths_[path], candidate), paths_[path].hops[candidate].family, from);
            stopped = std::any_of(from.begin(), from.end(), [&](const Local& local) {
                return matches(impl.values_of(lane, paths_[path], candidate, local.address));
            });
        }
        if (stopped) reach.items += std::uint64_t{lane.length} * suspension.per_mille / 1'000;
    });
    return reach;
}

// True when there are too many to look at all of them.
bool Core::Impl::each_waiting_lane(const std::function<void(const Lane&)>& visit) const {
    constexpr std::size_t lanes_looked_at_max = 200'000;
    std::size_t looked = 0;
    for (Index at = 0; at < lanes_.end(); ++at) {
        if (!lanes_.contains(at) || lanes_[at].length == 0) continue;
        if (++looked > lanes_looked_at_max) return true;
        visit(lanes_[at]);
    }
    return false;
}

// ---- the auditor -----------------------------------------------------------------------------------------------

void Core::Impl::audit() const {
    ASSERT(to_serve_.empty() && reheaded_.empty() && blockers_.empty());
    audit_items();
    audit_destinations();
    audit_lanes();
    audit_sessions();
    audit_buckets();
    audit_conditions();
    audit_gates();
    audit_timers();
    audit_profiles();
    paths_.audit(now_);
}

// Every item has exactly one place and the timer that belongs to its state; states and fresh messages are counted right.
void Core::Impl::audit_items() const {
    std::uint64_t count[4] = {};
    std::size_t with_progress = 0;
    std::uint32_t asking = 0;
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
        ASSERT(!item.asking || (item.state() == ItemState::sending && item.where == none));
        if (item.asking) ++asking;
        if (item.progress != none) ++with_progress;
        if (item.is_fresh) ++fresh[item.message];
    }
    for (unsigned state = 0; state < 4; ++state) ASSERT(count[state] == count_[state]);
    ASSERT(with_progress == progress_.size());
    for (const auto& [at, reason] : rejections_) {
        ASSERT(items_.contains(at));
        ASSERT(items_[at].state() == ItemState::sending || items_[at].state() == ItemState::held);
    }
    for (const auto& [at, changes] : changes_) ASSERT(items_.contains(at));
    ASSERT(asking == consulting_);
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
    absl::flat_hash_map<Index, std::uint32_t> to_consult;
    for (Index i = to_consult_.head; i != none; i = items_[i].place.next) {
        ASSERT(items_[i].state() == ItemState::ready && items_[i].where == consult_line);
        ++to_consult[items_[i].destination];
    }
    // Somebody is being asked about, so the line moves on.
    ASSERT(to_consult.empty() || options_.disabled || consulting_ >= options_.consulted_max);
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
        ready += to_consult[at];
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
bool Core::Impl::is_blocking(Spot bucket) const {
    if (is_gate(bucket)) return suspensions_[gate_of(bucket)].in_force || suspensions_[gate_of(bucket)].timer.is_set();
    // After a reload it is so when it has had its turn.
    if (bucket_sweep_.covers(bucket)) return true;
    // Whoever frees a session looks at the time then.
    const bool no_session = !buckets_.has_slot(bucket) && (buckets_[bucket].idle.empty() || buckets_[bucket].closing > 0);
    if (no_session) return true;
    if (!buckets_.has_token(bucket, now_)) return buckets_[bucket].timer.is_set();
    return !buckets_.may_connect(bucket, now_) && buckets_[bucket].timer.is_set();
}

// Work is conserved: a lane that has items waits only where there is nothing to have.
void Core::Impl::audit_lanes() const {
    std::size_t waiters = 0;
    for (Index at = 0; at < lanes_.end(); ++at) {
        if (!lanes_.contains(at)) continue;
        const Lane& lane = lanes_[at];
        std::uint32_t length = 0;
        bool sorted = true;
        for (Index i = lane.items.head; i != none; i = items_[i].place.next) {
            sorted = sorted && i != lane.unsorted;
            ASSERT(items_[i].state() == ItemState::ready && items_[i].where == at);
            ASSERT(profiles_.may_share(items_[i].profile, lane.name.profile) && items_[i].priority == lane.name.priority);
            ++length;
        }
        ASSERT(length == lane.length);
        ASSERT(length > 0 || lane.waiters.empty());
        ASSERT(length == 0 || !lane.waiters.empty() || options_.disabled || is_in_backlog(at));
        ASSERT(lane.unsorted == none || (is_in_backlog(at) && !sorted));
        ASSERT(lane.era == era_ || lane_sweep_.covers(at));
        ASSERT(!lane.in_backlog || std::find(backlog_.begin(), backlog_.end(), at) != backlog_.end());
        if (!lane.waiters.empty() && sorted && !is_in_backlog(at)) audit_watch(lane);
        ASSERT(length > 0 || lane.sessions > 0);
        for (const Index waiter : lane.waiters) {
            ASSERT(waiters_[waiter].lane == at);
            const Spot spot = waiters_[waiter].bucket;
            const bool is_retired = !is_gate(spot) && buckets_.is_retired(spot);
            ASSERT(is_retired ? lane.era != era_ : options_.disabled || is_blocking(spot));
        }
        waiters += lane.waiters.size();
    }
    ASSERT(waiters == waiters_.size());
}

// Who waits for some hosts of several is told when others are to be preferred.
void Core::Impl::audit_watch(const Lane& lane) const {
    const Item& head = items_[lane.items.head];
    const Index path = is_under_way(head) ? progress_[head.progress].path : destinations_[lane.name.destination].path;
    ASSERT(!buckets_.depends_on_candidate() || options_.disabled || paths_[path].hops.size() <= 1 || paths_.is_watched(path));
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
        ASSERT(buckets_.has_caught_up(at) || buckets_.is_retired(at) || bucket_sweep_.covers(at));
        ASSERT(!buckets_.is_retired(at) || (bucket.used == 0 && (bucket.holders > 0 || bucket_sweep_.covers(at))));
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
    for (Index at = 0; at < sessions_.end(); ++at) {
        if (sessions_.contains(at)) ++holders[sessions_[at].profile];
    }
    profiles_.audit(std::move(holders));
}

// Every bucket obeys the first of the conditions that concern it, or else the file.
void Core::Impl::audit_conditions() const {
    const Conditions& conditions = buckets_.conditions();
    std::vector<std::uint32_t> obey(conditions.end());
    for (Index at = 0; at < buckets_.end(); ++at) {
        if (!buckets_.contains(at) || buckets_.is_retired(at)) continue;
        const Bucket& bucket = buckets_[at];
        ASSERT(buckets_.is_settled(at));
        if (bucket.condition == none) continue;
        const bool obeys = bucket.adapting != nullptr || bucket.limits == &conditions[bucket.condition].what->limits || !buckets_.has_caught_up(at);
        ASSERT(obeys && conditions[bucket.condition].policy == bucket.name.policy);
        ++obey[bucket.condition];
    }
    for (Index at = 0; at < conditions.end(); ++at) {
        if (!conditions.contains(at)) continue;
        ASSERT(conditions[at].buckets == obey[at]);
        ASSERT(conditions[at].timer.is_set() == conditions[at].what->expires.has_value());
    }
}

// Lanes wait for suspensions that are in force, or go on before long.
void Core::Impl::audit_gates() const {
    for (Index at = 0; at < suspensions_.end(); ++at) {
        if (!suspensions_.contains(at)) continue;
        const Gate& gate = suspensions_[at];
        ASSERT(gate.in_force == (!gate.ended && gate.what->is_in_force(now_)));
        ASSERT(waiters_.recount(gate.waiting) == gate.waiting.count);
        const bool goes_on = !gate.in_force && (gate.ended || gate.waiting.count > 0);
        if (goes_on && !(options_.disabled && gate.waiting.count > 0)) ASSERT(gate.timer.is_set() && gate.timer.when <= now_ + Duration(1));
    }
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
    count(buckets_.conditions());
    count(suspensions_);
    ASSERT(set == in_wheel);
}

}  // namespace sluice::queue
