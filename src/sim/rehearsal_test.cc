#include "sim/rehearsal.h"

#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::sim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Traffic traffic_of(const std::string& yaml) {
    Problems problems;
    std::optional<Traffic> traffic = parse_traffic(yaml, "t.yaml", problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    return traffic.value_or(Traffic{});
}

Rehearsed rehearse(const Traffic& traffic, const std::string& policies = "", std::uint64_t seed = 1) {
    auto settings = std::make_shared<config::Settings>();
    settings->outbound.temp_fail_intervals = {Duration(60'000), Duration(600'000), Duration(3'600'000)};
    queue::Options options;
    options.lifetime = settings->outbound.queue_lifetime;
    options.sources4 = {"192.0.2.1"};
    Problems problems;
    options.policies = policy::parse_policies(policies, "policy.yaml", problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    return Rehearsal(traffic, settings, options, seed).run();
}

const Tally& tally(const std::vector<Tally>& tallies, const std::string& name) {
    return *std::find_if(tallies.begin(), tallies.end(), [&](const Tally& t) { return t.name == name; });
}

const std::string two_tenants =
    "hours: 1\n"
    "sources:\n"
    "- {tenant: shop, messages: 300, to: {big.test: 2, 'd[1..3].test': 1}}\n"
    "- {tenant: news, messages: 600, arrives: {bursts: [{at: \"00:10\", minutes: 2}]}, to: {big.test: 1}}\n"
    "receivers:\n";

TEST(Rehearsal, EverythingAcceptedHasAnEnd) {
    const Traffic traffic = traffic_of(two_tenants + "- {name: big, domains: big.test, mx: [a.big.test, b.big.test 10]}\n");
    const Rehearsed run = rehearse(traffic);
    EXPECT_EQ(run.all.accepted, 900U);
    EXPECT_EQ(run.all.delivered, 900U);
    EXPECT_EQ(run.all.deferrals, 0U);
    EXPECT_EQ(tally(run.tenants, "shop").delivered, 300U);
    EXPECT_EQ(tally(run.receivers, "big").delivered + tally(run.receivers, "others").delivered, 900U);
    EXPECT_EQ(run.seen[0].messages, tally(run.receivers, "big").delivered);
    EXPECT_EQ(run.attempts, 900U);
    EXPECT_LE(run.all.latency.quantile(1), Duration(1'000));
    std::uint64_t accepted = 0, delivered = 0;
    for (const Shape& shape : run.shapes) {
        accepted += shape.accepted;
        delivered += shape.delivered;
    }
    EXPECT_EQ(accepted, 900U);
    EXPECT_EQ(delivered, 900U);
}

TEST(Rehearsal, TheSameSeedGivesTheSameReport) {
    const Traffic traffic = traffic_of(two_tenants +
        "- {name: big, domains: big.test, latency: {message: [0.1, 3]}, replies: [{share: 0.2, reply: 451 later}, {share: 0.1, reply: 550 no}]}\n");
    const std::vector<Rehearsed> one{rehearse(traffic)}, two{rehearse(traffic)}, other{rehearse(traffic, "", 2)};
    EXPECT_EQ(report_text(traffic, one), report_text(traffic, two));
    EXPECT_EQ(boost::json::serialize(report_json(traffic, one)), boost::json::serialize(report_json(traffic, two)));
    EXPECT_NE(report_text(traffic, one), report_text(traffic, other));
    EXPECT_GT(one[0].all.bounced, 20U);
    EXPECT_GT(one[0].all.deferrals, 50U);
}

// A policy bounds what a receiver sees, and is named for it.
TEST(Rehearsal, ALimitIsKeptAndNamed) {
    const Traffic traffic = traffic_of(two_tenants + "- {name: big, domains: big.test, latency: {message: 2}}\n");
    const Rehearsed free = rehearse(traffic);
    const Rehearsed bound = rehearse(traffic, "- {name: narrow, fields: [recipientdomain], default: {concurrency: 3}}\n");
    EXPECT_GT(free.seen[0].sessions_peak, 3U);
    EXPECT_EQ(bound.seen[0].sessions_peak, 3U);
    ASSERT_FALSE(bound.policies.empty());
    EXPECT_EQ(bound.policies[0].policy, "narrow");
    EXPECT_EQ(bound.policies[0].lack, "sessions");
    EXPECT_EQ(bound.buckets[0].bucket, "recipientdomain big.test");
    EXPECT_EQ(bound.buckets[0].limits, "3 sessions");
    EXPECT_GT(bound.buckets[0].blocked, Duration(200'000));
    // Latency is waiting and sending: what waited on the whole is what the messages waited (Little's law).
    const double waited = 900 * static_cast<double>(bound.all.latency.quantile(0.5).count()) / 1e3;
    EXPECT_GT(bound.policies[0].message_seconds, waited / 10);
    EXPECT_GT(bound.all.latency.quantile(0.5), free.all.latency.quantile(0.5));
}

TEST(Rehearsal, ARateIsKeptInEveryMinute) {
    const Traffic traffic = traffic_of(two_tenants + "- {name: big, domains: big.test}\n");
    const Rehearsed run = rehearse(traffic, "- {fields: [recipientdomain], conditions: [{if: {recipientdomain: big.test}, then: {rate: \"60/60\"}}]}\n");
    EXPECT_LE(run.seen[0].minute_peak, 60U);
    EXPECT_GE(run.seen[0].minute_peak, 58U);
    EXPECT_EQ(run.buckets[0].lack, "rate");
}

TEST(Rehearsal, WhoIsTooFastIsBlocked) {
    const std::string slow = "- {name: big, domains: big.test, replies: [{rate_over: 20/10, per: source, block: 300, reply: 421 4.7.28 unusual rate}]}\n";
    const Traffic traffic = traffic_of(two_tenants + slow);
    const Rehearsed fast = rehearse(traffic), careful = rehearse(traffic, "- {fields: [localip], default: {rate: 19/10}}\n");
    EXPECT_GT(fast.seen[0].answers.at("421 4.7.28 unusual rate"), 100U);
    EXPECT_TRUE(careful.seen[0].answers.empty());
    EXPECT_GT(fast.all.latency.quantile(0.9), careful.all.latency.quantile(0.9));
    const std::string both = report_text(traffic, {fast, careful});
    EXPECT_THAT(both, HasSubstr("delivered A  delivered B"));
    EXPECT_THAT(both, HasSubstr("big A: "));
}

TEST(Rehearsal, GreylistsAndDeadHostsAndFullOnes) {
    const Traffic grey = traffic_of(two_tenants + "- {name: big, domains: big.test, replies: [{greylist: 300, reply: 451 4.7.1 grey}]}\n");
    const Rehearsed greylisted = rehearse(grey);
    EXPECT_EQ(greylisted.all.delivered, 900U);
    EXPECT_EQ(tally(greylisted.receivers, "big").deferrals, 2 * tally(greylisted.receivers, "big").delivered);

    const Traffic dead = traffic_of(two_tenants + "- {name: big, domains: big.test, unreachable: true}\n");
    const Rehearsed unreachable = rehearse(dead);
    EXPECT_EQ(tally(unreachable.receivers, "big").expired, tally(unreachable.receivers, "big").accepted);
    EXPECT_EQ(tally(unreachable.receivers, "others").delivered, tally(unreachable.receivers, "others").accepted);

    const Traffic later = traffic_of(two_tenants + "- {name: big, domains: big.test, during: [{from: \"00:00\", until: \"00:30\", unreachable: true}]}\n");
    EXPECT_EQ(rehearse(later).all.delivered, 900U);

    const Traffic full = traffic_of(two_tenants + "- {name: big, domains: big.test, capacity: {messages_per_second: 2, sessions: 5}}\n");
    const Rehearsed narrow = rehearse(full);
    EXPECT_EQ(narrow.seen[0].sessions_peak, 5U);
    EXPECT_LE(narrow.all.delivered + narrow.all.expired, 900U);
    EXPECT_GT(narrow.all.latency.quantile(0.9), Duration(2'000));
}

TEST(Traffic, MailArrivesAsDescribed) {
    const Traffic traffic = traffic_of("hours: 48\nsources: [{per_day: 500, size: 7, job: j, notes: {a: b}, arrives: {hours: [" +
                                       [] { std::string ones = "10"; for (int i = 1; i < 24; ++i) ones += ", 0"; return ones; }() +
                                       "]}, zipf: 0, to: {a.test: 3, 'n[8..9].test': 1}}]\n");
    Arrivals arrivals(traffic, 1);
    std::uint64_t first_day = 0, all = 0;
    std::vector<std::uint64_t> to(traffic.domains.size(), 0);
    Instant last = traffic.begin;
    while (arrivals.next() != Instant::max()) {
        const Instant at = arrivals.next();
        EXPECT_GE(at, last);
        last = at;
        const Arrival mail = arrivals.take();
        EXPECT_EQ(mail.size, 7U);
        EXPECT_LT((at - traffic.begin) % Duration(86'400'000), Duration(3'600'000)) << "only in the first hour of a day";
        ++all;
        ++to[mail.domain];
        if (at - traffic.begin < Duration(86'400'000)) ++first_day;
    }
    EXPECT_EQ(all, 1'000U);
    EXPECT_EQ(first_day, 500U);
    EXPECT_THAT(traffic.domains, ElementsAre("a.test", "n8.test", "n9.test"));
    EXPECT_NEAR(static_cast<double>(to[0]), 750, 50);
    EXPECT_NEAR(static_cast<double>(to[1]), 125, 40);
}

TEST(Traffic, MistakesAreNamedWithTheirLine) {
    const std::string good = "sources: [{messages: 1, to: {a.test: 1}}]\n";
    const struct {
        std::string yaml;
        const char* says;
    } rows[] = {
        {"", "traffic: expected a map"},
        {"sources: []\n", "t.yaml:1: sources: expected at least one"},
        {"title: x\n", "expected `sources`"},
        {good + "recievers: []\n", "t.yaml:2: traffic: unknown key `recievers` (did you mean `receivers`?)"},
        {"sources:\n- {messages: 1, per_day: 2, to: {a.test: 1}}\n", "t.yaml:2: source: expected one of `messages`"},
        {"sources:\n- {to: {a.test: 1}}\n", "expected one of `messages`"},
        {"sources:\n- {messages: 1}\n", "expected `to`"},
        {"sources:\n- {messages: 1, to: {a.test: 0}}\n", "a part above 0"},
        {"sources:\n- {messages: 1, to: {'d[5..1].test': 1}}\n", "or a range as in"},
        {"sources:\n- {messages: 1, to: {'d[1..9999999].test': 1}}\n", "or a range as in"},
        {"sources:\n- {per_second: 1e9, to: {a.test: 1}}\n", "messages in all"},
        {"sources:\n- {messages: 1, to: {a.test: 1}, arrives: dayly}\n", "(did you mean `daily`?)"},
        {"sources:\n- {messages: 1, to: {a.test: 1}, arrives: {hours: [1, 2]}}\n", "expected 24 numbers"},
        {"hours: 1\nsources:\n- {messages: 1, to: {a.test: 1}, arrives: {bursts: [{at: \"09:00\"}]}}\n", "nothing would ever arrive"},
        {"sources:\n- {messages: 1, to: {a.test: 1}, arrives: {bursts: [{at: 9}]}}\n", "expected a time as in"},
        {"sources:\n- {messages: 1, to: {a.test: 1}, priority: 8}\n", "priority: expected a number up to 7"},
        {good + "receivers:\n- {name: x}\n", "expected `domains`"},
        {good + "receivers:\n- {name: x, domains: '/(/'}\n", "domains: "},
        {good + "receivers:\n- {name: x, domains: a.test}\n- {name: x, domains: b.test}\n", "two of the name `x`"},
        {good + "receivers:\n- {name: x, domains: a.test, mx: [a b c]}\n", "expected `host` or `host LEVEL`"},
        {good + "receivers:\n- {name: x, domains: a.test, addresses: [here]}\n", "expected an address"},
        {good + "receivers:\n- {name: x, domains: a.test, replies: [{share: 2, reply: 450 no}]}\n", "share: expected a number from 0 to 1"},
        {good + "receivers:\n- {name: x, domains: a.test, replies: [{reply: 450 no}]}\n", "expected one of `rate_over`"},
        {good + "receivers:\n- {name: x, domains: a.test, replies: [{share: 1, reply: 250 yes}]}\n", "expected a code from 400 to 599"},
        {good + "receivers:\n- {name: x, domains: a.test, replies: [{rate_over: 1/0, reply: 450 no}]}\n", "`COUNT/SECONDS`"},
        {good + "receivers:\n- {name: x, domains: a.test, replies: [{greylist: 9, at: connect, reply: 450 no}]}\n", "nothing is known of a message"},
        {good + "receivers:\n- {name: x, domains: a.test, during: [{from: \"02:00\", until: \"01:00\"}]}\n", "`until` is not after `from`"},
        {"sources: [\n", "not YAML"},
    };
    for (const auto& row : rows) {
        Problems problems;
        EXPECT_FALSE(parse_traffic(row.yaml, "t.yaml", problems)) << row.yaml;
        std::string all;
        for (const Problem& problem : problems.all()) all += problem.text() + "\n";
        EXPECT_THAT(all, HasSubstr(row.says)) << row.yaml;
        EXPECT_THAT(all, HasSubstr("error: t.yaml:")) << row.yaml;
    }
}

TEST(Recording, EventsComeAgain) {
    const std::string events =
        R"({"time":"2026-11-20T10:00:05.000Z","event":"accepted","message":"m1","sender":"a@b","size":4000})" "\n"
        R"({"time":"2026-11-20T10:00:06.500Z","event":"deferred","message":"m1","tenant":"t","item":"m1.0","domain":"x.test","mx":"MX.x.test","remote":"192.0.2.9:25","stage":"rcpt","reply":"451 4.7.1 later","age_ms":1500,"attempt_ms":200})" "\n"
        R"({"time":"2026-11-20T10:01:06.500Z","event":"delivered","message":"m1","tenant":"t","item":"m1.0","domain":"x.test","mx":"mx.x.test","remote":"192.0.2.9:25","stage":"dot","reply":"250 ok","age_ms":61500,"attempt_ms":300})" "\n"
        R"({"time":"2026-11-20T10:00:01.000Z","event":"bounced","message":"m0","item":"m0.0","domain":"y.test","stage":"connect","reply":"timed_out: no answer","age_ms":500,"attempt_ms":100})" "\n"
        R"({"time":"2026-11-20T10:02)";  // being written
    Problems problems;
    const std::optional<Traffic> traffic = parse_recording(events, "events.jsonl", problems);
    ASSERT_TRUE(traffic) << problems.all().front().text();
    ASSERT_EQ(traffic->recorded.size(), 2U);
    EXPECT_EQ(traffic->recorded[1].at - traffic->recorded[0].at, Duration(4'500));
    EXPECT_EQ(traffic->recorded[1].size, 4'000U);
    EXPECT_EQ(traffic->receivers[0].mx.front().first, "mx.x.test");
    EXPECT_THAT(traffic->receivers[0].addresses, ElementsAre("192.0.2.9"));
    ASSERT_EQ(traffic->receivers[0].usual.replies.size(), 1U);
    EXPECT_EQ(traffic->receivers[0].usual.replies[0].share, 0.5);
    EXPECT_EQ(traffic->receivers[0].usual.message.least, 0.3);
    const Rehearsed run = rehearse(*traffic);
    EXPECT_EQ(run.all.accepted, 2U);
    EXPECT_EQ(tally(run.tenants, "t").accepted, 1U);

    EXPECT_FALSE(parse_recording("{}\nnonsense\n", "events.jsonl", problems));
    EXPECT_THAT(problems.all().back().text(), HasSubstr("events.jsonl:2: expected an event"));
    Problems others;
    EXPECT_FALSE(parse_recording("{\"event\":\"accepted\"}\n", "events.jsonl", others));
    EXPECT_THAT(others.all().back().text(), HasSubstr("no outcome"));
}

TEST(Histogram, KeepsAboutOnePartInAHundred) {
    Histogram histogram;
    for (std::int64_t ms = 1; ms <= 100'000; ++ms) histogram.add(Duration(ms));
    for (const double part : {0.001, 0.5, 0.9, 0.99, 1.0}) {
        EXPECT_NEAR(static_cast<double>(histogram.quantile(part).count()), 100'000 * part, 1'000 * part + 1) << part;
    }
    EXPECT_EQ(Histogram().quantile(0.5), Duration(0));
}

}  // namespace
}  // namespace sluice::sim
