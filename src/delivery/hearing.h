#pragma once

#include <optional>
#include <string>

#include "config/settings.h"
#include "delivery/hooks.h"
#include "delivery/settlement.h"

namespace sluice::delivery {

// Whether plugins have to be heard about this attempt before it is settled.
bool must_hear(const Hooks* hooks, const Attempted& attempted);

// Asks the plugins what is to become of recipients that were deferred or refused, and of what their sender is told.
// `attempted` and `settings` live until it returns.
Task<Wishes> hear(
    Hooks& hooks, Settlement& settlement, const Attempted& attempted, const config::Settings& settings,
    const Clock& clock);

}  // namespace sluice::delivery
