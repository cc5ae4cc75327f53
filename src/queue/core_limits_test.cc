// Limits, fairness, sources and determinism of the core.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "queue/core.h"
#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

TEST(Core, SourceFollowsTheCorrespondentsAndAvoidsOneThatFails) {
    Options made;
    made.sources4 = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};
    made.sources6 = {"2001:db8::1", "2001:db8::2"};
    World world(made);
    const auto start = [&](std::uint32_t source_hash) {
        Admit admit = world.mail("x.test");
        admit.source_hash = source_hash;
        world.tell(admit);
    };
    auto route = std::make_shared<Route>(*world.route("x.test", {{"a", 0}}));
    route->mx_hash = 5;
    start(9);
    world.tell(RouteResolved{"x.test", RoutePtr(route)});
    Deliver deliver = world.take_delivery();
    EXPECT_EQ(deliver.bind, made.sources4[(5 ^ 9) % 3]);
    EXPECT_EQ(deliver.bind6, made.sources6[(5 ^ 9) % 2]);

    AttemptEnded failed = world.ending(deliver, Verdict::deferred, false);
    failed.next = world.now + minute;
    failed.source_unusable = minute;
    world.tell(failed);
    start(9);
    deliver = world.take_delivery();
    EXPECT_EQ(deliver.bind, made.sources4[((5 ^ 9) % 3 + 1) % 3]);
    EXPECT_EQ(deliver.bind6, made.sources6[(5 ^ 9) % 2]) << "only IPv4 was tried";
    world.pass(minute);
    start(9);
    EXPECT_EQ(world.take<Deliver>().front().bind, made.sources4[(5 ^ 9) % 3]);
}

TEST(Core, FM_49_AnotherSourceTakesOverAtOnceAndOnlyThenTheItemRests) {
    Options made;
    made.sources4 = {"192.0.2.1", "192.0.2.2"};
    World world(made);
    world.admit("x.test");
    world.resolve("x.test");
    const auto fail_source = [&](const Deliver& deliver) {
        AttemptEnded failed = world.ending(deliver, Verdict::fresh_session, false);
        failed.source_unusable = minute;
        world.tell(failed);
    };
    const Deliver first = world.take_delivery();
    fail_source(first);
    const Deliver second = world.take_delivery();
    EXPECT_NE(second.bind, first.bind);
    EXPECT_EQ(second.work.attempts, 0);
    fail_source(second);
    EXPECT_TRUE(world.take<Deliver>().empty()) << "no source is left, so nothing spins";
    EXPECT_TRUE(world.take<Conclude>().empty()) << "and nothing is charged to the host or the item";
    EXPECT_EQ(world.core.stats().scheduled, 1U);
    world.pass(minute);
    const Deliver again = world.take_delivery();
    EXPECT_EQ(again.work.attempts, 0);
    EXPECT_EQ(again.bind, first.bind);
}

TEST(Core, FM_49_WithoutAnySourceAnItemStillEndsAfterItsLifetime) {
    Options made;
    made.lifetime = minute;
    World world(made);
    world.admit("x.test");
    world.resolve("x.test");
    for (int tries = 0; tries < 3; ++tries) {
        for (const Deliver& deliver : world.take<Deliver>()) {
            AttemptEnded failed = world.ending(deliver, Verdict::fresh_session, false);
            failed.source_unusable = minute;
            world.tell(failed);
        }
        world.pass(minute);
    }
    EXPECT_EQ(world.take<Conclude>().size(), 1U);
}

TEST(Core, LimitsChangeWithSessionsInFlight) {
    World world(options(1));
    for (int i = 0; i < 6; ++i) world.admit("x.test");
    world.resolve("x.test");
    std::vector<Deliver> busy = world.take<Deliver>();
    world.tell(Configure{options(3)});
    for (Deliver& deliver : world.take<Deliver>()) busy.push_back(std::move(deliver));
    ASSERT_EQ(busy.size(), 3U);
    world.tell(Configure{options(1)});
    for (const Deliver& deliver : busy) {
        world.opened(deliver);
        world.done(deliver);
    }
    EXPECT_EQ(world.take<Close>().size(), 2U);
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
}

TEST(Core, UrgentMailGoesFirstAndCannotStarveBulk) {
    // MP-3: priority 7 behind a crowd of priority 0 goes next; a flood of 7 leaves 0 its share.
    World world(options(1));
    world.admit("x.test", "", 0);
    world.resolve("x.test");
    Deliver deliver = world.take_delivery();
    world.opened(deliver);
    for (int i = 0; i < 50; ++i) world.admit("x.test", "", 0);
    for (int i = 0; i < 200; ++i) world.admit("x.test", "", 7);
    int bulk = 0;
    int first_bulk = -1;
    for (int i = 0; i < 170; ++i) {
        world.done(deliver);
        deliver = world.take_delivery();
        if (world.core.find(deliver.work.item)->priority != 0) continue;
        ++bulk;
        if (first_bulk < 0) first_bulk = i;
    }
    EXPECT_EQ(first_bulk, 16);
    EXPECT_EQ(bulk, 10) << "one in seventeen";
}

TEST(Core, TenantsShareABucketByWeight) {
    Options made = options(1);
    made.tenant_weights = {{"big", 3}};
    World world(made);
    world.admit("x.test", "small");
    world.resolve("x.test");
    Deliver deliver = world.take_delivery();
    world.opened(deliver);
    for (int i = 0; i < 300; ++i) world.admit("x.test", "small", 7);
    for (int i = 0; i < 300; ++i) world.admit("x.test", "big", 0);
    std::map<std::string, int> served;
    for (int i = 0; i < 200; ++i) {
        world.done(deliver);
        deliver = world.take_delivery();
        ++served[std::string(world.core.find(deliver.work.item)->tenant)];
    }
    EXPECT_EQ(served["big"], 150);
    EXPECT_EQ(served["small"], 50);
}

TEST(Core, ADestinationAtItsLimitDoesNotBlockOthers) {
    World world(options(1, 3));  // FM-36, DoS-9
    for (int i = 0; i < 100; ++i) world.admit("slow.test");
    world.resolve("slow.test");
    world.admit("fast.test");
    world.resolve("fast.test", {{"b", 0}});
    EXPECT_EQ(world.take<Deliver>().size(), 2U);
}

TEST(Core, LanesWithOtherSourcesDoNotCostAConnectionForEveryMessage) {
    Options made = options(2);
    made.sources4 = {"192.0.2.1", "192.0.2.2"};
    World world(made);
    for (std::uint32_t i = 0; i < 400; ++i) {
        Admit admit = world.mail("x.test");
        admit.source_hash = i;
        world.tell(admit);
    }
    world.resolve("x.test");
    std::map<std::string, int> started;
    int opened = 0;
    std::map<SessionId, std::string> binds;
    while (world.core.stats().items > 0) {
        for (const Deliver& deliver : world.take<Deliver>()) {
            if (deliver.open) {
                ++opened;
                binds[deliver.session] = deliver.bind;
                world.opened(deliver);
            }
            ++started[binds[deliver.session]];
            world.done(deliver);
        }
        for (const Close& close : world.take<Close>()) world.closed(close.session);
    }
    EXPECT_EQ(started["192.0.2.1"], 200);
    EXPECT_EQ(started["192.0.2.2"], 200);
    EXPECT_LE(opened, 30);
}

TEST(Core, BusyDomainsDoNotKeepAllSessionsForEver) {
    World world(options(1, 2));
    for (int i = 0; i < 100; ++i) {
        world.admit("a.test");
        world.admit("b.test");
    }
    world.resolve("a.test", {{"a", 0}});
    world.resolve("b.test", {{"b", 0}});
    world.admit("late.test");
    world.resolve("late.test", {{"c", 0}});
    const auto late = [&] {
        DomainStats found;
        world.core.each_domain([&](const DomainStats& stats) {
            if (stats.domain == "late.test") found = stats;
            return true;
        });
        return found.sending;
    };
    int carried = 0;
    while (late() == 0 && carried < 150) {
        for (const Deliver& deliver : world.take<Deliver>()) {
            if (deliver.open) world.opened(deliver);
            ++carried;
            world.done(deliver);
        }
        for (const Close& close : world.take<Close>()) world.closed(close.session);
    }
    EXPECT_LE(carried, 45) << "a turn of twenty for each session";
}

TEST(Core, PoliciesOverAnyFieldsReserveAllOrNothing) {
    Options made;
    made.policies = policies("[{fields: [remoteip], default: {concurrency: 1}}, {fields: [tenantid, localip], default: {concurrency: 2}}]");
    World world(made);
    for (int i = 0; i < 4; ++i) world.admit("x.test", "t");
    world.resolve("x.test", {{"a", 0}, {"b", 0}, {"c", 0}});
    std::vector<Deliver> started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 2U) << "the tenant's limit";
    EXPECT_EQ(started[0].candidates.size(), 1U) << "a reservation names its candidate";
    EXPECT_NE(started[0].candidates, started[1].candidates) << "the host's limit leads to another";
    world.admit("y.test", "u");
    world.resolve("y.test", {{"a", 0}, {"b", 0}, {"c", 0}});
    const Deliver other = world.take_delivery();
    EXPECT_NE(other.candidates, started[0].candidates);
    EXPECT_NE(other.candidates, started[1].candidates);
    world.admit("y.test", "u");
    EXPECT_TRUE(world.take<Deliver>().empty()) << "every host is taken: it waits for each of them";
    world.opened(started[0], started[0].candidates[0]);
    world.done(started[0], false);
    world.closed(started[0].session);
    EXPECT_EQ(world.take<Deliver>().size(), 1U);

    world.tell(Configure{options(50)});
    EXPECT_EQ(world.core.stats().ready, 0U) << "without the policies everything may start";
}

TEST(Core, RateIsNeverExceededAndGoesOnWhenTheWindowEnds) {
    Options made = options(50);
    made.policies = policies("[{fields: [recipientdomain], default: {rate: {count: 3, algorithm: fixedwindow}}}]");
    World world(made);
    for (int i = 0; i < 8; ++i) world.admit("x.test");
    world.resolve("x.test");
    EXPECT_EQ(world.take<Deliver>().size(), 3U);
    EXPECT_EQ(world.core.next_timer() <= world.now + second, true);
    world.pass(second - Duration(1));
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.pass(Duration(1));
    EXPECT_EQ(world.take<Deliver>().size(), 3U);
    world.pass(second);
    EXPECT_EQ(world.take<Deliver>().size(), 2U);
}

TEST(Core, NothingIsLeftBehind) {
    World world;
    for (const char* const domain : {"x.test", "y.test"}) {
        world.admit(domain, "tenant");
        world.resolve(domain, {{domain, 0}});
        const Deliver deliver = world.take_delivery();
        world.opened(deliver);
        world.done(deliver, false);
        world.closed(deliver.session);
    }
    world.pass(Duration(3'600'000));
    const Stats stats = world.core.stats();
    EXPECT_EQ(stats.items + stats.sessions + stats.lanes + stats.buckets + stats.routes, 0U);
    EXPECT_EQ(world.core.next_timer(), Instant::max());
}

TEST(Core, TheSameEventsGiveTheSameActions) {
    const auto run = [] {
        World world;
        std::vector<std::vector<std::uint32_t>> order;
        for (int i = 0; i < 8; ++i) world.admit("x.test");
        world.resolve("x.test", {{"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}});
        for (const Deliver& deliver : world.take<Deliver>()) order.push_back(deliver.candidates);
        return order;
    };
    const auto order = run();
    EXPECT_EQ(order, run());
    EXPECT_GT(std::set(order.begin(), order.end()).size(), 1U) << "equal candidates are shuffled for each delivery";
}

}  // namespace
}  // namespace sluice::queue
