#include "delivery/hearing.h"

#include <algorithm>
#include <utility>

namespace sluice::delivery {
namespace {

// Without composing anything: no notification is possible where this says so.
bool may_notify(const Attempted& attempted, bool all_delivered) {
    if (attempted.message->envelope.reverse_path.is_null()) return false;
    if (!all_delivered) return true;
    const auto wants_success = [&](std::uint32_t recipient) {
        return (attempted.message->envelope.recipients[recipient].notify & mail::notify_success) != 0;
    };
    return std::any_of(attempted.recipients.begin(), attempted.recipients.end(), wants_success);
}

Task<> hear_deferral(Hooks& hooks, const Hearing& about, Instant now, Instant end, Wishes& wishes) {
    const AfterDeferral answer = co_await hooks.deferred(about);
    if (answer.what == AfterDeferral::What::later) {
        wishes.next = answer.delay < end - now ? now + answer.delay : std::max(end, now);
    }
    wishes.dropped = answer.removed;
    wishes.dropped_by = answer.removed_by;
    if (answer.what == AfterDeferral::What::drop) {
        wishes.dropped.assign(about.places.begin(), about.places.end());
        wishes.dropped_by = answer.by;
    }
}

}  // namespace

bool must_hear(const Hooks* hooks, const Attempted& attempted) {
    if (hooks == nullptr) return false;
    const bool notifications = hooks->wants_notifications();
    if (!notifications && !hooks->wants(Hook::deferred) && !hooks->wants(Hook::bounce)) return false;
    const bool all_delivered = std::all_of(
        attempted.verdicts.begin(), attempted.verdicts.end(), [](const auto& verdict) { return verdict->positive(); });
    if (!all_delivered && (hooks->wants(Hook::deferred) || hooks->wants(Hook::bounce))) return true;
    return notifications && may_notify(attempted, all_delivered);
}

Task<Wishes> hear(
    Hooks& hooks, Settlement& settlement, const Attempted& attempted, const config::Settings& settings,
    const Clock& clock) {
    Wishes wishes;
    const Instant now = clock.now();
    const Duration since_arrival = now - attempted.work.arrival;
    const Prospect prospect = settlement.foresee(attempted, settings, now);
    if (prospect.goes_on) co_return wishes;
    wishes.recorded = settlement.record_early(attempted, prospect.delivered, now);
    wishes.asked_at = now;
    if (!prospect.deferred.empty()) wishes.next = prospect.next;
    if (!prospect.deferred.empty() && hooks.wants(Hook::deferred)) {
        const Hearing about{attempted, prospect.deferred, prospect.next - now, since_arrival};
        const Instant end = given_up_at(attempted.work, *attempted.message, settings, attempted.how);
        co_await hear_deferral(hooks, about, now, end, wishes);
    }
    std::optional<Bounce> notification = settlement.draft(attempted, settings, wishes);
    if (!prospect.failed.empty() && hooks.wants(Hook::bounce)) {
        Hearing about{attempted, prospect.failed, Duration(0), since_arrival};
        if (notification) about.notification = notification->message;
        AfterBounce answer = co_await hooks.bounce(about);
        wishes.silenced_by = std::move(answer.silenced_by);
        // Others may still be told of something: a delay, say.
        if (wishes.silenced_by) notification = settlement.draft(attempted, settings, wishes);
        else if (notification && answer.notification) notification->become(std::move(answer.notification));
    }
    if (notification && hooks.wants_notifications()) {
        mail::MessagePtr changed = co_await hooks.notification(notification->message);
        notification->become(std::move(changed));
    }
    wishes.notification = std::move(notification);
    co_return wishes;
}

}  // namespace sluice::delivery
