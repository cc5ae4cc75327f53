#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "sim/judge.h"
#include "sim/scenario.h"
#include "sim/world.h"

namespace sluice::sim {
namespace {

using testing::HasSubstr;
using testing::Optional;

const Instant now = instant_from_ms(1'795'000'000'000);

queue::Admit mail(std::uint64_t number) {
    queue::Admit admit;
    admit.id = ItemId{MessageId{number}, 0};
    admit.domain = "x.test";
    admit.arrival = admit.due = now;
    return admit;
}

queue::Deliver attempt(std::uint64_t item, queue::SessionId session) {
    auto route = std::make_shared<queue::Route>();
    route->key = "x.test";
    route->candidates = {{"a", "a:25", 0}, {"b", "b:25", 10}};
    queue::Deliver deliver;
    deliver.session = session;
    deliver.open = true;
    deliver.route = route;
    deliver.candidates = {0};
    deliver.work.item = ItemId{MessageId{item}, 0};
    return deliver;
}

// A judge that finds nothing proves nothing: each row breaks one promise.
TEST(Judge, NoticesEveryBrokenPromise) {
    const struct {
        const char* complaint;
        std::function<void(queue::Deliver&)> spoil;
    } rows[] = {
        {"unknown item", [](queue::Deliver& d) { d.work.item.index = 9; }},
        {"being attempted", [](queue::Deliver& d) { d.work.item.message.value = 1; }},
        {"held", [](queue::Deliver& d) { d.work.item.message.value = 3; }},
        {"not due", [](queue::Deliver& d) { d.work.item.message.value = 4; }},
        {"attempts are counted", [](queue::Deliver& d) { d.work.attempts = 7; }},
        {"recipients", [](queue::Deliver& d) { d.work.pending = {1}; }},
        {"used again", [](queue::Deliver& d) { d.session = 1; }},
        {"has an item already", [](queue::Deliver& d) { d.session = 1; d.open = false; d.candidates.clear(); }},
        {"is not open", [](queue::Deliver& d) { d.open = false; }},
        {"no candidate", [](queue::Deliver& d) { d.candidates.clear(); }},
        {"mixes levels", [](queue::Deliver& d) { d.candidates = {0, 1}; d.last_resort = true; }},
        {"last_resort", [](queue::Deliver& d) { d.last_resort = true; }},
        {"permanent_so_far", [](queue::Deliver& d) { d.permanent_so_far = false; }},
        {"allows 2 sessions", [](queue::Deliver&) {}},
    };
    for (const auto& row : rows) {
        queue::Options options;
        options.destination_concurrency = 2;
        Judge judge(options);
        for (const std::uint64_t number : {1U, 2U, 5U}) judge.admitted(mail(number));
        queue::Admit held = mail(3);
        held.held = true;
        judge.admitted(held);
        queue::Admit later = mail(4);
        later.due += Duration(1);
        judge.admitted(later);
        judge.delivering(attempt(1, 1), now);
        if (row.complaint == std::string("allows 2 sessions")) judge.delivering(attempt(5, 2), now);
        ASSERT_EQ(judge.violation(), std::nullopt);
        queue::Deliver deliver = attempt(2, 3);
        row.spoil(deliver);
        judge.delivering(deliver, now);
        ASSERT_TRUE(judge.violation()) << row.complaint;
        EXPECT_THAT(*judge.violation(), HasSubstr(row.complaint));
    }
}

TEST(Judge, NoticesASecondEnd) {
    Judge judge(queue::Options{});
    judge.admitted(mail(1));
    judge.delivering(attempt(1, 1), now);
    queue::AttemptEnded ended;
    ended.item = ItemId{MessageId{1}, 0};
    ended.session = 1;
    judge.ended(ended, Fate::delivered, now);
    EXPECT_EQ(judge.count(Fate::delivered), 1U);
    judge.delivering(attempt(1, 2), now);
    EXPECT_THAT(judge.violation(), Optional(HasSubstr("it has ended")));
}

// A judge of policies that finds nothing proves nothing either: limits that are wrong by one must be found out before long.
TEST(Judge, FindsOutEveryLimitThatIsWrongByOne) {
    for (const std::string& name : fault_list()) {
        const Fault fault = fault_of(name);
        if (fault == Fault::none) continue;
        std::optional<std::string> found;
        for (std::uint64_t seed = 1; seed <= 60 && !found; ++seed) found = World(random_policy_scenario(seed), seed, fault).run().violation;
        EXPECT_TRUE(found) << name;
    }
}

TEST(World, TheSameSeedGivesTheSameRun) {
    for (const std::uint64_t seed : {5U, 9U}) {
        const Report one = World(random_scenario(seed), seed).run();
        const Report two = World(random_scenario(seed), seed).run();
        EXPECT_EQ(one.violation, std::nullopt);
        EXPECT_EQ(one.events, two.events);
        EXPECT_EQ(one.attempts, two.attempts);
        EXPECT_EQ(one.lasted, two.lasted);
    }
}

TEST(World, AnExpectationThatIsNotMetIsAViolation) {
    Scenario scenario = random_scenario(5);
    scenario.expect.delivered = 1'000'000;
    EXPECT_THAT(World(scenario, 5).run().violation, Optional(HasSubstr("expected delivered")));
}

TEST(Scenario, RefusalsNameTheLineAndTheReason) {
    const std::string good = "hosts: {a: {mood: obedient}}\ndomains: {x.test: {mx: [a, \"a 10\"]}}\n";
    const struct {
        std::string yaml;
        const char* reason;
    } rows[] = {
        {good, "needs a workload"},
        {good + "moods: 1\n", "unknown key `moods`"},
        {good + "workload: [{to: [y.test]}]\n", "no such domain: y.test"},
        {"hosts: {a: {mood: grumpy}}\n", "mood: expected one of"},
        {"domains: {x.test: {mx: [b]}}\n", "no such host: b"},
        {"domains: {x.test: {mx: [a b c]}}\n", "expected `host` or"},
        {"core: {policies: [{fields: [colour]}]}\n", "`colour` is no field"},
        {"core: {policies: [{default: {rate: 1/2/3}}]}\n", "rate: expected"},
        {"hosts: [", "scenario:1"},
    };
    for (const auto& row : rows) {
        const Result<Scenario> parsed = parse_scenario(row.yaml);
        ASSERT_FALSE(parsed) << row.reason;
        EXPECT_THAT(parsed.error().detail, HasSubstr("error: scenario:"));
        EXPECT_THAT(parsed.error().detail, HasSubstr(row.reason));
    }
    EXPECT_TRUE(parse_scenario(good + "workload: [{to: [x.test], items: 3}]\n"));
}

}  // namespace
}  // namespace sluice::sim
