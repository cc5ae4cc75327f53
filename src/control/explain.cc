#include "control/explain.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/assert.h"
#include "base/clock.h"
#include "control/json.h"
#include "queue/filter.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

using queue::BucketView;
using queue::CandidateView;
using queue::Explanation;
using queue::Refusal;

constexpr std::size_t tries_shown = 5;

std::string count_of(std::uint64_t count, const std::string& thing) {
    return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

// "2026-11-21T10:00:00.000Z (in 5m)"; now and the past are "now".
std::string when(Instant at, const WallTime& time) {
    if (at <= time.now) return "now";
    return "at " + rfc3339(time.ms(at)) + " (in " + queue::duration_text(at - time.now + Duration(999)) + ")";
}

std::string sessions_of(const BucketView& bucket) {
    const std::uint32_t limit = bucket.limits.concurrency;
    std::string out = limit == 0 ? count_of(bucket.used, "session") + " in use"
                                 : std::to_string(bucket.used) + " of " + count_of(limit, "session") + " in use";
    if (bucket.idle > 0) out += ", " + std::to_string(bucket.idle) + " idle";
    if (bucket.closing > 0) out += ", " + std::to_string(bucket.closing) + " closing";
    return out;
}

const char* reason_of(Refusal refusal) {
    switch (refusal) {
        case Refusal::none: return "has room";
        case Refusal::slots: return "all its sessions are taken";
        case Refusal::rate: return "its rate is used up";
        case Refusal::connect_interval: return "its last connection was opened too short a time ago";
    }
    UNREACHABLE();
}

const char* name_of(Refusal refusal) {
    switch (refusal) {
        case Refusal::none: return "none";
        case Refusal::slots: return "concurrency";
        case Refusal::rate: return "rate";
        case Refusal::connect_interval: return "connectinterval";
    }
    UNREACHABLE();
}

std::string limits_sentence(const BucketView& bucket) {
    if (bucket.skipped) return "not counted: " + bucket.limits_from;
    return bucket.limits.text() + " (" + bucket.limits_from + ")";
}

// "bucket gsuite[...]: 10 sessions, 50 per second (policy.yaml line 12); 10 of 10 sessions in use; 3 lanes wait there".
std::string bucket_sentence(const BucketView& bucket, const WallTime& time) {
    std::string out = "bucket " + bucket.name() + ": " + limits_sentence(bucket) + "; " + sessions_of(bucket);
    if (bucket.opens) out += "; time allows more " + when(*bucket.opens, time);
    if (bucket.waiting_lanes > 0) out += "; " + count_of(bucket.waiting_lanes, "lane") + (bucket.waiting_lanes == 1 ? " waits there" : " wait there");
    return out;
}

std::string candidate_name(const CandidateView& candidate) {
    std::string out = candidate.mx + " (" + candidate.remote + ")";
    if (!candidate.localip.empty()) out += " from " + candidate.localip;
    return out;
}

std::string list_of(const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
    return out;
}

// ---- sentences -------------------------------------------------------------------------------------------------

class Telling {
public:
    explicit Telling(const Explained& explained) : explained_(explained), time_(explained.time) {}

    std::vector<std::string> tell() {
        if (explained_.bucket) tell_bucket(*explained_.bucket);
        if (!explained_.place) return std::move(said_);
        const Explanation& place = *explained_.place;
        if (explained_.item) tell_item(*explained_.item, place);
        else tell_domain(place);
        if (place.disabled) say("Deliveries are switched off (outbound.ini: disabled), so nothing starts.");
        tell_route(place);
        for (const CandidateView& candidate : place.candidates) tell_candidate(candidate);
        if (place.candidates_more > 0) say(count_of(place.candidates_more, "more candidate") + " exist.");
        if (explained_.item) tell_ahead(*explained_.item, place);
        return std::move(said_);
    }

private:
    void say(std::string sentence) { said_.push_back(std::move(sentence)); }

    void tell_bucket(const BucketView& bucket) {
        say("Bucket " + bucket.name() + " counts for " + (bucket.line == 0 ? "a limit of the settings" : "the policy in policy.yaml line " + std::to_string(bucket.line)) + ".");
        say("It allows " + limits_sentence(bucket) + ".");
        if (!bucket.limits.tag.empty()) say("Its tag is " + bucket.limits.tag + ".");
        if (!bucket.live) return say("Nothing counts there now.");
        say(sessions_of(bucket) + ".");
        if (bucket.refusal == Refusal::none) say("A message may start there now.");
        else say(std::string("Nothing that needs a new session may start there: ") + reason_of(bucket.refusal) + ".");
        if (bucket.opens) say("Time allows the next one " + when(*bucket.opens, time_) + ".");
        if (bucket.waiting_lanes > 0) say(count_of(bucket.waiting_lanes, "lane") + " of ready mail " + (bucket.waiting_lanes == 1 ? "waits" : "wait") + " there.");
    }

    void tell_item(const ItemDetail& item, const Explanation& place) {
        say(item_state(item, place));
        std::string past = "It was accepted " + rfc3339(item.arrival_ms) + "; ";
        past += item.attempts == 0 ? "no attempt has failed yet." : count_of(item.attempts, "attempt") + " failed.";
        if (!item.reply.empty()) past += " The last one came to: " + item.reply;
        say(std::move(past));
        if (place.ahead > 0) say(count_of(place.ahead, "item") + " that wait" + (place.ahead == 1 ? "s" : "") + " for the same come before it.");
    }

    std::string item_state(const ItemDetail& item, const Explanation& place) const {
        const std::string name = "Item " + item.id.text() + " for " + item.domain;
        if (item.state == "held") return name + " is held: it is not tried until somebody releases it.";
        if (item.state == "scheduled") return name + " is scheduled: its next try is due " + rfc3339(item.next_ms) + ".";
        if (item.state == "sending" && place.on.empty()) return name + " is being decided without an attempt.";
        if (item.state == "sending") return name + " is being sent to " + place.on + ".";
        if (!place.route_known) return name + " is ready: it waits for its route.";
        return name + " is ready: it waits for capacity.";
    }

    void tell_domain(const Explanation& place) {
        say(place.domain + " has " + std::to_string(place.states[0]) + " scheduled, " + std::to_string(place.states[1]) + " ready, " +
            std::to_string(place.states[2]) + " sending and " + std::to_string(place.states[3]) + " held items, and " +
            count_of(place.sessions, "session") + ".");
        for (const queue::LaneView& lane : place.lanes) {
            std::string out = count_of(lane.length, "ready item") + " of priority " + std::to_string(lane.priority);
            out += lane.tenant.empty() ? " without a tenant" : " of tenant " + lane.tenant;
            out += lane.waits_at.empty() ? " start as soon as they may." : " wait at " + list_of(lane.waits_at) + ".";
            say(std::move(out));
        }
        if (place.lanes_more > 0) say(count_of(place.lanes_more, "more lane") + " of ready items exist.");
    }

    void tell_route(const Explanation& place) {
        if (!place.via.empty()) say("An operator sends it to " + place.via + " instead of the configured route.");
        if (place.route_known) {
            say("Its route has " + count_of(place.candidates.size(), "candidate") + " and is looked up again " + when(*place.route_expires, time_) + ".");
        } else if (place.route_asked) {
            say("Its route is being looked up.");
        } else {
            say("Its route is not known now; it is looked up when something is ready.");
        }
    }

    void tell_candidate(const CandidateView& candidate) {
        const std::string name = candidate_name(candidate);
        if (candidate.tried) return say(name + " was tried in this attempt and failed as a host.");
        if (candidate.local_avoided) return say(name + ": the local address did not work and is avoided for a while.");
        if (!candidate.in_turn) {
            if (candidate.avoided_until) return say(name + " could not be reached and is avoided until " + rfc3339(time_.ms(*candidate.avoided_until)) + ".");
            return say(name + " is not in turn: others come before it.");
        }
        if (candidate.halt) return say(name + " is suspended" + halt_sentence(*candidate.halt));
        if (candidate.blocking) {
            const BucketView& bucket = candidate.buckets[*candidate.blocking];
            say(name + " is blocked by the policy " + bucket.policy + ": " + reason_of(bucket.refusal) + "; " + bucket_sentence(bucket, time_) + ".");
        } else {
            say(name + " may be used now.");
        }
        for (std::size_t i = 0; i < candidate.buckets.size(); ++i) {
            const BucketView& bucket = candidate.buckets[i];
            if (candidate.blocking == i) continue;
            say("  It also counts in " + bucket_sentence(bucket, time_) + (bucket.refusal == Refusal::none ? "." : std::string("; ") + reason_of(bucket.refusal) + "."));
        }
    }

    std::string halt_sentence(const queue::Halt& halt) const {
        std::string out = " by " + halt.id + " (" + halt.from + ")";
        if (halt.new_connections_only) out += " for new connections";
        return out + (halt.until ? ", which may change " + when(*halt.until, time_) + "." : ", until somebody removes that.");
    }

    void tell_ahead(const ItemDetail& item, const Explanation& place) {
        if (place.earliest) say("It can start " + when(*place.earliest, time_) + " at the earliest.");
        else if (item.state == "ready") say("When it can start depends on sessions that are in use, or on suspensions.");
        if (!explained_.tries.empty()) {
            std::string out = "Should attempts fail, it is tried again about";
            for (std::size_t i = 0; i < explained_.tries.size() && i < tries_shown; ++i) {
                out += (i == 0 ? " " : ", ") + rfc3339(time_.ms(explained_.tries[i]));
            }
            if (explained_.tries.size() > tries_shown) out += " and " + std::to_string(explained_.tries.size() - tries_shown) + " times more";
            say(out + ".");
        }
        say("It expires " + rfc3339(time_.ms(explained_.expires)) + ".");
    }

    const Explained& explained_;
    const WallTime& time_;
    std::vector<std::string> said_;
};

// ---- JSON ------------------------------------------------------------------------------------------------------

json::array texts(const std::vector<std::string>& values) {
    json::array out;
    for (const std::string& value : values) out.emplace_back(value);
    return out;
}

json::object candidate_json(const CandidateView& candidate, const WallTime& time) {
    json::object out{{"mx", candidate.mx},       {"remote", candidate.remote}, {"localip", candidate.localip},
                     {"level", candidate.level}, {"tried", candidate.tried},   {"in_turn", candidate.in_turn}};
    json::array buckets;
    for (const BucketView& bucket : candidate.buckets) buckets.push_back(to_json(bucket, time));
    out["buckets"] = std::move(buckets);
    if (candidate.halt) {
        json::object halt{{"id", candidate.halt->id}, {"from", candidate.halt->from}, {"new_connections_only", candidate.halt->new_connections_only}};
        if (candidate.halt->until) halt["until"] = rfc3339(time.ms(*candidate.halt->until));
        out["suspended_by"] = std::move(halt);
    }
    if (candidate.blocking) out["blocked_by"] = candidate.buckets[*candidate.blocking].name();
    if (candidate.avoided_until) out["avoided_until"] = rfc3339(time.ms(*candidate.avoided_until));
    return out;
}

json::object place_json(const Explanation& place, const WallTime& time) {
    json::object out{{"domain", place.domain},      {"disabled", place.disabled},   {"scheduled", place.states[0]},
                     {"ready", place.states[1]},    {"sending", place.states[2]},   {"held", place.states[3]},
                     {"sessions", place.sessions},  {"route_known", place.route_known}};
    if (!place.via.empty()) out["via"] = place.via;
    if (place.route_expires) out["route_expires"] = rfc3339(time.ms(*place.route_expires));
    json::array candidates;
    for (const CandidateView& candidate : place.candidates) candidates.push_back(candidate_json(candidate, time));
    out["candidates"] = std::move(candidates);
    if (place.is_item) {
        out["ahead"] = place.ahead;
        if (place.earliest) out["earliest"] = rfc3339(time.ms(*place.earliest));
        if (!place.on.empty()) out["on"] = place.on;
        return out;
    }
    json::array lanes;
    for (const queue::LaneView& lane : place.lanes) {
        lanes.push_back(json::object{{"tenant", lane.tenant},
                                     {"priority", static_cast<int>(lane.priority)},
                                     {"items", lane.length},
                                     {"waits_at", texts(lane.waits_at)}});
    }
    out["lanes"] = std::move(lanes);
    out["lanes_more"] = place.lanes_more;
    return out;
}

}  // namespace

std::vector<std::string> sentences(const Explained& explained) { return Telling(explained).tell(); }

json::value to_json(const BucketView& bucket, const WallTime& time) {
    json::object values;
    for (const auto& [field, value] : bucket.values) values[field] = value;
    json::object out{{"name", bucket.name()},
                     {"policy", bucket.policy},
                     {"line", bucket.line},
                     {"values", std::move(values)},
                     {"limits", bucket.skipped ? "not counted" : bucket.limits.text()},
                     {"limits_from", bucket.limits_from},
                     {"concurrency", bucket.limits.concurrency},
                     {"used", bucket.used},
                     {"idle", bucket.idle},
                     {"closing", bucket.closing},
                     {"waiting", bucket.waiting_lanes},
                     {"blocked", name_of(bucket.refusal)}};
    if (!bucket.limits.tag.empty()) out["tag"] = bucket.limits.tag;
    if (bucket.opens) out["opens"] = rfc3339(time.ms(*bucket.opens));
    return out;
}

json::value to_json(const Explained& explained) {
    json::object out{{"sentences", texts(sentences(explained))}};
    if (explained.bucket) out["bucket"] = to_json(*explained.bucket, explained.time);
    if (explained.place) out["place"] = place_json(*explained.place, explained.time);
    if (!explained.item) return out;
    out["item"] = to_json(*explained.item);
    json::array tries;
    for (const Instant at : explained.tries) tries.emplace_back(rfc3339(explained.time.ms(at)));
    out["tries"] = std::move(tries);
    out["expires"] = rfc3339(explained.time.ms(explained.expires));
    return out;
}

}  // namespace sluice::control
