#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/problem.h"
#include "delivery/disposition.h"
#include "mail/message.h"
#include "policy/pattern.h"

namespace sluice::sim {

// Every value between two is as likely. Value.
struct Span {
    double least = 0, most = 0;
};

// What a receiver says instead of taking a message, and when. Value.
struct ReplyRule {
    enum class When : std::uint8_t {
        share,             // by chance
        sessions,          // more than `count` sessions are open
        rate,              // more than `count` messages came within `in`
        session_messages,  // the session has carried `count` messages
        greylist,          // the message was first seen less than `wait` ago
    };
    enum class Per : std::uint8_t { receiver, source, address };  // whose sessions and messages are counted; address: of the receiver

    std::uint32_t id = 0;  // among all rules of the traffic
    When when = When::share;
    Per per = Per::receiver;
    double share = 1;
    std::uint32_t count = 0;
    Duration in{1'000};
    Duration wait{0};
    Duration block_for{0};       // once it was said, it is said to all that are counted there for so long
    delivery::Verdict answer;
    std::string text;            // as written
};

// How the hosts of a receiver behave at some time. Value.
struct Behaviour {
    bool unreachable = false;
    Span connect{0.03, 0.1}, message{0.1, 0.4};  // seconds
    std::uint32_t sessions_max = 0;              // further ones are refused by the network; 0: no limit
    double messages_per_second = 0;              // does not take them faster: they wait; 0: no limit
    std::vector<ReplyRule> replies;              // the first that applies decides
};

// Hosts that belong together, and whose mail they take. Value.
struct Receiver {
    struct Window {
        Duration from{0}, until{0};  // since the beginning
        Behaviour behaviour;
    };
    std::string name;
    std::vector<std::pair<std::string, std::uint32_t>> mx;  // host and level; `{domain}` in a name stands for the domain, `{label}` with dashes for dots
    std::vector<std::string> addresses;                     // each host has all of them; empty: addresses are made up
    std::uint32_t address_count = 1;                        // so many for each host
    Duration ttl{3'600'000};
    Behaviour usual;
    std::vector<Window> during;

    const Behaviour& behaviour(Duration since_begin) const;
};

// Mail of one kind. Value.
struct Source {
    std::string tenant, job, transport, sender_domain;
    std::vector<mail::Mark> marks;  // notes and header fields
    std::uint8_t priority = 4;
    Span size{5'000, 50'000};                               // octets
    std::uint64_t messages = 0;
    std::vector<double> minutes;                            // how busy each minute of a day is, in any unit
    std::vector<std::pair<std::uint32_t, double>> to;       // domain, and its part of the mail
};

// One message for one domain. Value.
struct Arrival {
    Duration at{0};  // since the beginning
    std::uint32_t tenant = 0, domain = 0;
    std::uint32_t source = 0;  // of the traffic's sources, unless it is recorded
    std::uint32_t size = 0;
    std::uint8_t priority = 4;
};

// What is sent, and to whom. Value.
struct Traffic {
    std::string title;
    Instant begin;                  // a midnight, so that times read like times of a day
    Duration lasts{24 * 3'600'000};
    Duration drains{24 * 3'600'000};  // afterwards, at most
    std::vector<std::string> domains;
    std::vector<std::uint32_t> receiver_of;  // by domain
    std::vector<Receiver> receivers;
    std::vector<Source> sources;
    std::vector<std::string> tenants;
    std::vector<Arrival> recorded;  // by time; instead of sources
    std::vector<std::string> notes; // what the reader of a report should know

    std::uint32_t tenant(const std::string& name);
    std::uint64_t messages() const;
};

// A file as docs/reference/simulate.md describes it. Nothing exactly when a problem is an error.
std::optional<Traffic> parse_traffic(std::string_view text, const std::string& file, Problems& problems);
// Only the receivers of such a file, for recorded mail.
bool parse_receivers(std::string_view text, const std::string& file, Traffic& traffic, Problems& problems);

// What `events.jsonl` tells of mail: when it came, from whom, for whom; and of the hosts: how quick they were and how often they deferred
// or refused. Nothing exactly when a problem is an error.
std::optional<Traffic> parse_recording(std::string_view text, const std::string& file, Problems& problems);

}  // namespace sluice::sim
