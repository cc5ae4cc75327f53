// Conditions and suspensions that come and go while the core runs.

#include <algorithm>
#include <map>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// Lanes that waited for a suspension go on in steps, so that the end of a large one does not hold up everything else.
constexpr int starts_at_once = 500;
constexpr Duration next_step{1};

// When it is set now, and not found in the journal.
template <class What>
void begin_now(What& what, Instant now) {
    what.since = now;
    what.expires.reset();
    if (what.ttl.count() > 0) what.expires = now + what.ttl;
}

bool is_over(const policy::Suspension& suspension, Instant now) { return suspension.expires && now >= *suspension.expires; }

}  // namespace

// ---- conditions ------------------------------------------------------------------------------------------------

void Core::Impl::on(SetCondition& event) {
    if (!event.recorded) begin_now(event.condition, now_);
    const auto condition = std::make_shared<const policy::DynamicCondition>(std::move(event.condition));
    Conditions& conditions = buckets_.conditions();
    const Index old = conditions.find(condition->id);
    const ConditionPtr before = old != none ? conditions[old].what : nullptr;  // buckets refer to it until they look again
    std::vector<Index> concerned;
    if (old != none && conditions[old].buckets > 0) concerned = buckets_.concerned_by(*before);
    const Index at = buckets_.set_condition(condition);
    for (const Index bucket : buckets_.concerned_by(*conditions[at].what)) concerned.push_back(bucket);
    look_again(concerned);
    if (!condition->limits.transport.empty() || (before != nullptr && !before->limits.transport.empty())) look_at_everything();
    wheel_.cancel(timer_key(Timed::condition, at));
    if (condition->expires) wheel_.add(timer_key(Timed::condition, at), std::max(*condition->expires, now_ + next_step));
    if (event.recorded) {
        policy::Reactions reactions;
        if (!reactor_.adopt(*condition, now_, reactions)) warm_ups_.adopt(*condition, now_, reactions);
        return carry_out(reactions);
    }
    actions_->push_back(ConditionChanged{old != none ? Change::updated : Change::added, condition, condition->author, condition->reason});
}

void Core::Impl::on(RemoveCondition& event) {
    const Index at = buckets_.conditions().find(event.id);
    reactor_.forget(event.id);
    warm_ups_.forget(event.id);
    if (at != none) remove_condition(at, Change::removed, std::move(event.by), std::move(event.reason));
}

void Core::Impl::tend_condition(Index at) { remove_condition(at, Change::expired, {}, {}); }

void Core::Impl::remove_condition(Index at, Change change, std::string by, std::string reason) {
    Conditions& conditions = buckets_.conditions();
    ConditionPtr what = conditions[at].what;
    const std::vector<Index> concerned = conditions[at].buckets > 0 ? buckets_.concerned_by(*what) : std::vector<Index>();
    wheel_.cancel(timer_key(Timed::condition, at));
    conditions.detach(at);
    look_again(concerned);
    if (!what->limits.transport.empty()) look_at_everything();
    conditions.remove(at);
    actions_->push_back(ConditionChanged{change, std::move(what), std::move(by), std::move(reason)});
}

// Limits of these buckets may be others now.
void Core::Impl::look_again(const std::vector<Index>& buckets) {
    for (const Index bucket : buckets) {
        if (buckets_.contains(bucket) && buckets_.look_again(bucket, now_)) limits_moved(bucket);
    }
}

// ---- suspensions -----------------------------------------------------------------------------------------------

void Core::Impl::on(SetSuspension& event) {
    if (!event.recorded) begin_now(event.suspension, now_);
    const auto suspension = std::make_shared<const policy::Suspension>(std::move(event.suspension));
    const Index old = suspensions_.find(suspension->id);
    if (old != none) end_suspension(old);
    add_suspension(suspension, Origin::run_time);
    if (event.recorded) return;
    actions_->push_back(SuspensionChanged{old != none ? Change::updated : Change::added, suspension, suspension->author, suspension->reason});
}

void Core::Impl::on(RemoveSuspension& event) {
    const Index at = suspensions_.find(event.id);
    reactor_.forget(event.id);
    if (at == none) return;
    const bool recorded = suspensions_[at].origin == Origin::run_time;
    actions_->push_back(SuspensionChanged{Change::removed, suspensions_[at].what, std::move(event.by), std::move(event.reason), recorded});
    end_suspension(at);
}

Index Core::Impl::add_suspension(SuspensionPtr what, Origin origin) {
    policy::Match match = policy::renumbered(what->match, what->fields, fields_);
    const Index at = suspensions_.add(std::move(what), std::move(match), origin, now_);
    if (!told_apart_.includes(suspensions_[at].match.fields()) && settle_fields()) relane_all();
    watch_gate(at, is_over(*suspensions_[at].what, now_));
    return at;
}

void Core::Impl::end_suspension(Index at) {
    suspensions_.end(at);
    watch_gate(at, true);
}

// Its time has come: it begins or ends to be in force, or lanes that waited go on.
void Core::Impl::tend_gate(Index at) {
    const Gate& gate = suspensions_[at];
    // What the file says stays, over or not, as long as it says so.
    if (!gate.ended && gate.origin != Origin::file && is_over(*gate.what, now_)) {
        actions_->push_back(SuspensionChanged{Change::expired, gate.what, {}, {}});
        suspensions_.end(at);
    }
    suspensions_.look_again(at, now_);
    if (!gate.in_force) let_lanes_go_on(at);
    if (gate.ended && gate.waiting.count == 0) {
        wheel_.cancel(timer_key(Timed::gate, at));
        return suspensions_.remove(at);
    }
    watch_gate(at, !gate.in_force && gate.waiting.count > 0);
}

void Core::Impl::let_lanes_go_on(Index at) {
    for (int left = starts_at_once; left > 0 && suspensions_[at].waiting.count > 0 && !options_.disabled; --left) {
        start_head(waiters_[waiters_.first(suspensions_[at].waiting)].lane);
    }
}

void Core::Impl::watch_gate(Index at, bool soon) {
    const Gate& gate = suspensions_[at];
    const Index timer = timer_key(Timed::gate, at);
    wheel_.cancel(timer);
    // Where nothing may start the lanes are run when it may again.
    if (soon && (!options_.disabled || gate.waiting.count == 0)) return wheel_.add(timer, now_ + next_step);
    const std::optional<Instant> change = gate.ended ? std::nullopt : gate.what->next_change(now_);
    if (change) wheel_.add(timer, *change);
}

// Those that ended while nothing was allowed to start were not watched.
void Core::Impl::watch_ended_gates() {
    for (Index at = 0; at < suspensions_.end(); ++at) {
        if (!suspensions_.contains(at) || suspensions_[at].in_force) continue;
        if (suspensions_[at].ended || suspensions_[at].waiting.count > 0) watch_gate(at, true);
    }
}

// What depends on the time at which the core begins.
void Core::Impl::begin() {
    began_ = true;
    policy::Reactions nothing;
    reactor_.configure(options_.policies, now_, nothing);
    warm_ups_.configure(options_.policies, now_, nothing);
    apply_suspensions();
    if (options_.suspensions == nullptr || !options_.suspensions->start_suspended) return;
    policy::Suspension everything;
    everything.id = start_suspension;
    everything.since = now_;
    everything.reason = "suspend.yaml says start_suspended";
    add_suspension(std::make_shared<const policy::Suspension>(std::move(everything)), Origin::start);
}

// Those of the file: what still stands there as it was stays, with the end that it had.
void Core::Impl::apply_suspensions() {
    static const std::vector<policy::Suspension> nothing;
    const std::vector<policy::Suspension>& wanted = options_.suspensions != nullptr ? options_.suspensions->suspensions : nothing;
    std::map<std::string, Index> there;
    for (Index at = 0; at < suspensions_.end(); ++at) {
        if (!suspensions_.contains(at) || suspensions_[at].ended || suspensions_[at].origin != Origin::file) continue;
        policy::Suspension said = *suspensions_[at].what;
        said.since = {};
        said.expires.reset();
        there[policy::record_of(said)] = at;
    }
    for (const policy::Suspension& suspension : wanted) {
        const auto same = there.find(policy::record_of(suspension));
        if (same != there.end()) {
            there.erase(same);
            continue;
        }
        policy::Suspension made = suspension;
        begin_now(made, now_);
        add_suspension(std::make_shared<const policy::Suspension>(std::move(made)), Origin::file);
    }
    for (const auto& [text, gate] : there) end_suspension(gate);
}

}  // namespace sluice::queue
