// What happens to many lanes at once: hosts come to be avoided or are reached again, lanes are sorted anew.

#include <gmock/gmock.h>

#include <map>
#include <utility>

#include "queue/core_test_world.h"
#include "queue/sweep.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Hosts : public testing::Test {
protected:
    void start(const char* yaml) {
        Options made = options(50);
        made.policies = policies(yaml);
        made.unhealthy_for = minute;
        world = std::make_unique<World>(made);
    }
    // The host that cannot be reached is given back by whoever tried it.
    void unreachable(const Deliver& deliver, Verdict verdict = Verdict::next_candidate) {
        AttemptEnded failed = world->ending(deliver, verdict, false);
        failed.unhealthy = deliver.candidates;
        failed.next = world->now + minute * 60;
        world->tell(failed);
    }
    // Two items for x.test, whose hosts are a and, as the second best, b: a does not answer, and the first item is with b.
    void wait_for_the_better_host() {
        world->admit("x.test");
        world->resolve("x.test", {{"a", 0}, {"b", 1}});
        const Deliver first = world->take_delivery();
        unreachable(first);
        world->closed(first.session);
        EXPECT_THAT(world->take_delivery().candidates, ElementsAre(1));
        world->admit("x.test");
    }
    std::unique_ptr<World> world;
};

TEST_F(Hosts, WhoWaitsForAnotherHostGoesOnWhenTheMarkOfTheBetterOneEnds) {
    start("[{fields: [remotemx], default: {concurrency: 1}}]");
    wait_for_the_better_host();
    EXPECT_THAT(world->take<Deliver>(), IsEmpty()) << "b is busy, and a does not answer";
    world->pass(minute - second);
    EXPECT_THAT(world->take<Deliver>(), IsEmpty());
    EXPECT_LE(world->core.next_timer(), world->now + second);
    world->pass(second);
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(0));
}

TEST_F(Hosts, WhoWaitsForAnotherHostGoesOnWhenTheBetterOneIsReached) {
    start("[{fields: [remotemx], conditions: [{if: {remotemx: mx.a}, then: {concurrency: 2}}], default: {concurrency: 1}}]");
    wait_for_the_better_host();
    world->admit("y.test");
    world->resolve("y.test", {{"a", 0}});
    const Deliver other = world->take_delivery();  // it has no other host
    world->opened(other);
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(0)) << "a was reached";
}

TEST_F(Hosts, WhoWaitsForAHostTakesAnotherOneWhenItFails) {
    start("[{fields: [remotemx], conditions: [{if: {remotemx: mx.a}, then: {rate: 1/3600}}]}]");
    world->admit("y.test");
    world->resolve("y.test", {{"a", 0}});
    const Deliver other = world->take_delivery();
    world->admit("x.test");
    world->resolve("x.test", {{"a", 0}, {"b", 1}});
    EXPECT_THAT(world->take<Deliver>(), IsEmpty()) << "a's message of this hour is under way";
    unreachable(other, Verdict::deferred);
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(1));
}

TEST_F(Hosts, AHostStaysAvoidedWhenTheLastRouteToItWasForgotten) {
    start("[]");
    world->admit("y.test");
    world->resolve("y.test", {{"a", 0}});
    const Deliver only = world->take_delivery();
    AttemptEnded failed = world->ending(only, Verdict::done, false);
    failed.unhealthy = {0};
    world->tell(failed);
    world->closed(only.session);
    world->tell(Configure{Options()});  // unused routes are forgotten
    EXPECT_EQ(world->core.stats().routes, 0U);
    world->admit("x.test");
    world->resolve("x.test", {{"a", 0}, {"b", 1}});
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(1));
    world->pass(minute);
    world->admit("x.test");
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(0));
}

// ---- lanes are sorted anew -------------------------------------------------------------------------------------

class Sorting : public testing::Test {
protected:
    static constexpr int jobs = 4;
    static Options with(const char* yaml, std::uint32_t at_once) {
        Options made = options(1'000);
        made.policies = policies(yaml);
        made.lanes_at_once = at_once;
        return made;
    }
    ItemId admit(World& world, int job) {
        Admit mail = world.mail("x.test");
        mail.job = "job" + std::to_string(job);
        job_of[mail.id] = job;
        world.tell(mail);
        return mail.id;
    }
    // What starts counts for its job, until it has ended.
    void note(World& world) {
        for (Deliver& deliver : world.take<Deliver>()) {
            const int job = job_of.at(deliver.work.item);
            EXPECT_LT(job, jobs);
            EXPECT_LE(++running[job], limit) << "job " << job;
            busy.push_back(std::move(deliver));
        }
    }
    void end_all(World& world) {
        for (const Deliver& deliver : std::exchange(busy, {})) {
            if (deliver.open) world.opened(deliver);
            --running[job_of.at(deliver.work.item)];
            ++ended;
            world.done(deliver);
            note(world);
        }
    }

    std::map<ItemId, int> job_of;
    std::map<int, int> running;
    int limit = 1'000;
    int ended = 0;
    std::vector<Deliver> busy;
};

TEST_F(Sorting, WaitingMailIsSortedInStepsAndEveryLimitHoldsMeanwhile) {
    World world(with("[{fields: [recipientdomain], default: {concurrency: 2}}]", 5));
    for (int i = 0; i < 200; ++i) admit(world, i % jobs);
    world.resolve("x.test");
    note(world);
    ASSERT_EQ(busy.size(), 2U);

    world.tell(Configure{with("[{fields: [jobid], default: {concurrency: 3}}]", 5)});
    limit = 3;
    note(world);
    EXPECT_GT(world.core.stats().backlog, 0U);
    EXPECT_EQ(world.core.stats().lanes, 1U + jobs) << "some are sorted, others stand where they stood";
    int steps = 0;
    for (; world.core.stats().backlog > 0 && steps < 1'000; ++steps) {
        ASSERT_GT(world.core.next_timer(), world.now);
        if (steps % 5 == 0) admit(world, steps % jobs);
        if (steps % 7 == 0) end_all(world);
        world.now = world.core.next_timer();
        world.tell(Tick{});
        note(world);
    }
    EXPECT_GT(steps, 10);
    EXPECT_EQ(busy.size(), 3U * jobs) << "as many of each job as may";
    while (!busy.empty()) end_all(world);
    EXPECT_EQ(ended, static_cast<int>(job_of.size()));
    EXPECT_EQ(world.core.stats().items, 0U);
}

TEST_F(Sorting, MailOfOneJobIsNotHeldUpByWhatStandsBeforeItUnsorted) {
    World world(with("[{fields: [recipientdomain], default: {concurrency: 1}}]", 1));
    for (int i = 0; i < 100; ++i) admit(world, 0);
    admit(world, 1);
    world.resolve("x.test");
    note(world);
    limit = 1;
    world.tell(Configure{with("[{fields: [jobid], default: {concurrency: 1}}]", 1)});
    for (int i = 0; i < 500 && world.core.stats().backlog > 0; ++i) world.pass(Duration(2));
    note(world);
    EXPECT_EQ(busy.size(), 2U) << "one of each job";
}

TEST_F(Sorting, WhatIsTakenOutOfAnUnsortedLaneIsNotLookedForThere) {
    World world(with("[{fields: [recipientdomain], default: {concurrency: 1}}]", 1));
    std::vector<ItemId> items;
    for (int i = 0; i < 70; ++i) items.push_back(admit(world, i % 2));
    world.resolve("x.test");
    world.tell(Configure{with("[{fields: [jobid], default: {concurrency: 1}}]", 1)});
    for (const ItemId item : items) world.tell(Remove{{item, {}}});
    for (const Deliver& deliver : world.take<Deliver>()) world.done(deliver, false);
    EXPECT_EQ(world.core.stats().items, 0U);
    for (int i = 0; i < 10; ++i) world.pass(second);
    EXPECT_EQ(world.core.stats().backlog, 0U);
}

TEST_F(Sorting, WhatASuspensionHasSetAsideStaysThere) {
    World world(with("[{fields: [recipientdomain], default: {concurrency: 1}}]", 3));
    Problems problems;
    policy::Suspension half = *policy::parse_suspension("{id: half, percent: 50}", "test", policy::PolicySet(), problems);
    world.tell(SetSuspension{std::move(half)});
    for (int i = 0; i < 60; ++i) admit(world, i % jobs);
    world.resolve("x.test");
    note(world);
    for (int i = 0; i < 40; ++i) end_all(world);
    const int before = ended;
    EXPECT_EQ(world.core.stats().ready, static_cast<std::uint64_t>(60 - before));
    Options other = with("[{fields: [recipientdomain], default: {concurrency: 1}}]", 3);
    other.sources4 = {"192.0.2.1"};
    world.tell(Configure{other});
    for (int i = 0; i < 500 && world.core.stats().backlog > 0; ++i) world.pass(Duration(2));
    EXPECT_EQ(world.core.stats().backlog, 0U);
    EXPECT_EQ(world.core.stats().ready, static_cast<std::uint64_t>(60 - before));
    world.tell(RemoveSuspension{"half", "me", ""});
    for (int i = 0; i < 100; ++i) {
        world.pass(Duration(2));
        for (const Close& close : world.take<Close>()) world.closed(close.session);  // it came from another address
        note(world);
        end_all(world);
    }
    EXPECT_EQ(ended, 60);
}

TEST_F(Sorting, AnotherReloadBeforeTheEndBeginsAnew) {
    World world(with("[{fields: [recipientdomain], default: {concurrency: 1}}]", 3));
    for (int i = 0; i < 60; ++i) admit(world, i % jobs);
    world.resolve("x.test");
    world.tell(Configure{with("[{fields: [jobid], default: {concurrency: 2}}]", 3)});
    EXPECT_GT(world.core.stats().backlog, 0U);
    world.tell(Configure{with("[{fields: [jobid, senderdomain], default: {concurrency: 1}}]", 3)});
    for (int i = 0; i < 500 && world.core.stats().backlog > 0; ++i) world.pass(Duration(2));
    EXPECT_EQ(world.core.stats().backlog, 0U);
    int ends = 0;
    for (std::vector<Deliver> started = world.take<Deliver>(); !started.empty(); started = world.take<Deliver>()) {
        for (const Deliver& deliver : started) {
            world.done(deliver, false);
            world.closed(deliver.session);
            ++ends;
        }
    }
    EXPECT_EQ(ends, 60);
}

// ---- other policies, a few buckets and lanes at a time ---------------------------------------------------------

class Reloading : public Sorting {
protected:
    static constexpr int tenants = 40;
    static std::string tenant(int number) { return "tenant" + std::to_string(number); }
    void send(World& world, int number) {
        Admit mail = world.mail("x.test");
        mail.tenant = tenant(number);
        world.tell(mail);
    }
    static std::size_t end_all(World& world) {
        std::size_t ends = 0;
        while (!world.actions.empty()) {
            for (const Close& close : world.take<Close>()) world.closed(close.session);
            for (const Resolve& asked : world.take<Resolve>()) world.resolve(asked.key);
            const std::vector<Deliver> started = world.take<Deliver>();
            for (const Deliver& deliver : started) {
                if (deliver.open) world.opened(deliver);
                world.done(deliver);
                ++ends;
            }
        }
        return ends;
    }
    // Every tenant has used up what it may send today.
    void use_up(World& world) {
        send(world, 0);
        world.resolve("x.test");
        for (int i = 1; i < tenants; ++i) send(world, i);
        EXPECT_EQ(end_all(world), static_cast<std::size_t>(tenants));
        EXPECT_GE(world.core.stats().buckets, static_cast<std::size_t>(tenants));
    }
    // What the reload means is found out step by step; meanwhile all send mail.
    template <class Each>
    static int step_through(World& world, Each each) {
        int steps = 0;
        for (; world.core.stats().backlog > 0 && steps < 1'000; ++steps) {
            each(steps);
            world.pass(Duration(2));
        }
        return steps;
    }
};

TEST_F(Reloading, WhatBucketsRememberHoldsInEveryStep) {
    const char* const daily = "{fields: [tenantid], default: {rate: 1/86400}}";
    World world(with(("[" + std::string(daily) + "]").c_str(), 3));
    use_up(world);
    world.tell(Configure{with(("[{fields: [recipientdomain], default: {concurrency: 9}}, " + std::string(daily) + "]").c_str(), 3)});
    const int steps = step_through(world, [&](int step) {
        if (step % 2 == 0) return;
        for (const int number : {step % tenants, tenants - 1 - step % tenants}) send(world, number);
        EXPECT_EQ(end_all(world), 0U) << "today's message of these tenants has gone out, step " << step;
    });
    EXPECT_GT(steps, 10);
    for (int i = 0; i < tenants; ++i) send(world, i);
    EXPECT_EQ(end_all(world), 0U);
    send(world, tenants);
    EXPECT_EQ(end_all(world), 1U);
    EXPECT_EQ(step_through(world, [](int) {}), 0);
}

TEST_F(Reloading, SoItDoesWhenTheNextReloadComesBeforeTheLastStep) {
    const std::string daily = "{fields: [tenantid], default: {rate: 1/86400}}";
    World world(with(("[" + daily + "]").c_str(), 3));
    use_up(world);
    for (int again = 0; again < 4; ++again) {
        const std::string first = again % 2 == 0 ? "{fields: [recipientdomain], default: {concurrency: 9}}, " : "";
        world.tell(Configure{with(("[" + first + daily + "]").c_str(), 3)});
        EXPECT_GT(world.core.stats().backlog, 0U);
        for (int i = again; i < again + 10; ++i) send(world, i);
        EXPECT_EQ(end_all(world), 0U);
        world.pass(Duration(2));
    }
    step_through(world, [](int) {});
    for (int i = 0; i < tenants; ++i) send(world, i);
    EXPECT_EQ(end_all(world), 0U);
}

TEST_F(Reloading, OtherLimitsHoldAtOnceAndWhoWaitsHasATurn) {
    World world(with("[{fields: [tenantid], default: {concurrency: 2}}]", 3));
    send(world, 0);
    world.resolve("x.test");
    for (int i = 1; i < tenants; ++i) send(world, i);
    for (int i = 0; i < tenants; ++i) {
        for (int more = 0; more < 3; ++more) send(world, i);
    }
    std::vector<Deliver> running = world.take<Deliver>();
    ASSERT_EQ(running.size(), 2U * tenants);
    world.tell(Configure{with("[{fields: [tenantid], conditions: [{if: {tenantid: tenant39}, then: {concurrency: 1}}], default: {concurrency: 3}}]", 3)});
    const auto of_the_last = [&](const Deliver& deliver) { return world.core.find(deliver.work.item)->tenant == tenant(tenants - 1); };
    for (const Deliver& deliver : running) {
        if (!of_the_last(deliver)) continue;
        if (deliver.open) world.opened(deliver);
        world.done(deliver);
        break;
    }
    std::size_t started = 0;
    const auto note = [&] {
        for (const Deliver& deliver : world.take<Deliver>()) {
            EXPECT_FALSE(of_the_last(deliver)) << "one of its messages is still under way";
            ++started;
        }
    };
    step_through(world, [&](int) { note(); });
    note();
    EXPECT_EQ(started, tenants - 1U) << "one more of each of the others";
}

TEST_F(Reloading, LanesWaitForWhatIsCountedNowWhenTheyHaveHadTheirTurn) {
    World world(with("[{fields: [], default: {concurrency: 1}}]", 3));
    send(world, 0);
    world.resolve("x.test");
    for (int i = 1; i < tenants; ++i) {
        for (int more = 0; more < 2; ++more) send(world, i);
    }
    ASSERT_EQ(world.take<Deliver>().size(), 1U);
    world.tell(Configure{with("[{fields: [tenantid], default: {concurrency: 1}}]", 3)});
    const int steps = step_through(world, [](int) {});
    EXPECT_GT(steps, 10);
    EXPECT_EQ(world.take<Deliver>().size(), tenants - 1U) << "one of each, none of who has one already";
    EXPECT_EQ(world.core.stats().ready, tenants - 1U);
}

TEST(SweepTest, BegunAnewItGoesOnFromWhereItIs) {
    Sweep sweep;
    EXPECT_EQ(sweep.left(), 0U);
    sweep.begin(3);
    EXPECT_EQ(sweep.next(), 0U);
    EXPECT_FALSE(sweep.covers(0));
    EXPECT_TRUE(sweep.covers(2));
    sweep.begin(4);
    EXPECT_TRUE(sweep.covers(0));
    EXPECT_FALSE(sweep.covers(4));
    std::vector<Index> seen;
    while (sweep.left() > 0) seen.push_back(sweep.next());
    EXPECT_THAT(seen, ElementsAre(1, 2, 3, 0));
}

}  // namespace
}  // namespace sluice::queue
