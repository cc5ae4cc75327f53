#pragma once

#include <cstdint>
#include <memory>
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
    int line = 0;        // of the file; 0: added while the engine runs
    Match match;         // empty: everything
    FieldTable fields;   // what the numbers of fields mean
    std::string tag, author, reason;
    Properties properties;
    Duration ttl{0};     // from the moment at which it is set; 0: no end
    Instant since;
    std::optional<Instant> expires;
    std::uint32_t per_mille = 1'000;     // of the messages, chosen by their hash: a leak lets the others through
    std::vector<Cron> during;            // in force only in these minutes; empty: always
    bool new_connections_only = false;   // sessions that are open go on

    bool is_in_force(Instant now) const;
    // When is_in_force() may change next; nothing when it never does.
    std::optional<Instant> next_change(Instant after) const;
    // Of the messages with this hash; the same message has the same answer every time.
    bool takes(std::uint64_t hash) const { return part_of(hash) < per_mille; }
    static std::uint32_t part_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash % 1'000); }
    bool stops(const FieldTexts& texts, std::uint64_t hash, bool new_connection, Instant now) const {
        return (new_connection || !new_connections_only) && takes(hash) && is_in_force(now) && match.holds(texts);
    }
};

// What decides whether a percentage takes a message: spreads the numbers of messages evenly, and is the same after a restart.
std::uint64_t leak_hash(std::uint64_t message);
// Both stop the same deliveries while they are in force: to say a thing twice is to say it once.
bool says_the_same(const Suspension& a, const Suspension& b);

// All of suspend.yaml. Immutable.
struct SuspensionFile {
    std::vector<Suspension> suspensions;  // each has an id
    bool start_suspended = false;  // everything, from the start of the engine until an operator resumes it
    std::string text;  // what is said, to tell whether it changed

    friend bool operator==(const SuspensionFile& a, const SuspensionFile& b) { return a.text == b.text; }
};
using SuspensionFilePtr = std::shared_ptr<const SuspensionFile>;

// `set` has the lists that patterns refer to. Null exactly when a problem is an error.
SuspensionFilePtr parse_suspensions(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems);
// What a person or program asks for: one entry as a map in JSON or YAML.
std::optional<Suspension> parse_suspension(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems);

// All of a suspension as one line of JSON that needs no policy file to be understood; and back.
std::string record_of(const Suspension& suspension);
std::optional<Suspension> parse_suspension_record(std::string_view text, const std::string& file, Problems& problems);

}  // namespace sluice::policy
