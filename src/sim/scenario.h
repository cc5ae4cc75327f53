#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "policy/policy_set.h"
#include "queue/core.h"

namespace sluice::sim {

// How a host behaves.
enum class Mood : std::uint8_t {
    obedient,
    greylists,           // defers what it has not seen for some minutes
    throttles,           // 421 after `after` messages of a session
    dead,                // does not answer
    tarpits,             // minutes for a message
    closes_each,         // closes after every message
    rejects_some,        // decides some for good, defers others
    refuses_for_good,    // 5yz greeting
    drops_idle,          // ends idle sessions, now and then just when the next message comes
};
struct Host {
    Mood mood = Mood::obedient;
    std::uint32_t after = 3;
};

enum class DnsMood : std::uint8_t { fine, temporary, no_domain, flaky };
struct Domain {
    std::vector<std::pair<std::string, std::uint32_t>> mx;  // host and level
    Duration ttl{300'000};
    DnsMood dns = DnsMood::fine;
};

// A steady stream of items.
struct Stream {
    std::vector<std::string> to;
    std::uint32_t items = 0;
    double per_second = 10;
    std::string tenant, job, transport;
    std::string sender_domain, list;  // the second as header field List-Id
    std::uint8_t priority = 4;
    std::chrono::seconds lifetime{0};
    bool varied = false;  // jobs, transports, senders, notes and header fields by chance
};

// What must have come out; what is not given is not checked.
struct Expectation {
    std::optional<std::uint64_t> delivered, failed, removed;
    std::optional<std::uint64_t> duplicated_max;    // attempts cut short by a crash
    std::optional<std::uint64_t> passed_over_max;   // starts of other tenants while one waited for the same domain
    std::map<std::string, Duration> waited_max;     // by domain: ready until the first attempt
};

// A world to run the core in. Value.
struct Scenario {
    std::string title;
    Duration faults_for{3'600'000};  // afterwards everything heals, and the queue must drain
    queue::Options core;
    std::map<std::string, Host> hosts;
    std::map<std::string, Domain> domains;
    std::vector<Stream> workload;
    double operator_per_hour = 0;
    double reconfigured_per_hour = 0;
    double crashes_per_hour = 0;
    Expectation expect;
};

// A scenario file; an error names the line and what was expected. Unknown keys are refused.
Result<Scenario> parse_scenario(const std::string& yaml);
// Makes a world up.
Scenario random_scenario(std::uint64_t seed);
// Addresses for some of the transports "transport0" .. "transport2".
std::vector<policy::LocalPool> random_transports(Random& random);
// One that is short and busy, where policies are what matters, and change.
Scenario random_policy_scenario(std::uint64_t seed);

}  // namespace sluice::sim
