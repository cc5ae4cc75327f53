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
    ++configured_;
    const Options old = std::exchange(options_, std::move(event.options));
    options_.shards = old.shards;
    options_.seed = old.seed;
    options_.consult = old.consult;
    if (same_file(old.policies, options_.policies)) options_.policies = old.policies;
    sources_.configure(options_.sources4, options_.sources6, options_.transports);
    if (old.transports != options_.transports) profiles_.find_pools([this](NameId transport) { return sources_.pool_of(transport); });
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
    destination_sweep_.begin(destinations_.end());
    backlog_due_ = now_;
    close_excess();
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
    const bool more = profiles_.configure(told_apart_, fields_);
    const bool attempts_mattered = std::exchange(attempts_matter_, told_apart_.has(policy::Field::attempt));
    return more || (attempts_matter_ && !attempts_mattered);
}

// Limits change in place. Where other things are counted there are other buckets: sessions count for them at once, lanes as soon as somebody comes to
// them, and buckets of policies that count what they did remember what they did.
void Core::Impl::apply_policies(PolicyTable policies) {
    const bool stay = buckets_.can_stay(policies);
    buckets_.configure(std::move(policies), now_);
    bucket_sweep_.begin(buckets_.end());
    if (stay) return;
    counted_anew_ = ++era_;
    lane_sweep_.begin(lanes_.end());
    for (const Index session : all_sessions()) {
        if (sessions_[session].state != SessionState::gone) count_anew(session);
    }
}

void Core::Impl::count_anew(Index at) {
    free_slots(at);
    const Session& session = sessions_[at];
    attach(at, lane_of(lane_key(session)), session.path);
    const std::uint32_t candidate = session.pool != none ? session.candidate : session.group.front();
    const Path& path = paths_[session.path];
    const NameId local = path.hops[candidate].family == Family::local ? Names::empty : session.local(path.hops[candidate].family).address;
    take_slots(at, hold_buckets(lanes_[session.lane], values_of(lanes_[session.lane], path, candidate, local)));
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
    for (const Index session : all_sessions()) {
        for (const Index slot : sessions_[session].slots) close_excess(slots_[slot].bucket);
    }
    close_spent();
}

void Core::Impl::close_spent() {
    for (const Index session : all_sessions()) {
        if (sessions_[session].state == SessionState::idle && is_spent(sessions_[session])) close(session);
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
    }
    sorted_anew_ = ++era_;
    lane_sweep_.begin(lanes_.end());
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
    watch_ended_gates();
    ask_plugins();
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
