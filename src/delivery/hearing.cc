#include "delivery/hearing.h"

#include <algorithm>

namespace sluice::delivery {

bool must_hear(const Hooks* hooks, const Attempted& attempted) {
    if (hooks == nullptr || (!hooks->wants(Hook::deferred) && !hooks->wants(Hook::bounce))) return false;
    return !std::all_of(attempted.verdicts.begin(), attempted.verdicts.end(), [](const auto& verdict) {
        return verdict->positive();
    });
}

Task<Wishes> hear(
    Hooks& hooks, Settlement& settlement, const Attempted& attempted, const config::Settings& settings,
    const Clock& clock) {
    Wishes wishes;
    const Instant now = clock.now();
    const Duration since_arrival = now - attempted.work.arrival;
    const Prospect prospect = settlement.foresee(attempted, settings);
    if (prospect.goes_on) co_return wishes;
    if (!prospect.deferred.empty()) wishes.next = prospect.next;
    if (!prospect.deferred.empty() && hooks.wants(Hook::deferred)) {
        const Hearing about{attempted, prospect.deferred, prospect.next - now, since_arrival};
        const AfterDeferral answer = co_await hooks.deferred(about);
        const Instant end = given_up_at(attempted.work, *attempted.message, settings, attempted.how);
        if (answer.what == AfterDeferral::What::later) {
            wishes.next = answer.delay < end - now ? now + answer.delay : std::max(end, now);
        }
        wishes.dropped = answer.removed;
        wishes.dropped_by = answer.removed_by;
        if (answer.what == AfterDeferral::What::drop) {
            wishes.dropped = prospect.deferred;
            wishes.dropped_by = answer.by;
        }
    }
    if (!prospect.failed.empty() && hooks.wants(Hook::bounce)) {
        const Hearing about{attempted, prospect.failed, Duration(0), since_arrival};
        wishes.silenced_by = co_await hooks.bounce(about);
    }
    co_return wishes;
}

}  // namespace sluice::delivery
