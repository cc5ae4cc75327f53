// Options, at the start and live.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// The two limits that everybody has come last, so that a lane waits at the narrowest bucket that stops it.
PolicyTable policies_from(const Options& options) {
    const auto sessions = [](std::uint32_t count) {
        policy::Limits limits;
        limits.concurrency = count;
        return limits;
    };
    PolicyTable table;
    table.set = options.policies;
    if (options.policies != nullptr) table.policies = options.policies->policies;
    table.of_file = table.policies.size();
    table.policies.push_back(policy::plain_policy("destination_concurrency", {policy::Field::recipientdomain}, sessions(options.destination_concurrency)));
    table.policies.push_back(policy::plain_policy("concurrency_max", {}, sessions(options.concurrency_max)));
    return table;
}

template <class File>
bool same_file(const File& a, const File& b) {
    return a == b || (a != nullptr && b != nullptr && !a->text.empty() && a->text == b->text);
}

}  // namespace

Core::Impl::Impl(const Options& options)
    : options_(options), random_(options.seed), shard_sessions_(std::max<std::uint32_t>(options.shards, 1), 0) {
    options_.shards = static_cast<std::uint32_t>(shard_sessions_.size());
    sources_.configure(options_.sources4, options_.sources6, options_.transports);
    for (std::size_t i = 0; i < priorities; ++i) priority_names_[i] = names_.intern(std::to_string(i));
    for (std::size_t i = 1; i <= attempts_told_apart; ++i) attempt_names_[i] = names_.intern(std::to_string(i));
    deliveries_.configure(options_.deliveries);
    settle_fields();
    buckets_.configure(policies_from(options_), now_);
    set_weights();
}

void Core::Impl::on(Configure& event) {
    const Options old = std::exchange(options_, std::move(event.options));
    options_.shards = old.shards;
    options_.seed = old.seed;
    options_.consult = old.consult;
    if (same_file(old.policies, options_.policies)) options_.policies = old.policies;
    sources_.configure(options_.sources4, options_.sources6, options_.transports);
    set_weights();
    // Its conditions may refer to lists and groupings of the policies.
    const bool same_deliveries = same_file(old.policies, options_.policies) && same_file(old.deliveries, options_.deliveries);
    const bool had_lifetimes = deliveries_.set_lifetimes();
    if (same_deliveries) options_.deliveries = old.deliveries;
    else deliveries_.configure(options_.deliveries);
    const bool more_fields = settle_fields();
    apply_policies(policies_from(options_));
    apply_suspensions();
    policy::Reactions reactions;
    reactor_.configure(options_.policies, now_, reactions);
    warm_ups_.configure(options_.policies, now_, reactions);
    carry_out(reactions);
    if (!same_deliveries) review_sessions();
    const bool other_sources =
        old.sources4 != options_.sources4 || old.sources6 != options_.sources6 || old.transports != options_.transports;
    const bool other_times = old.lifetime != options_.lifetime || old.last_chance != options_.last_chance ||
                             (!same_deliveries && (had_lifetimes || deliveries_.set_lifetimes()));
    if (more_fields || other_sources) relane_all();
    else if (other_times) move_ends();
    close_excess();
    refresh_routes();
    restart_everything();
}

std::uint32_t Core::Impl::weight_of(NameId tenant) const {
    if (weights_.empty()) return 1;
    const auto found = weights_.find(tenant);
    return found == weights_.end() ? 1 : found->second;
}

void Core::Impl::set_weights() {
    const auto old = std::exchange(weights_, {});
    const auto add = [this](const auto& weights) {
        for (const auto& [tenant, weight] : weights) {
            const NameId name = names_.intern(tenant);
            if (!weights_.emplace(name, std::max<std::uint32_t>(weight, 1)).second) names_.drop(name);
        }
    };
    add(options_.tenant_weights);
    if (options_.policies != nullptr) add(options_.policies->tenant_weights);
    for (const auto& [name, weight] : old) names_.drop(name);
}

// Which fields make a lane: those that some policy, suspension or condition of deliveries asks for. True when lanes have to be told apart by more than before.
bool Core::Impl::settle_fields() {
    // The fields of the deliveries are those of the policies, and more.
    if (options_.deliveries != nullptr) fields_ = options_.deliveries->fields;
    else fields_ = options_.policies != nullptr ? options_.policies->fields : policy::FieldTable();
    told_apart_ = options_.policies != nullptr ? options_.policies->used_fields() : policy::FieldSet();
    if (options_.deliveries != nullptr) told_apart_.add(options_.deliveries->used_fields());
    for (Index at = 0; at < suspensions_.end(); ++at) {
        if (!suspensions_.contains(at) || suspensions_[at].ended) continue;
        const policy::Suspension& what = *suspensions_[at].what;
        suspensions_.number(at, policy::renumbered(what.match, what.fields, fields_));
    }
    for (std::size_t number = 0; number < fields_.size(); ++number) {
        const auto field = static_cast<policy::Field>(number);
        if (suspensions_.use(field)) told_apart_.add(field);
    }
    const bool more = profiles_.configure(told_apart_, fields_, [this](NameId transport) { return sources_.pool_of(transport); });
    const bool attempts_mattered = std::exchange(attempts_matter_, told_apart_.has(policy::Field::attempt));
    return more || (attempts_matter_ && !attempts_mattered);
}

// Limits change in place. Where other things are counted there are other buckets: sessions count for them at once, and buckets of policies
// that count what they did remember what they did.
void Core::Impl::apply_policies(PolicyTable policies) {
    if (!buckets_.can_stay(policies)) return rebuild_buckets(std::move(policies));
    buckets_.configure(std::move(policies), now_);
    for (Index bucket = 0; bucket < buckets_.end(); ++bucket) {
        if (!buckets_.contains(bucket)) continue;
        wheel_.cancel(timer_key(Timed::bucket, bucket));
        if (buckets_[bucket].waiting.count > 0) watch_time(bucket);
        offer(bucket);
        settle(bucket);
    }
}

void Core::Impl::rebuild_buckets(PolicyTable policies) {
    std::vector<Buckets::Memory> memories = buckets_.remember(now_);
    for (const Index lane : all_lanes()) {
        stop_waiting(lane);
        const BucketList buckets = std::exchange(lanes_[lane].buckets, {});
        for (const Index bucket : buckets) {
            if (bucket != none) drop_bucket(bucket);
        }
    }
    const std::vector<Index> sessions = all_sessions();
    for (const Index session : sessions) free_slots(session);
    to_serve_.clear();
    for (Index bucket = 0; bucket < buckets_.end(); ++bucket) {
        if (!buckets_.contains(bucket)) continue;
        wheel_.cancel(timer_key(Timed::bucket, bucket));
        buckets_.discard(bucket);
    }
    buckets_.configure(std::move(policies), now_);
    for (const Index lane : all_lanes()) hold_lane_buckets(lane);
    for (const Index session : sessions) {
        const Session& row = sessions_[session];
        if (row.state == SessionState::gone) continue;
        attach(session, lane_of(lane_key(row)), row.path);
        const std::uint32_t candidate = row.pool != none ? row.candidate : row.group.front();
        const Path& path = paths_[row.path];
        const NameId local = path.hops[candidate].family == Family::local ? Names::empty : row.local(path.hops[candidate].family).address;
        take_slots(session, hold_buckets(lanes_[row.lane], values_of(lanes_[row.lane], path, candidate, local)));
    }
    buckets_.recall(std::move(memories), now_);
    for (Index bucket = 0; bucket < buckets_.end(); ++bucket) {
        if (buckets_.contains(bucket)) settle(bucket);
    }
}

// Sessions that would not be opened like this any more are closed as soon as they are idle.
void Core::Impl::review_sessions() {
    for (const Index at : all_sessions()) {
        Session& session = sessions_[at];
        if (session.state == SessionState::gone || session.state == SessionState::closing) continue;
        const std::uint32_t candidate = session.pool != none ? session.candidate : session.group.front();
        const Path& path = paths_[session.path];
        Lane lane;
        lane.name = lane_key(session);  // its item may be told by more than its lane was made of
        const Deliveries::Place how = how_to(lane, path, candidate, session.local(path.hops[candidate].family));
        session.outdated = deliveries_.manner(how) != session.manner;
        if (!session.outdated) session.how = deliveries_.share(how);
    }
}

void Core::Impl::close_excess(Index bucket) {
    while (buckets_.contains(bucket) && buckets_.is_over(bucket) && !buckets_[bucket].idle.empty()) {
        close(slots_[buckets_[bucket].idle.head].session);
    }
    if (buckets_.contains(bucket) && buckets_.is_over(bucket) && buckets_[bucket].kept > 0) close_spent();
}

void Core::Impl::close_excess() {
    for (Index bucket = 0; bucket < buckets_.end(); ++bucket) close_excess(bucket);
    close_spent();
}

void Core::Impl::close_spent() {
    for (const Index session : all_sessions()) {
        if (sessions_[session].state == SessionState::idle && is_spent(sessions_[session])) close(session);
    }
}

// What makes a route may have changed as well: families, static routes.
void Core::Impl::refresh_routes() {
    for (const Index at : all_destinations()) {
        if (destinations_[at].path == none || destinations_[at].resolving) continue;
        if (has_ready(destinations_[at])) {
            refresh(at);
        } else {
            drop_path(at);
            release_destination(at);
        }
    }
}

void Core::Impl::relane_all() {
    for (Index item = to_consult_.head; item != none; item = items_[item].place.next) {
        wheel_.cancel(timer_key(Timed::item, item));
        wheel_.add(timer_key(Timed::item, item), end_of(items_[item]));
    }
    for (const Index at : all_destinations()) {
        for (Index item = destinations_[at].unrouted.head; item != none; item = items_[item].place.next) {
            watch_end(item);
        }
        relane(at);
    }
}

// Ready items whose time ends earlier or later than it did.
void Core::Impl::move_ends() {
    for (Index at = 0; at < items_.end(); ++at) {
        if (!items_.contains(at) || items_[at].state() != ItemState::ready) continue;
        if (items_[at].timer.when != end_of(items_[at])) watch_end(at);
    }
}

// Waiting lanes in their turn first, then whatever did not wait anywhere because nothing was allowed to start.
void Core::Impl::restart_everything() {
    serve_all();
    for (const Index at : all_destinations()) {
        if (!destinations_[at].unrouted.empty()) resolve(at);
    }
    look_at_everything();
    ask_plugins();
}

std::vector<Index> Core::Impl::all_lanes() const {
    std::vector<Index> all;
    for (Index at = 0; at < lanes_.end(); ++at) {
        if (lanes_.contains(at)) all.push_back(at);
    }
    return all;
}

std::vector<Index> Core::Impl::all_sessions() const {
    std::vector<Index> all;
    for (Index at = 0; at < sessions_.end(); ++at) {
        if (sessions_.contains(at)) all.push_back(at);
    }
    return all;
}

std::vector<Index> Core::Impl::all_destinations() const {
    std::vector<Index> all;
    for (Index at = 0; at < destinations_.end(); ++at) {
        if (destinations_.contains(at)) all.push_back(at);
    }
    return all;
}

}  // namespace sluice::queue
