// What the core does by itself because of what hosts said.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {

// What an attempt says of hosts: to the rules, and to limits that move.
void Core::Impl::observe(const AttemptEnded& event, const Session& session) {
    const auto texts_at = [&](std::uint32_t candidate) {
        const Path& path = paths_[session.path];
        if (candidate >= path.hops.size()) candidate = session.pool != none ? session.candidate : session.group.front();
        const NameId local = session.local(path.hops[candidate].family).address;
        return texts_of(values_of(lanes_[session.lane], path, candidate, local));
    };
    const bool rules_listen = reactor_.has_rules() && (!event.failures.empty() || (event.delivered && reactor_.counts_rows()));
    if (rules_listen) {
        policy::Reactions reactions;
        for (const Failed& failed : event.failures) reactor_.failed(texts_at(failed.candidate), failed.what, now_, reactions);
        if (event.delivered) reactor_.delivered(texts_at(Failed::connected));
        carry_out(reactions);
    }
    const bool was_tried = event.verdict == AttemptEnded::Verdict::done || event.verdict == AttemptEnded::Verdict::deferred;
    if (warm_ups_.any() && was_tried) {
        policy::Reactions reactions;
        const bool objected = !event.delivered && !event.failures.empty();
        warm_ups_.tried(texts_at(Failed::connected), objected ? &event.failures.front().what : nullptr, now_, reactions);
        carry_out(reactions);
    }
    if (options_.policies == nullptr || !options_.policies->adapts) return;
    for (const Index slot : session.slots) {
        const Index bucket = slots_[slot].bucket;
        bool moved = event.delivered && buckets_.learn_delivered(bucket, now_);
        for (const Failed& failed : event.failures) moved = buckets_.learn_failed(bucket, failed.what.failure, now_) || moved;
        if (!moved) continue;
        tell_move(bucket);
        limits_moved(bucket);
    }
}

// Fields as they are, those that are known.
policy::FieldTexts Core::Impl::texts_of(const policy::FieldValues& values) const {
    policy::FieldTexts texts;
    for (std::size_t i = 0; i < policy::field_max; ++i) {
        const policy::Field field = static_cast<policy::Field>(i);
        if (policy::is_text(values[field])) texts.set(field, names_.text(NameId{values[field]}));
    }
    return texts;
}

void Core::Impl::carry_out(policy::Reactions& reactions) {
    for (policy::DynamicCondition& condition : reactions.set) {
        SetCondition event{std::move(condition), false};
        on(event);
    }
    for (std::string& id : reactions.removed) {
        RemoveCondition event{std::move(id), "the engine", "it is over"};
        on(event);
    }
    for (policy::Suspension& suspension : reactions.suspended) {
        SetSuspension event{std::move(suspension), false};
        on(event);
    }
    for (policy::Reaction& reaction : reactions.told) actions_->push_back(Reacted{std::move(reaction)});
}

void Core::Impl::react_in_time() {
    if (std::min(reactor_.next(), warm_ups_.next()) > now_) return;
    policy::Reactions reactions;
    reactor_.advance(now_, reactions);
    warm_ups_.advance(now_, reactions);
    carry_out(reactions);
    serve_all();
}

// The limits of this bucket are others now.
void Core::Impl::limits_moved(Index bucket) {
    close_excess(bucket);
    wheel_.cancel(timer_key(Timed::bucket, bucket));
    if (buckets_[bucket].waiting.count > 0) watch_time(bucket);
    offer(bucket);
    settle(bucket);
}

void Core::Impl::tell_move(Index bucket) {
    policy::Adapting& adapting = *buckets_[bucket].adapting;
    if (!adapting.is_news()) return;
    const policy::BucketKey& name = buckets_[bucket].name;
    const policy::Policy& policy = *buckets_.table().policies[name.policy];
    policy::Reaction reaction;
    reaction.by = "adaptive " + policy.name;
    for (std::size_t i = 0; i < policy.fields.size(); ++i) {
        const policy::Value value = name.values[i];
        if (i > 0) reaction.concerns += ", ";
        reaction.concerns += options_.policies->fields.name_of(policy.fields[i]) + " ";
        reaction.concerns += policy::is_text(value) ? std::string(names_.text(NameId{value})) : policy.group_text(i, value - policy::first_group_value);
    }
    if (policy.fields.empty()) reaction.concerns = "everything";
    reaction.what = adapting.text();
    actions_->push_back(Reacted{std::move(reaction)});
}

}  // namespace sluice::queue
