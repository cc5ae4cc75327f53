#include "control/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace sluice::control {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::int64_t noon = 1'795'003'200'000;

WallTime noon_time() { return {instant_from_ms(5'000'000), noon}; }

queue::BucketView bucket(std::string policy, std::uint32_t used, std::uint32_t limit) {
    queue::BucketView view;
    view.policy = std::move(policy);
    view.line = 3;
    view.values = {{"localip", "192.0.2.1"}, {"remotemx", "#gsuite"}};
    view.limits.concurrency = limit;
    view.limits.rates.emplace_back(50, Duration(1'000));
    view.limits_from = "policy.yaml line 12";
    view.live = true;
    view.used = used;
    if (limit != 0 && used == limit) view.refusal = queue::Refusal::slots;
    return view;
}

Explained waiting_item() {
    Explained explained;
    explained.time = noon_time();
    ItemDetail item;
    item.id = ItemId{MessageId{7}, 0};
    item.state = "ready";
    item.domain = "example.org";
    item.arrival_ms = noon - 3'600'000;
    item.attempts = 2;
    item.reply = "451 4.7.1 later";
    explained.item = item;
    queue::Explanation place;
    place.is_item = place.route_known = true;
    place.domain = "example.org";
    place.route_expires = explained.time.now + Duration(60'000);
    place.ahead = 3;
    queue::CandidateView candidate;
    candidate.mx = "mx1.google.com";
    candidate.remote = "198.51.100.1:25";
    candidate.localip = "192.0.2.1";
    candidate.in_turn = true;
    candidate.buckets = {bucket("gsuite", 10, 10), bucket("all", 2, 0)};
    candidate.buckets[0].waiting_lanes = 2;
    candidate.blocking = 0;
    place.candidates.push_back(candidate);
    explained.place = place;
    explained.expires = explained.time.now + Duration(86'400'000);
    explained.tries = {explained.time.now + Duration(600'000)};
    return explained;
}

TEST(Explain, AnItemIsToldInSentences) {
    EXPECT_THAT(sentences(waiting_item()), ElementsAre(
        "Item 0000000000007.1 for example.org is ready: it waits for capacity.",
        "It was accepted 2026-11-18T11:00:00.000Z; 2 attempts failed. The last one came to: 451 4.7.1 later",
        "3 items that wait for the same come before it.",
        "Its route has 1 candidate and is looked up again at 2026-11-18T12:01:00.000Z (in 1m).",
        "mx1.google.com (198.51.100.1:25) from 192.0.2.1 is blocked by the policy gsuite: all its sessions are taken; "
        "bucket gsuite[localip=192.0.2.1, remotemx=#gsuite]: 10 sessions, 50 per second (policy.yaml line 12); 10 of 10 sessions in use; 2 lanes wait there.",
        "  It also counts in bucket all[localip=192.0.2.1, remotemx=#gsuite]: 50 per second (policy.yaml line 12); 2 sessions in use.",
        "When it can start depends on sessions that are in use, or on suspensions.",
        "Should attempts fail, it is tried again about 2026-11-18T12:10:00.000Z.",
        "It expires 2026-11-19T12:00:00.000Z."));
}

TEST(Explain, TimeIsNamedWhereTimeDecides) {
    Explained explained = waiting_item();
    queue::BucketView& slow = explained.place->candidates[0].buckets[0];
    slow.used = 1;
    slow.refusal = queue::Refusal::rate;
    slow.opens = explained.time.now + Duration(90'000);
    explained.place->earliest = slow.opens;
    const std::vector<std::string> said = sentences(explained);
    EXPECT_THAT(said, Contains(HasSubstr("its rate is used up; ")));
    EXPECT_THAT(said, Contains("It can start at 2026-11-18T12:01:30.000Z (in 1m30s) at the earliest."));
}

TEST(Explain, SuspensionsAreNamed) {
    Explained explained = waiting_item();
    explained.place->candidates[0].halt = queue::Halt{"leak-7", "set by ops: complaints", std::nullopt, false};
    EXPECT_THAT(sentences(explained), Contains(HasSubstr("is suspended by leak-7 (set by ops: complaints), until somebody removes that.")));
    explained.place->candidates[0].halt->until = explained.time.now + Duration(60'000);
    EXPECT_THAT(sentences(explained), Contains(HasSubstr("which may change at 2026-11-18T12:01:00.000Z (in 1m).")));
}

TEST(Explain, EveryStateHasItsSentence) {
    Explained explained = waiting_item();
    const auto first = [&](const char* state) {
        explained.item->state = state;
        return sentences(explained).front();
    };
    EXPECT_THAT(first("held"), HasSubstr("is held"));
    EXPECT_THAT(first("scheduled"), HasSubstr("is scheduled"));
    EXPECT_THAT(first("sending"), HasSubstr("decided without an attempt"));
    explained.place->on = "198.51.100.1:25";
    EXPECT_THAT(first("sending"), HasSubstr("is being sent to 198.51.100.1:25"));
    explained.place->route_known = false;
    EXPECT_THAT(first("ready"), HasSubstr("waits for its route"));
    explained.place->disabled = true;
    EXPECT_THAT(sentences(explained), Contains(StartsWith("Deliveries are switched off")));
}

TEST(Explain, BucketsAndDomains) {
    Explained explained;
    explained.time = noon_time();
    explained.bucket = bucket("gsuite", 10, 10);
    explained.bucket->waiting_lanes = 1;
    EXPECT_THAT(sentences(explained), ElementsAre(
        "Bucket gsuite[localip=192.0.2.1, remotemx=#gsuite] counts for the policy in policy.yaml line 3.",
        "It allows 10 sessions, 50 per second (policy.yaml line 12).", "10 of 10 sessions in use.",
        "Nothing that needs a new session may start there: all its sessions are taken.", "1 lane of ready mail waits there."));

    Explained domain;
    domain.time = noon_time();
    queue::Explanation place;
    place.domain = "example.org";
    place.states = {5, 2, 1, 0};
    place.sessions = 1;
    place.lanes = {{"acme", 4, 2, {"gsuite[x=1]"}}};
    domain.place = place;
    const std::vector<std::string> said = sentences(domain);
    EXPECT_EQ(said[0], "example.org has 5 scheduled, 2 ready, 1 sending and 0 held items, and 1 session.");
    EXPECT_EQ(said[1], "2 ready items of priority 4 of tenant acme wait at gsuite[x=1].");
}

TEST(Explain, JsonSaysTheSame) {
    const std::string text = boost::json::serialize(to_json(waiting_item()));
    EXPECT_THAT(text, HasSubstr(R"("blocked_by":"gsuite[localip=192.0.2.1, remotemx=#gsuite]")"));
    EXPECT_THAT(text, HasSubstr(R"("blocked":"concurrency")"));
    EXPECT_THAT(text, HasSubstr(R"("tries":["2026-11-18T12:10:00.000Z"])"));
}

}  // namespace
}  // namespace sluice::control
