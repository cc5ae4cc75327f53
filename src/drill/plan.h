#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sluice::drill {

// How a host behaves in one connection.
enum class Mood : std::uint8_t {
    obedient,
    greylists,            // defers a recipient that it has not seen for some minutes
    tarpits,              // minutes for each reply
    resets_after_dot,     // takes the message, then the connection breaks before its reply
    resets_in_content,    // the connection breaks in the middle of the message
    closes_without_quit,  // after every message
    throttles,            // 421 after some messages
    refuses_at_dot,       // decides all at the final dot, for good or not
    refuses_some,         // decides some recipients for good, defers others
    lies_about_pipelining,// offers it, and forgets what came together with a command
    helo_only,
    broken_tls,           // offers STARTTLS, then speaks something else
    refuses_tls,          // offers STARTTLS, then 454
    expired_certificate,
    floods,               // replies of hundreds of lines
    bare_lf,              // ends the lines of its replies with LF
    never_reads,
    slow_octets,          // one octet a second
    drops_dot_reply,      // takes the message and never says so
    talks_nonsense,
    refuses_for_good,     // 554 greeting
    closes_at_once,
    unreachable,          // connecting takes for ever
    refuses_connections,
};
inline constexpr std::size_t mood_count = 24;
const char* name_of(Mood mood);

struct HostPlan {
    std::vector<Mood> moods{Mood::obedient};  // one is chosen for each connection
    std::uint32_t after = 3;                  // throttles
    bool pipelining = true, chunking = true, eight_bit = true, smtputf8 = true, size = true, dsn = true, starttls = false;
    bool ipv6 = false;
};

enum class DnsMood : std::uint8_t { fine, temporary, no_domain, flaky, silent, slow, changing };
const char* name_of(DnsMood mood);

struct DomainPlan {
    std::vector<std::pair<std::string, std::uint16_t>> mx;  // host and preference; none: the domain's own address
    DnsMood dns = DnsMood::fine;
    std::int64_t ttl_s = 300;
};

// A stream of messages from clients.
struct StreamPlan {
    std::vector<std::string> to;
    std::uint32_t messages = 10;
    double per_hour = 60;
    std::uint32_t recipients_max = 3;
    std::uint32_t bytes_max = 4'000;
    bool pipelining = false, chunking = false, starttls = false;
    bool injects = false;          // by the API instead of SMTP
    double aborts = 0;             // how often a client goes away in the middle
    double null_senders = 0;
    double wants_dsn = 0;          // how often NOTIFY is given
};

// What must have come out; what is not given is not checked.
struct Expectation {
    std::optional<std::uint64_t> delivered, bounced, duplicates_max, lives_min;
};

// A world to run the engine in. Value.
struct Plan {
    std::string title;
    Duration faults_for{24 * 3'600'000};  // afterwards everything heals, and the queue must drain
    std::map<std::string, HostPlan> hosts;
    std::map<std::string, DomainPlan> domains;
    std::vector<StreamPlan> streams;

    std::uint32_t shards = 1;
    std::uint32_t concurrency_max = 20, destination_concurrency = 5, messages_per_connection = 100;
    Duration lifetime{3 * 24 * 3'600'000LL};
    std::vector<Duration> intervals{Duration(60'000), Duration(600'000), Duration(3'600'000)};  // the last one repeats
    bool always_split = false, verify_tls = false;
    bool sync = true;  // false breaks the promise of durability: the judge must notice
    std::uint64_t segment_bytes = 128 << 10;
    std::uint64_t fresh_bytes_max = 1 << 20;

    // Troubles an hour.
    double kills = 0, power_cuts = 0, restarts = 0;
    double disk_errors = 0, sync_failures = 0, disk_full = 0, slow_disk = 0;
    double clock_jumps = 0, operators = 0, reconfigured = 0, link_resets = 0;
    std::int64_t latency_max_ms = 60;
    std::size_t read_bytes_max = 16 * 1024;
    Expectation expect;
};

// A scenario file; an error names the line and what was expected. Unknown keys are refused.
Result<Plan> parse_plan(const std::string& yaml);
// Makes a world up. Whole features are off in each, at random, so that none hides what another would find.
Plan random_plan(std::uint64_t seed);

}  // namespace sluice::drill
