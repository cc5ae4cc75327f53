#include "daemon/policy_desk.h"

#include <functional>
#include <utility>

#include "daemon/core_question.h"
#include "daemon/engine.h"

namespace sluice::daemon {
namespace {

constexpr std::size_t listed_max = 10'000;

tl::unexpected<Error> refusal(const Problems& problems) {
    std::string text;
    for (const Problem& problem : problems.all()) {
        if (problem.severity != Severity::error) continue;
        text += (text.empty() ? "" : "; ") + problem.message;
        if (!problem.suggestion.empty()) text += " (did you mean `" + problem.suggestion + "`?)";
    }
    return fail(Errc::bad_input, std::move(text));
}

queue::SetCondition event_of(policy::DynamicCondition condition) { return {std::move(condition)}; }
queue::SetSuspension event_of(policy::Suspension suspension) { return {std::move(suspension)}; }

// What the core knows of an id.
enum class Known { nothing, of_file, removable };

Known known_condition(const queue::Core& core, const std::string& id) {
    Known known = Known::nothing;
    core.each_condition([&](const queue::ConditionView& view) {
        if (view.condition.id == id) known = Known::removable;
    });
    return known;
}

Known known_suspension(const queue::Core& core, const std::string& id) {
    Known known = Known::nothing;
    core.each_suspension([&](const queue::SuspensionView& view) {
        if (view.suspension.id == id && known != Known::removable) known = view.of_file ? Known::of_file : Known::removable;
    });
    return known;
}

Known known_by(const queue::Core& core, const policy::DynamicCondition& condition) { return known_condition(core, condition.id); }
Known known_by(const queue::Core& core, const policy::Suspension& suspension) { return known_suspension(core, suspension.id); }

}  // namespace

PolicyDesk::PolicyDesk(Engine& engine, async::Executor executor, SpoolAcceptance& acceptance)
    : engine_(engine), executor_(executor), acceptance_(acceptance) {}

policy::PolicySetPtr PolicyDesk::policies() const {
    const policy::PolicySetPtr policies = engine_.settings()->policies;
    return policies != nullptr ? policies : std::make_shared<const policy::PolicySet>();
}

Task<Result<control::PolicyReply>> PolicyDesk::set_condition(std::string json, bool dry_run) {
    Problems problems;
    const policy::PolicySetPtr set_of_file = policies();
    std::optional<policy::DynamicCondition> condition = policy::parse_condition(json, "condition", *set_of_file, problems);
    if (!condition) co_return refusal(problems);
    co_return co_await set(std::move(*condition), dry_run);
}

Task<Result<control::PolicyReply>> PolicyDesk::set_suspension(std::string json, bool dry_run) {
    Problems problems;
    const policy::PolicySetPtr set_of_file = policies();
    std::optional<policy::Suspension> suspension = policy::parse_suspension(json, "suspension", *set_of_file, problems);
    if (problems.any_error()) co_return refusal(problems);
    if (suspension->id == queue::start_suspension) co_return fail(Errc::bad_input, "id: this one is taken");
    co_return co_await set(std::move(*suspension), dry_run);
}

// Without an id, what says the same is renewed; or else it gets one.
template <class What>
Task<Result<control::PolicyReply>> PolicyDesk::set(What what, bool dry_run) {
    control::PolicyReply reply;
    if (dry_run) {
        std::function<queue::Reach(const queue::Core&)> question = [&what](const queue::Core& core) { return core.reach_of(what); };
        reply.reach = co_await ask<queue::Reach>(engine_.machinery_->core(), executor_, std::move(question));
        co_return reply;
    }
    std::function<bool(const queue::Core&)> question = [&what](const queue::Core& core) {
        if (what.id.empty()) what.id = core.same_as(what);
        return !what.id.empty() && known_by(core, what) == Known::removable;
    };
    reply.updated = co_await ask<bool>(engine_.machinery_->core(), executor_, std::move(question));
    if (what.id.empty()) what.id = engine_.machinery_->ids().next().text();
    reply.id = what.id;
    queue::Event event = event_of(std::move(what));
    CO_TRY_VOID(co_await tell(std::move(event)));
    co_return reply;
}

Task<Result<>> PolicyDesk::remove_condition(control::PolicyRemoval removal) {
    std::function<Known(const queue::Core&)> question = [&removal](const queue::Core& core) { return known_condition(core, removal.id); };
    const Known known = co_await ask<Known>(engine_.machinery_->core(), executor_, std::move(question));
    if (known == Known::nothing) co_return fail(Errc::not_found, "no condition has the id `" + removal.id + "`");
    queue::Event event = queue::RemoveCondition{std::move(removal.id), std::move(removal.author), std::move(removal.reason)};
    co_return co_await tell(std::move(event));
}

Task<Result<>> PolicyDesk::remove_suspension(control::PolicyRemoval removal) {
    std::function<Known(const queue::Core&)> question = [&removal](const queue::Core& core) { return known_suspension(core, removal.id); };
    const Known known = co_await ask<Known>(engine_.machinery_->core(), executor_, std::move(question));
    if (known == Known::of_file) co_return fail(Errc::bad_input, "`" + removal.id + "` stands in suspend.yaml; it ends when it is taken out there");
    if (known == Known::nothing) {
        const bool resumes = removal.id == queue::start_suspension;
        co_return fail(Errc::not_found, resumes ? "the engine is not suspended since its start" : "no suspension has the id `" + removal.id + "`");
    }
    queue::Event event = queue::RemoveSuspension{std::move(removal.id), std::move(removal.author), std::move(removal.reason)};
    co_return co_await tell(std::move(event));
}

// Returns when the core has taken the event, and a crash would not undo it.
Task<Result<>> PolicyDesk::tell(queue::Event event) {
    engine_.machinery_->core().push(std::move(event));
    std::function<bool(const queue::Core&)> barrier = [](const queue::Core&) { return true; };
    co_await ask<bool>(engine_.machinery_->core(), executor_, std::move(barrier));
    co_return co_await acceptance_.durable();
}

Task<control::PolicyList<control::ConditionDetail>> PolicyDesk::conditions() {
    using List = control::PolicyList<control::ConditionDetail>;
    std::function<List(const queue::Core&)> question = [this](const queue::Core& core) {
        List list;
        const Clock& clock = engine_.machinery_->clock();
        core.each_condition([&](const queue::ConditionView& view) {
            if (++list.total > listed_max) return;
            control::ConditionDetail detail;
            detail.what = view.condition;
            detail.since_ms = clock.wall_ms(view.condition.since);
            if (view.condition.expires) detail.expires_ms = clock.wall_ms(*view.condition.expires);
            detail.idle = view.idle;
            detail.buckets = view.buckets;
            list.entries.push_back(std::move(detail));
        });
        return list;
    };
    co_return co_await ask<List>(engine_.machinery_->core(), executor_, std::move(question));
}

Task<control::PolicyList<control::SuspensionDetail>> PolicyDesk::suspensions() {
    using List = control::PolicyList<control::SuspensionDetail>;
    std::function<List(const queue::Core&)> question = [this](const queue::Core& core) {
        List list;
        const Clock& clock = engine_.machinery_->clock();
        core.each_suspension([&](const queue::SuspensionView& view) {
            if (++list.total > listed_max) return;
            control::SuspensionDetail detail;
            detail.what = view.suspension;
            detail.since_ms = clock.wall_ms(view.suspension.since);
            if (view.suspension.expires) detail.expires_ms = clock.wall_ms(*view.suspension.expires);
            detail.of_file = view.of_file;
            detail.in_force = view.in_force;
            detail.lanes = view.lanes;
            list.entries.push_back(std::move(detail));
        });
        return list;
    };
    co_return co_await ask<List>(engine_.machinery_->core(), executor_, std::move(question));
}

}  // namespace sluice::daemon
