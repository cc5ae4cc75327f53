#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/problem.h"
#include "policy/cron.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// Nothing starts that matches it, as long as it is in force. Value.
struct Suspension {
    std::string id;
    Match match;  // empty: everything
    std::string tag, author, reason;
    Properties properties;
    std::optional<Instant> expires;
    std::uint32_t per_mille = 1'000;     // of the messages, chosen by their hash: a leak lets the others through
    std::vector<Cron> during;            // in force only in these minutes; empty: always
    bool new_connections_only = false;   // sessions that are open go on

    bool is_in_force(Instant now) const;
    // When is_in_force() may change next; nothing when it never does.
    std::optional<Instant> next_change(Instant after) const;
    // Of the messages with this hash; the same message has the same answer every time.
    bool takes(std::uint64_t hash) const { return hash % 1'000 < per_mille; }
    bool stops(const FieldTexts& texts, std::uint64_t hash, bool new_connection, Instant now) const {
        return (new_connection || !new_connections_only) && takes(hash) && is_in_force(now) && match.holds(texts);
    }
};

// All of suspend.yaml. Immutable.
struct SuspensionFile {
    FieldTable fields;  // those of the policy set, and more
    std::vector<Suspension> suspensions;
    bool start_suspended = false;  // everything, from the start of the engine until an operator resumes it
};

// `set` has the lists that patterns refer to. Times to live count from `now`. Nothing exactly when a problem is an error.
std::optional<SuspensionFile> parse_suspensions(std::string_view text, const std::string& file, const PolicySet& set, Instant now,
                                                Problems& problems);

}  // namespace sluice::policy
