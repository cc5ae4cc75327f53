// What starts, and who waits for what.

#include <algorithm>
#include <limits>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// Connections to one remote may be held by lanes whose counters differ; so many are looked at.
constexpr int idle_looked_at_max = 8;

}  // namespace

// Starts from a lane as long as something starts.
void Core::Impl::run_lane(Index lane) {
    while (!options_.disabled && lanes_[lane].length > 0) {
        if (start_head(lane) == Start::blocked) return;
    }
}

Core::Impl::Start Core::Impl::start_head(Index lane) {
    catch_up(lane);
    const Index head = lanes_[lane].items.head;
    if (items_[head].deadline() <= now_) {
        // Its timer fires at this instant too; what lets the lane go on came before it.
        leave_place(head);
        conclude_late(head);
        return Start::started;
    }
    if (lanes_[lane].unsorted != none && !sort_head(lane)) {
        stop_waiting(lane);
        return Start::blocked;
    }
    if (suspensions_.any()) return start_past_gates(lane);
    Plan plan;
    if (!choose_group(head, lanes_[lane], plan, group_)) return give_up_head(lane, plan);
    choose_departures(lanes_[lane], paths_[plan.path]);
    if (start_over(lane, plan, Ways::any)) return Start::started;
    block(lane);
    return Start::blocked;
}

// Over the addresses to call from, the preferred one first.
bool Core::Impl::start_over(Index lane, const Plan& plan, Ways ways) {
    const std::size_t count = ranks();
    for (std::size_t rank = 0; rank < count; ++rank) {
        const bool started = (ways != Ways::new_session && !plan.new_session && start_on_idle(lane, plan, rank)) ||
                             (ways != Ways::idle_session && start_on_new(lane, plan, rank));
        if (!started) continue;
        forget_blockers();
        return true;
    }
    return false;
}

Core::Impl::Start Core::Impl::give_up_head(Index lane, const Plan& plan) {
    const Index item = lanes_[lane].items.head;
    const bool never_tried = !is_under_way(items_[item]);
    leave_place(item);
    if (plan.wrong_family && never_tried) {
        conclude(item, Error(Errc::not_found, "no host of the route has an address of the family that delivery.yaml asks for"));
    } else {
        conclude(item, Error(Errc::unreachable, "no host of the route is left that can be called from here"));
    }
    return Start::started;
}

// The candidates to try next: of those not tried in this attempt, and of a family that the lane has addresses of, the best level that is
// believed to be alive, or else the best level of the others. Those that are suspended count as if they were not there. False when none is left.
bool Core::Impl::choose_group(Index at, const Lane& lane, Plan& plan, std::vector<std::uint32_t>& group) {
    const Progress* const progress = is_under_way(items_[at]) ? &progress_[items_[at].progress] : nullptr;
    plan.path = progress != nullptr ? progress->path : destinations_[lane.name.destination].path;
    plan.permanent = progress == nullptr || progress->permanent;
    const Path& path = paths_[plan.path];
    const std::vector<Path::Hop>& hops = path.hops;
    // The same host again, unless its transport has lost the addresses to call it from meanwhile.
    const bool fixed = progress != nullptr && progress->only != none &&
                       sources_.serves(pool_for(lane, path, progress->only), hops[progress->only].family);

    group.clear();
    std::size_t untried = 0;
    std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
    for (std::uint32_t candidate = 0; candidate < hops.size(); ++candidate) {
        const Path::Hop& hop = hops[candidate];
        if (progress != nullptr && progress->tried[candidate]) continue;
        const Index pool = pool_for(lane, path, candidate);
        if (!sources_.serves(pool, hop.family) || is_suspended(path, candidate)) continue;
        std::uint32_t level = hop.level;
        if (deliveries_.choose_families()) {
            const auto& family = deliveries_[how_to(lane, path, candidate, preferred_local(lane, path, pool, hop.family))].family;
            if (family && !permits(*family, hop.family)) {
                plan.wrong_family = true;
                continue;
            }
            if (family) level = hop.first_level + handicap(*family, hop.family);
        }
        ++untried;
        const std::uint64_t order = std::uint64_t{hop.preference} << 32 | level;
        const std::uint64_t rank = order | (paths_.is_avoided(hop, now_) ? std::uint64_t{1} << 63 : 0);
        if (fixed || rank > best) continue;
        if (rank < best) group.clear();
        best = rank;
        group.push_back(candidate);
    }
    if (fixed) {
        group.push_back(progress->only);
        plan.new_session = true;
    }
    plan.last_resort = untried <= group.size();
    return !group.empty();
}

// That of the mail's transport, unless a bucket names another one.
Index Core::Impl::pool_for(const Lane& lane, const Path& path, std::uint32_t candidate) const {
    const Index own = profiles_[lane.name.profile].pool;
    if (!buckets_.redirects()) return own;
    const std::string_view transport = buckets_.transport_for(values_of(lane, path, candidate, Names::empty));
    if (transport.empty()) return own;
    NameId name{};
    return names_.find(transport, name) ? sources_.pool_of(name) : 0;
}

// Only the preferred addresses as long as every other one would have as much room as these.
bool Core::Impl::wants_all(Index pool) const {
    return buckets_.depends_on_candidate() || suspensions_.use(policy::Field::localip) || !sources_.is_sticky(pool);
}

// Where to call the hosts of the path from.
void Core::Impl::choose_departures(const Lane& lane, const Path& path) {
    departure_of_.clear();
    departures_.resize(1);
    if (!buckets_.redirects()) return list_departure(lane, path, profiles_[lane.name.profile].pool, departures_.front());
    departures_.clear();
    for (std::uint32_t candidate = 0; candidate < path.hops.size(); ++candidate) {
        const Index pool = pool_for(lane, path, candidate);
        const auto known = std::find_if(departures_.begin(), departures_.end(), [&](const Departure& departure) { return departure.pool == pool; });
        departure_of_.push_back(static_cast<Index>(known - departures_.begin()));
        if (known == departures_.end()) list_departure(lane, path, pool, departures_.emplace_back());
    }
}

void Core::Impl::list_departure(const Lane& lane, const Path& path, Index pool, Departure& departure) const {
    departure.pool = pool;
    const bool all = wants_all(pool);
    for (const Family family : {Family::ipv4, Family::ipv6, Family::local}) {
        std::vector<Local>& locals = departure.locals[static_cast<unsigned>(family)];
        if (all) list_locals(lane, path, pool, family, locals);
        else locals.assign(1, preferred_local(lane, path, pool, family));
    }
}

void Core::Impl::list_locals(const Lane& lane, const Path& path, Index pool, Family family, std::vector<Local>& locals) const {
    if (path.demanded(family) != Names::empty) return locals.assign(1, preferred_local(lane, path, pool, family));
    sources_.list(pool, family, lane.name.source, now_, locals);
}

Local Core::Impl::preferred_local(const Lane& lane, const Path& path, Index pool, Family family) const {
    const NameId demanded = path.demanded(family);
    if (demanded != Names::empty) return {demanded, Names::empty};
    return sources_.preferred(pool, family, lane.name.source, now_);
}

std::size_t Core::Impl::ranks() const {
    std::size_t most = 1;
    for (const Departure& departure : departures_) most = std::max({most, departure.of(Family::ipv4).size(), departure.of(Family::ipv6).size()});
    return most;
}

bool Core::Impl::start_on_idle(Index lane, const Plan& plan, std::size_t rank) {
    if (idle_sessions_ == 0) return false;
    const Path& path = paths_[plan.path];
    for (const std::uint32_t candidate : group_) {
        const Path::Hop& hop = path.hops[candidate];
        if (rank >= locals(path, candidate).size() || is_suspended(candidate, rank)) continue;
        const Local& local = locals(path, candidate)[rank];
        const Deliveries::Place how = how_to(lanes_[lane], path, candidate, local);
        const bool verified = path.route->transport.force_tls || deliveries_[how].verifies_tls();
        const Index pool = pools_.find(pool_key(local, path, hop, verified, deliveries_.manner(how)));
        if (pool == none) continue;
        int looked_at = 0;
        for (Index at = pools_[pool].idle.head; at != none && looked_at < idle_looked_at_max; ++looked_at) {
            if (start_on(at, lane, candidate, how, plan)) return true;
            at = sessions_[at].pooled.next;
        }
    }
    return false;
}

bool Core::Impl::start_on(Index at, Index lane, std::uint32_t candidate, Deliveries::Place how, const Plan& plan) {
    Session& session = sessions_[at];
    if (session.lane == lane && !buckets_.depends_on_candidate()) {
        if (!may_carry(at, lanes_[lane].buckets) || !may_take(lanes_[lane].buckets, at)) return false;
        leave_idle(at);
    } else {
        const Family family = paths_[plan.path].hops[candidate].family;
        BucketList buckets = hold_buckets(lanes_[lane], values_of(lanes_[lane], paths_[plan.path], candidate, session.local(family).address));
        if (!may_carry(at, buckets) || !may_take(buckets, at)) {
            drop_buckets(buckets);
            return false;
        }
        leave_idle(at);
        change_slots(at, std::move(buckets));
    }
    session.state = SessionState::busy;
    session.candidate = candidate;
    session.group.assign(1, candidate);
    Deliver deliver;
    deliver.how = deliveries_.share(how);
    deliver.last_resort = plan.last_resort && group_.size() == 1;
    begin_attempt(at, lane, plan, std::move(deliver));
    return true;
}

bool Core::Impl::start_on_new(Index lane, const Plan& plan, std::size_t rank) {
    if (!buckets_.depends_on_candidate() && all_are_open(paths_[plan.path], rank)) {
        if (!may_take(lanes_[lane].buckets, none)) return false;
        shuffle_group();
        BucketList buckets = lanes_[lane].buckets;
        for (const Index bucket : buckets) buckets_.hold(bucket);
        std::vector<std::uint32_t> candidates = group_;
        share_settings(lane, paths_[plan.path], rank, candidates);
        open(lane, plan, rank, std::move(candidates), std::move(buckets));
        return true;
    }
    // What has no room for calls from one address has none for calls from another.
    if (!buckets_.depends_on_candidate() && suspended_.empty()) return false;
    if (rank == 0) shuffle_group();
    const Path& path = paths_[plan.path];
    for (const std::uint32_t candidate : group_) {
        if (rank >= locals(path, candidate).size() || is_suspended(candidate, rank)) continue;
        BucketList buckets = hold_buckets(lanes_[lane], values_of(lanes_[lane], path, candidate, locals(path, candidate)[rank].address));
        if (may_take(buckets, none)) {
            open(lane, plan, rank, {candidate}, std::move(buckets));
            return true;
        }
        // The blocker stays because the lane will wait there; the others may go.
        drop_buckets(buckets);
    }
    return false;
}

// Leaves those that are to be delivered to like the first: a session is opened in one manner. The others have their turn after these.
void Core::Impl::share_settings(Index lane, const Path& path, std::size_t rank, std::vector<std::uint32_t>& candidates) {
    if (!deliveries_.by_candidate()) return;
    const auto how = [&](std::uint32_t candidate) { return how_to(lanes_[lane], path, candidate, locals(path, candidate)[rank]); };
    const Deliveries::Place first = how(candidates.front());
    std::erase_if(candidates, [&](std::uint32_t candidate) { return how(candidate) != first; });
}

// All or nothing: every bucket has a token and, unless `session` holds one there, a slot; a new session may be opened in all of them.
// Notes the first that refuses.
bool Core::Impl::may_take(const BucketList& buckets, Index session) {
    for (std::size_t policy = 0; policy < buckets.size(); ++policy) {
        const Index bucket = buckets[policy];
        const bool has_slot_there = session != none && slots_[sessions_[session].slots[policy]].bucket == bucket;
        if (buckets_.refusal(bucket, has_slot_there, session == none, now_) == Refusal::none) continue;
        note_blocker(bucket);
        return false;
    }
    return true;
}

// The session has not carried as many messages yet as one of these buckets allows. Nobody has to wait for that: a new one may.
bool Core::Impl::may_carry(Index session, const BucketList& buckets) const {
    const std::uint32_t messages = sessions_[session].messages;
    return std::all_of(buckets.begin(), buckets.end(), [&](Index bucket) { return buckets_.may_carry(bucket, messages); });
}

void Core::Impl::open(Index lane, const Plan& plan, std::size_t rank, std::vector<std::uint32_t> candidates, BucketList&& buckets) {
    const Path& path = paths_[plan.path];
    const Deliveries::Place how = how_to(lanes_[lane], path, candidates.front(), locals(path, candidates.front())[rank]);
    const Departure& from = departure(candidates.front());
    Session row;
    row.id = ++last_session_;
    row.shard = least_loaded_shard();
    row.group = candidates;
    row.local4 = hold_local(from, Family::ipv4, rank);
    row.local6 = hold_local(from, Family::ipv6, rank);
    row.how = deliveries_.share(how);
    row.manner = names_.hold(deliveries_.manner(how));
    ++shard_sessions_[row.shard];
    const Index at = sessions_.add(std::move(row));
    take_slots(at, std::move(buckets));

    Deliver deliver;
    deliver.open = true;
    deliver.how = sessions_[at].how;
    deliver.last_resort = plan.last_resort && candidates.size() == group_.size();
    deliver.candidates = std::move(candidates);
    deliver.bind = names_.text(sessions_[at].local4.address);
    deliver.bind6 = names_.text(sessions_[at].local6.address);
    deliver.helo = names_.text(sessions_[at].local4.helo);
    deliver.helo6 = names_.text(sessions_[at].local6.helo);
    begin_attempt(at, lane, plan, std::move(deliver));
}

Local Core::Impl::hold_local(const Departure& departure, Family family, std::size_t rank) {
    const Local local = rank < departure.of(family).size() ? departure.of(family)[rank] : Local{};
    names_.hold(local.address);
    names_.hold(local.helo);
    return local;
}

// The session takes the lane's head: counts it, and says so.
void Core::Impl::begin_attempt(Index at, Index lane, const Plan& plan, Deliver&& deliver) {
    Session& session = sessions_[at];
    const Index item = lanes_[lane].items.head;
    for (const Index slot : session.slots) {
        buckets_.take_token(slots_[slot].bucket, items_[item].size, now_);
        if (deliver.open) buckets_.connect(slots_[slot].bucket, now_);
    }
    attach(at, lane, plan.path);
    count_source(session);
    charge(lane);
    leave_place(item);
    set_state(item, ItemState::sending);
    items_[item].where = at;
    serve_item(at, item);
    ++session.messages;

    deliver.session = session.id;
    deliver.shard = session.shard;
    deliver.route = paths_[plan.path].route;
    deliver.permanent_so_far = plan.permanent;
    deliver.work = work_of(item);
    actions_->emplace_back(std::move(deliver));
}

void Core::Impl::shuffle_group() {
    for (std::size_t rest = group_.size(); rest > 1; --rest) std::swap(group_[rest - 1], group_[random_.below(rest)]);
}

// The message that starts counts for the address it goes out from; of a race, which may end in either family, for one of each.
void Core::Impl::count_source(const Session& session) {
    const Index pool = departure(session.group.front()).pool;
    if (sources_.is_sticky(pool)) return;
    bool counted[3] = {};
    for (const std::uint32_t candidate : session.group) {
        const Family family = paths_[session.path].hops[candidate].family;
        if (!std::exchange(counted[static_cast<unsigned>(family)], true)) sources_.count(pool, family, session.local(family).address);
    }
}

PoolKey Core::Impl::pool_key(const Local& local, const Path& path, const Path::Hop& hop, bool verified, NameId manner) {
    return {local.address, local.helo, hop.address, path.transport, verified ? hop.mx_host : Names::empty, manner};
}

Deliveries::Place Core::Impl::how_to(const Lane& lane, const Path& path, std::uint32_t candidate, const Local& local) {
    if (!deliveries_.has_conditions()) return 0;
    return deliveries_.of(deliveries_.by_candidate() ? values_of(lane, path, candidate, local.address) : values_of(lane));
}

// ---- lanes and buckets -----------------------------------------------------------------------------------------

// What is known of a lane before a candidate is chosen.
policy::FieldValues Core::Impl::values_of(const Lane& lane) const {
    policy::FieldValues values;
    profiles_.fill(values, lane.name.profile);
    if (lane.name.attempt != 0) values[policy::Field::attempt] = number_of(attempt_names_[lane.name.attempt]);
    values[policy::Field::recipientdomain] = number_of(destinations_[lane.name.destination].name);
    values[policy::Field::priority] = number_of(priority_names_[lane.name.priority]);
    return values;
}

policy::FieldValues Core::Impl::values_of(const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const {
    policy::FieldValues values = values_of(lane);
    const Path::Hop& hop = path.hops[candidate];
    values[policy::Field::localip] = number_of(local);
    values[policy::Field::remoteip] = number_of(hop.ip);
    values[policy::Field::remotemx] = number_of(hop.mx);
    if (buckets_.uses_grouping() || suspensions_.use(policy::Field::grouping) || deliveries_.uses_grouping() || told_apart_.has(policy::Field::grouping)) {
        const NameId domain = destinations_[lane.name.destination].name;
        values[policy::Field::grouping] = number_of(buckets_.grouping_of(hop.mx, hop.ip, domain));
    }
    return values;
}

BucketList Core::Impl::hold_buckets(const Lane& lane, const policy::FieldValues& values) {
    BucketList buckets;
    bool stopped = false;
    for (std::uint32_t policy = 0; policy < lane.buckets.size(); ++policy) {
        Index bucket = lane.buckets[policy];
        if (bucket != none) buckets_.hold(bucket);
        else bucket = stopped && buckets_.may_be_skipped(policy) ? buckets_.hold_skipped(policy) : buckets_.hold(policy, values);
        buckets.push_back(bucket);
        stopped = stopped || buckets_.stops(bucket);
    }
    return buckets;
}

void Core::Impl::drop_buckets(const BucketList& buckets) {
    for (const Index bucket : buckets) drop_bucket(bucket);
}

void Core::Impl::drop_bucket(Index bucket) {
    if (buckets_.drop(bucket)) settle(bucket);
}

// A bucket that nobody refers to goes, at the latest when it has nothing to remember.
void Core::Impl::settle(Index bucket) {
    if (buckets_[bucket].holders > 0 || buckets_[bucket].in_turn) return;
    const Index timer = timer_key(Timed::bucket, bucket);
    wheel_.cancel(timer);
    if (buckets_.is_retired(bucket)) return retire(bucket);
    const Instant until = buckets_.remembers_until(bucket);
    if (!buckets_.collect(bucket, now_)) wheel_.add(timer, until);
}

void Core::Impl::retire(Index bucket) {
    const Index heir = buckets_.bequeath(bucket);
    buckets_.discard(bucket);
    if (heir != none) settle(heir);
}

Index Core::Impl::lane_of(const LaneKey& key) {
    const Index found = lanes_.find(key);
    if (found != none) {
        catch_up(found);
        return found;
    }
    Lane lane;
    lane.name = key;
    lane.era = era_;
    profiles_.hold(key.profile);
    const Index at = lanes_.add(std::move(lane));
    hold_lane_buckets(at);
    Chained<&Lane::sibling>::push_back(lanes_, destinations_[key.destination].lanes, at);
    return at;
}

void Core::Impl::hold_lane_buckets(Index at) {
    Lane& lane = lanes_[at];
    const policy::FieldValues values = values_of(lane);
    bool stopped = false;
    for (std::uint32_t policy = 0; policy < buckets_.policies(); ++policy) {
        if (stopped && buckets_.may_be_skipped(policy)) {
            lane.buckets.push_back(buckets_.hold_skipped(policy));
        } else if (buckets_.is_late(policy)) {
            lane.buckets.push_back(none);
        } else {
            lane.buckets.push_back(buckets_.hold(policy, values));
            stopped = stopped || buckets_.stops(lane.buckets.back());
        }
    }
}

void Core::Impl::release_lane(Index at) {
    if (lanes_[at].length > 0 || lanes_[at].sessions > 0) return;
    const LaneKey key = lanes_[at].name;
    const BucketList buckets = std::move(lanes_[at].buckets);
    Chained<&Lane::sibling>::remove(lanes_, destinations_[key.destination].lanes, at);
    lanes_.remove(at);
    for (const Index bucket : buckets) {
        if (bucket != none) drop_bucket(bucket);
    }
    profiles_.drop(key.profile);
    release_destination(key.destination);
}

// The blocker is kept alive for the lane that is about to wait there.
void Core::Impl::note_blocker(Spot spot) {
    if (std::find(blockers_.begin(), blockers_.end(), spot) != blockers_.end()) return;
    if (!is_gate(spot)) buckets_.hold(spot);
    blockers_.push_back(spot);
}

void Core::Impl::forget_blockers() {
    const BucketList blockers = std::exchange(blockers_, {});
    for (const Spot spot : blockers) drop_spot(spot);
}

void Core::Impl::drop_spot(Spot spot) {
    if (!is_gate(spot)) drop_bucket(spot);
}

// A gate that has ended goes with its last waiter, a little later: somebody may be busy with it.
void Core::Impl::leave_spot(Index waiter) {
    const Spot spot = waiters_[waiter].bucket;
    waiters_.leave(round_at(spot), waiter);
    if (!is_gate(spot)) return drop_bucket(spot);
    if (suspensions_[gate_of(spot)].ended) watch_gate(gate_of(spot), true);
}

bool Core::Impl::waits_at(Index lane, Spot spot) const {
    const BucketList& waiters = lanes_[lane].waiters;
    return std::any_of(waiters.begin(), waiters.end(), [&](Index w) { return waiters_[w].bucket == spot; });
}

// The lane waits where its head was stopped, and keeps its place where it waited already.
void Core::Impl::block(Index at) {
    watch_hosts(at);
    Lane& lane = lanes_[at];
    BucketList kept;
    for (const Index waiter : lane.waiters) {
        const Spot spot = waiters_[waiter].bucket;
        if (std::find(blockers_.begin(), blockers_.end(), spot) != blockers_.end()) kept.push_back(waiter);
        else leave_spot(waiter);
    }
    lane.waiters = std::move(kept);
    const BucketList blockers = std::exchange(blockers_, {});
    for (const Spot spot : blockers) {
        if (waits_at(at, spot)) {
            drop_spot(spot);  // noted again
        } else {
            const NameId tenant = profiles_[lane.name.profile].name.tenant;
            lane.waiters.push_back(waiters_.enter(round_at(spot), spot, at, tenant, weight_of(tenant), lane.name.priority));
        }
        if (is_gate(spot)) continue;
        watch_time(spot);
        if (!buckets_.has_slot(spot)) evict_for(at, spot);
    }
}

void Core::Impl::stop_waiting(Index at) {
    const BucketList waiters = std::exchange(lanes_[at].waiters, {});
    for (const Index waiter : waiters) leave_spot(waiter);
}

// Lanes wait for time as well as for sessions to end.
void Core::Impl::watch_time(Index bucket) {
    const Instant opens = buckets_.opens(bucket, now_);
    if (opens <= now_) return;
    // While nobody waited the timer may have been set for the end of what is remembered, which is later.
    const TimerNode& timer = buckets_[bucket].timer;
    if (timer.is_set() && timer.when <= opens) return;
    wheel_.cancel(timer_key(Timed::bucket, bucket));
    wheel_.add(timer_key(Timed::bucket, bucket), opens);
}

void Core::Impl::charge(Index lane) {
    for (const Index waiter : lanes_[lane].waiters) {
        waiters_.charge(round_at(waiters_[waiter].bucket), waiter);
    }
}

// Idle sessions that are of no use to the lane yield their slots, as many as it could use, the longest idle first.
void Core::Impl::evict_for(Index at, Index bucket) {
    const Lane& lane = lanes_[at];
    std::uint32_t wanted = lane.length;
    for (const Index other : lane.buckets) {
        if (other == none || other == bucket || !buckets_.has_slot(other)) continue;
        const std::uint32_t limit = buckets_.limits(other).concurrency;
        if (limit != 0) wanted = std::min(wanted, limit - buckets_[other].used);
    }
    Index slot = buckets_[bucket].idle.head;
    while (slot != none && buckets_[bucket].closing < wanted) {
        const Index session = slots_[slot].session;
        slot = slots_[slot].idle.next;
        if (session != kept_) close(session);
    }
}

// Something became free in a bucket: who waits there is served before handle() returns. Who waits at one that is retired will have a turn.
void Core::Impl::offer(Index bucket) {
    Bucket& row = buckets_[bucket];
    if (row.waiting.count == 0 || row.in_turn || buckets_.is_retired(bucket)) return;
    row.in_turn = true;
    to_serve_.push_back(bucket);
}

void Core::Impl::serve_all() {
    do {
        for (std::size_t i = 0; i < to_serve_.size(); ++i) {  // NOLINT(modernize-loop-convert): it becomes longer
            const Index bucket = to_serve_[i];
            serve(bucket);
            buckets_[bucket].in_turn = false;
            settle(bucket);
        }
        to_serve_.clear();
    } while (run_reheaded());
}

// A head that goes on with some of the hosts waits for these only. Once it is gone, who comes after it may start elsewhere; everybody who
// waited there has been served by now. False when there is no such lane.
bool Core::Impl::run_reheaded() {
    if (reheaded_.empty()) return false;
    const Index lane = reheaded_.back();
    reheaded_.pop_back();
    if (lanes_.contains(lane)) run_lane(lane);
    return true;
}

void Core::Impl::serve(Index bucket) {
    while (!options_.disabled && buckets_[bucket].waiting.count > 0) {
        if (!buckets_.has_token(bucket, now_)) return watch_time(bucket);
        if (!buckets_.has_slot(bucket) && !buckets_.has_idle(bucket)) return;
        const Index lane = waiters_[waiters_.first(buckets_[bucket].waiting)].lane;
        if (start_head(lane) == Start::blocked && waits_at(lane, bucket)) return;
    }
}

}  // namespace sluice::queue
