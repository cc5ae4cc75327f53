#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/receivers.h"

namespace sluice::sim {

// Durations, each kept to about one part in a hundred. Value.
class Histogram {
public:
    void add(Duration value);
    std::uint64_t count() const { return count_; }
    // So long, or less, took this part of all; 0 when there are none.
    Duration quantile(double part) const;

private:
    std::vector<std::uint32_t> counts_;
    std::uint64_t count_ = 0;
};

// What became of the mail of one tenant, to one receiver, or of all. Value.
struct Tally {
    std::string name;
    std::uint64_t accepted = 0, delivered = 0, bounced = 0, expired = 0;
    std::uint64_t deferrals = 0;  // attempts that ended so
    Histogram latency;            // from acceptance to delivery

    std::uint64_t queued() const { return accepted - delivered - bounced - expired; }
};

// The queue over a stretch of time that ends at `at`. Value.
struct Shape {
    Duration at{0};
    std::uint64_t accepted = 0, delivered = 0, deferrals = 0;  // within it
    std::uint64_t ready = 0, scheduled = 0, sending = 0, sessions = 0;  // at its end
    std::vector<std::uint64_t> queued;  // by tenant, at its end
};

// A limit for which mail waited. Value.
struct Bound {
    std::string policy, bucket;  // bucket: empty for all of the policy
    std::string limits;
    std::string lack;            // what was mostly missing
    Duration blocked{0};         // so long something waited there
    double waiting_mean = 0;     // messages, while something waited
    std::uint64_t waiting_peak = 0;
    double message_seconds = 0;  // how many waited, times how long
};

// What a rehearsal found. Value.
struct Rehearsed {
    std::string label;
    std::uint64_t seed = 0;
    Duration lasted{0};
    Tally all;
    std::vector<Tally> tenants, receivers;
    std::vector<Receivers::Seen> seen;  // by receiver
    std::vector<Shape> shapes;
    std::vector<Bound> policies, buckets;  // those for which most mail waited longest come first
    std::uint64_t attempts = 0, connections = 0;
    std::uint64_t sessions_peak = 0, queued_peak = 0, minute_peak = 0;
};

// One run, or two beside each other.
std::string report_text(const Traffic& traffic, const std::vector<Rehearsed>& runs);
boost::json::value report_json(const Traffic& traffic, const std::vector<Rehearsed>& runs);

}  // namespace sluice::sim
