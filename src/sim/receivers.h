#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "queue/route.h"
#include "sim/traffic.h"

namespace sluice::sim {

// The described receivers at work: they count as receivers do, and answer by their rules. What is left to chance depends only on
// the seed and the message, so that two policies meet the same internet. One thread.
class Receivers {
public:
    // What one receiver saw. Value.
    struct Seen {
        std::uint32_t sessions = 0, sessions_peak = 0;
        std::uint64_t connections = 0, refused_connections = 0, messages = 0;
        std::uint64_t minute_peak = 0;                       // messages taken in a minute of the clock
        std::map<std::string, std::uint64_t> answers;        // how often each was given instead
        std::int64_t minute = -1;
        std::uint64_t in_minute = 0;
    };
    // A session with a host.
    struct Link {
        std::uint32_t domain = 0, address = 0, source = 0;
        std::uint32_t messages = 0;
        bool counted = false;  // the host counts it as open
    };
    // What came of knocking or sending. `answer` null: they took it.
    struct Outcome {
        Duration after{0};
        const delivery::Verdict* answer = nullptr;
    };

    Receivers(const Traffic& traffic, std::uint64_t seed);

    queue::RoutePtr route(std::uint32_t domain, Instant now);
    std::uint32_t address(std::uint32_t domain, std::uint32_t candidate) const { return sites_[domain].addresses[candidate]; }
    // A number for one of our own addresses.
    std::uint32_t source(const std::string& bind);

    // The outcomes come after as long as they take; what is counted is counted at once.
    Outcome connect(Link& link, std::uint64_t message, std::uint32_t attempts, Instant now, const config::OutboundSettings& patience);
    Outcome transact(Link& link, std::uint64_t message, std::uint32_t attempts, Instant now, const config::OutboundSettings& patience);
    void close(Link& link);

    const std::vector<Seen>& seen() const { return seen_; }

private:
    struct Site {
        std::vector<std::uint32_t> addresses;  // by candidate
        queue::Route route;
    };
    // What a rule counts for one source, address or everything.
    struct Counter {
        std::deque<Instant> times;
        Instant blocked_until;
    };
    Site make_site(std::uint32_t domain);
    void add_host(Site& site, const Receiver& receiver, const std::string& host, std::uint32_t level);
    const ReplyRule* answer(const Behaviour& behaviour, bool connecting, Link& link, std::uint64_t message, std::uint32_t attempts, Instant now);
    bool applies(const ReplyRule& rule, const Link& link, std::uint64_t message, std::uint32_t attempts, Instant now);
    bool is_over_rate(const ReplyRule& rule, Counter& counter, Instant now);
    std::uint64_t scope(const ReplyRule& rule, const Link& link) const;
    std::uint32_t& open(ReplyRule::Per per, const Link& link);
    void count(const Link& link, std::int32_t by);
    Random chance(std::uint64_t message, std::uint64_t purpose) const;
    static Duration within(Span span, Random& random);
    std::uint32_t receiver_of(const Link& link) const { return traffic_.receiver_of[link.domain]; }

    const Traffic& traffic_;
    std::uint64_t seed_;
    std::vector<Site> sites_;  // by domain
    absl::flat_hash_map<std::string, std::uint32_t> address_numbers_;  // by host and text
    std::uint32_t made_up_ = 0;
    absl::flat_hash_map<std::string, std::vector<std::string>> host_addresses_;
    absl::flat_hash_map<std::string, std::uint32_t> sources_;
    absl::flat_hash_map<std::uint64_t, Counter> counters_;
    absl::flat_hash_map<std::uint64_t, std::uint32_t> open_;
    absl::flat_hash_map<std::uint64_t, Instant> first_seen_;  // greylisted messages
    std::vector<double> busy_until_ms_;                       // by receiver
    std::vector<Seen> seen_;
};

}  // namespace sluice::sim
