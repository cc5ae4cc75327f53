// Suspensions that come and go while the core runs.

#include <algorithm>
#include <map>

#include "queue/run_time_test_world.h"
#include "queue/views.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(RunTime, ASuspensionHoldsMailUntilItIsLifted) {
    set(suspension("{recipientdomain: x.test, author: me}"));
    const auto changes = world->take<SuspensionChanged>();
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_EQ(changes[0].change, Change::added);
    EXPECT_EQ(changes[0].by, "me");
    mail(3);
    mail(2, "y.test");
    world->resolve("x.test");
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(count_started(), 2U) << "the other domain goes";
    EXPECT_EQ(world->core.stats().ready, 3U);
    EXPECT_EQ(view().lanes, 1U);
    EXPECT_TRUE(view().in_force);
    world->pass(minute);
    EXPECT_EQ(count_started(), 0U);
    lift();
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 3U);
    const auto removed = world->take<SuspensionChanged>();
    ASSERT_EQ(removed.size(), 1U);
    EXPECT_EQ(removed[0].change, Change::removed);
    EXPECT_EQ(removed[0].reason, "enough");
    EXPECT_EQ(world->core.stats().suspensions, 0U);
    lift();
    EXPECT_THAT(world->take<SuspensionChanged>(), IsEmpty()) << "it is gone";
}

TEST_F(RunTime, NothingHappensForASuspendedLane) {
    set(suspension("{}"));
    mail(1'000);
    world->resolve("x.test");
    // The next thing to happen is the end of the route, then of the messages.
    EXPECT_GE(world->core.next_timer(), world->now + minute);
    EXPECT_EQ(world->core.stats().lanes, 1U);
    mail(1'000);
    EXPECT_EQ(count_started(), 0U);
}

TEST_F(RunTime, MailThatWaitsForASlotIsSuspendedWhenItsTurnComes) {
    start(options(1));
    mail(3);
    world->resolve("x.test");
    const Deliver first = world->take_delivery();
    world->opened(first);
    set(suspension("{recipientdomain: x.test}"));
    world->done(first);
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(view().lanes, 1U);
    world->pass(10 * second);
    EXPECT_EQ(world->take<Close>().size(), 1U) << "the idle session is not kept for it";
    world->closed(first.session);
    EXPECT_EQ(count_started(), 0U);
    lift();
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 1U);
}

TEST_F(RunTime, EndsByItselfAndSaysSo) {
    set(suspension("{tenantid: a, ttl: 60}"));
    world->take<SuspensionChanged>();
    mail(1, "x.test", "a");
    mail(1, "x.test", "b");
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 1U);
    world->pass(60 * second - Duration(1));
    EXPECT_EQ(count_started(), 0U);
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 1U);
    const auto changes = world->take<SuspensionChanged>();
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_EQ(changes[0].change, Change::expired);
    EXPECT_TRUE(changes[0].recorded);
}

TEST_F(RunTime, AnotherWithItsIdReplacesIt) {
    set(suspension("{recipientdomain: x.test, ttl: 60}"));
    mail(1, "x.test");
    mail(1, "y.test");
    world->resolve("x.test");
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(count_started(), 1U);
    set(suspension("{recipientdomain: [y.test, z.test], ttl: 600}"));
    EXPECT_EQ(world->take<SuspensionChanged>().back().change, Change::updated);
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 1U) << "x.test is free";
    mail(1, "y.test");
    world->pass(100 * second);
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(world->core.stats().suspensions, 1U);
    // Longer, and otherwise the same.
    EXPECT_EQ(world->core.same_as(suspension("{recipientdomain: [y.test, z.test]}")), "s");
    EXPECT_EQ(world->core.same_as(suspension("{recipientdomain: y.test}")), "");
}

TEST_F(RunTime, WindowsOpenAndClose) {
    // 2026-11-18 11:06:40 UTC: in force from minute 10 to 19 of each hour.
    set(suspension("{cron: '10-19 * * * *'}"));
    mail(1);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 1U);
    EXPECT_FALSE(view().in_force);
    world->pass(4 * minute);
    EXPECT_TRUE(view().in_force);
    mail(2);
    EXPECT_EQ(count_started(), 0U);
    world->pass(9 * minute);
    EXPECT_EQ(count_started(), 0U);
    world->pass(minute);
    EXPECT_EQ(count_started(), 2U);
    EXPECT_FALSE(view().in_force);
}

TEST_F(RunTime, CandidatesThatAreSuspendedAreLeftOut) {
    set(suspension("{remotemx: [mx.a, mx.z]}"));
    mail(1);
    world->resolve("x.test", {{"a", 0}, {"b", 0}, {"c", 10}});
    Deliver deliver = world->take_delivery();
    EXPECT_THAT(deliver.candidates, ElementsAre(1U));
    EXPECT_FALSE(deliver.last_resort);
    set(suspension("{id: t, remotemx: MX.B}"));
    mail(1);
    deliver = world->take_delivery();
    EXPECT_THAT(deliver.candidates, ElementsAre(2U)) << "the next level";
    EXPECT_TRUE(deliver.last_resort) << "as if the others were not there";
    set(suspension("{id: u, remotemx: /c$/}"));
    mail(1);
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(view("s").lanes, 1U);
    EXPECT_EQ(view("t").lanes, 1U);
    EXPECT_EQ(view("u").lanes, 1U);
    lift("t");
    world->pass(Duration(1));
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(1U));
}

TEST_F(RunTime, AnItemDoesNotWaitForSuspendedHostsWhenTheOthersFailed) {
    set(suspension("{remotemx: mx.a}"));
    mail(1);
    world->resolve("x.test", {{"a", 0}, {"b", 10}, {"c", 20}});
    const Deliver first = world->take_delivery();
    EXPECT_THAT(first.candidates, ElementsAre(1U));
    EXPECT_FALSE(first.last_resort);
    set(suspension("{id: t, remotemx: mx.c}"));
    AttemptEnded ended = world->ending(first, Verdict::next_candidate, false);
    ended.unhealthy = {1};
    world->tell(ended);
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(world->take<Conclude>().size(), 1U) << "it is tried again in its time, with all that works then";
}

TEST_F(RunTime, ASessionOnASuspendedHostIsNotTakenUpAgain) {
    start(options(1));
    mail(2);
    world->resolve("x.test");
    const Deliver first = world->take_delivery();
    world->opened(first);
    set(suspension("{remotemx: mx.a}"));
    AttemptEnded ended = world->ending(first, Verdict::fresh_session, false);
    world->tell(ended);
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(world->take<Conclude>().size(), 1U) << "it is under way, and tried again in its time";
    world->closed(first.session);
    EXPECT_EQ(count_started(), 0U);
    lift();
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 1U) << "the other one";
}

TEST_F(RunTime, SessionsThatAreOpenGoOn) {
    for (const char* const yaml : {"{recipientdomain: x.test, new_connections_only: true}", "{remotemx: mx.a, new_connections_only: true}"}) {
        start(options(2));
        mail(3);
        world->resolve("x.test");
        std::vector<Deliver> both = started();
        ASSERT_EQ(both.size(), 2U);
        world->opened(both[0]);
        world->opened(both[1]);
        set(suspension(yaml));
        world->done(both[0]);
        const Deliver third = world->take_delivery();
        EXPECT_FALSE(third.open) << yaml;
        world->done(both[1], false);
        world->closed(both[1].session);
        world->done(third, false);
        world->closed(third.session);
        mail(1);
        EXPECT_EQ(count_started(), 0U) << yaml;
        lift();
        world->pass(Duration(1));
        EXPECT_EQ(count_started(), 1U) << yaml;
    }
}

TEST_F(RunTime, APercentageTakesTheSameMessagesAlways) {
    for (const char* const yaml : {"{recipientdomain: x.test, percent: 75}", "{remotemx: mx.a, percent: 75}"}) {
        start(options(0, 0));
        set(suspension(yaml));
        mail(2'000);
        world->resolve("x.test");
        std::vector<Deliver> through = started();
        EXPECT_NEAR(static_cast<double>(through.size()), 500, 60) << yaml;
        for (const Deliver& deliver : through) EXPECT_GE(policy::leak_hash(deliver.work.item.message.value) % 1'000, 750U);
        EXPECT_EQ(view().lanes, 1U) << "those taken wait in one lane";
        // Deferred ones come back, and pass again.
        world->opened(through[0]);
        world->defer(through[0], minute, false);
        world->closed(through[0].session);
        world->pass(minute);
        EXPECT_EQ(count_started(), 1U);
        lift();
        for (int i = 0; i < 10; ++i) world->pass(Duration(1));
        EXPECT_EQ(count_started(), 2'000 - through.size());
    }
}

TEST_F(RunTime, PercentagesMayOverlap) {
    start(options(0, 0));
    set(suspension("{id: half, remotemx: mx.a, percent: 50}"));
    set(suspension("{id: most, remotemx: mx.b, percent: 90}"));
    set(suspension("{id: early, tenantid: t, percent: 20}"));
    mail(3'000, "x.test", "t");
    world->resolve("x.test", {{"a", 0}, {"b", 0}});
    const auto share = [](const Deliver& deliver) { return policy::leak_hash(deliver.work.item.message.value) % 1'000; };
    std::map<std::size_t, int> ways;  // how many candidates were open
    for (const Deliver& deliver : started()) {
        EXPECT_GE(share(deliver), 500U);
        EXPECT_EQ(deliver.candidates.size(), share(deliver) >= 900 ? 2U : 1U);
        ++ways[deliver.candidates.size()];
    }
    EXPECT_NEAR(ways[1], 1'200, 120);
    EXPECT_NEAR(ways[2], 300, 80);
    lift("most");
    for (int i = 0; i < 10; ++i) world->pass(Duration(1));
    EXPECT_NEAR(static_cast<double>(count_started()), 900, 110) << "those from 20 to 50 per cent take the other host";
    lift("early");
    lift("half");
    for (int i = 0; i < 10; ++i) world->pass(Duration(1));
    EXPECT_EQ(world->core.stats().ready, 0U);
}

TEST_F(RunTime, SuspendedMailExpires) {
    set(suspension("{percent: 50}"));
    set(suspension("{id: all, recipientdomain: y.test}"));
    mail(40);
    mail(5, "y.test");
    world->resolve("x.test");
    world->resolve("y.test", {{"b", 0}});
    const std::size_t through = count_started();
    EXPECT_GT(through, 5U);
    world->pass(Options{}.lifetime);
    EXPECT_EQ(world->take<Conclude>().size(), 45 - through);
}

TEST_F(RunTime, ManyLanesGoOnInSteps) {
    start(options(0, 0));
    set(suspension("{}"));
    constexpr int domains = 1'700;
    for (int i = 0; i < domains; ++i) {
        const std::string name = "d" + std::to_string(i) + ".test";
        world->core.handle(world->mail(name), world->now, world->actions);
        world->core.handle(RouteResolved{name, world->route(name, {{"h" + std::to_string(i), 0}})}, world->now, world->actions);
    }
    EXPECT_EQ(count_started(), 0U);
    lift();
    EXPECT_EQ(count_started(), 0U) << "who lifts it does not wait for that";
    world->pass(Duration(1));
    const std::size_t first = count_started();
    EXPECT_GT(first, 0U);
    EXPECT_LT(first, 1'000U);
    for (int i = 0; i < 9; ++i) world->pass(Duration(1));
    EXPECT_EQ(first + count_started(), static_cast<std::size_t>(domains));
    EXPECT_EQ(world->core.stats().suspensions, 0U);
}

TEST_F(RunTime, StartsSuspendedUntilItIsResumed) {
    start(with_file("start_suspended: true\n"));
    mail(2);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 0U);
    EXPECT_TRUE(view(start_suspension).in_force);
    world->tell(Configure{with_file("start_suspended: false\n")});
    EXPECT_EQ(count_started(), 0U);
    lift(start_suspension);
    world->pass(Duration(1));
    EXPECT_EQ(count_started(), 2U);
    EXPECT_FALSE(world->take<SuspensionChanged>().back().recorded);
    world->tell(Configure{with_file("start_suspended: true\n")});
    mail(1);
    EXPECT_EQ(count_started(), 1U) << "a reload is no start";
}

TEST_F(RunTime, TheFileIsObeyedAndReloaded) {
    const char* const two = "- {recipientdomain: x.test, ttl: 60}\n- {tenantid: a}\n";
    start(with_file(two));
    mail(1);
    mail(1, "y.test", "a");
    world->resolve("x.test");
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(count_started(), 0U);
    EXPECT_TRUE(view("line 1").of_file);
    EXPECT_EQ(view("line 1").expires, world->now + minute) << "from the start on, whenever the file was read";
    world->pass(30 * second);
    world->tell(Configure{with_file(two)});
    world->pass(30 * second);
    EXPECT_EQ(count_started(), 1U) << "its time went on";
    world->tell(Configure{with_file(two)});
    mail(1);
    EXPECT_EQ(count_started(), 1U) << "what is over does not begin again because something is reloaded";
    lift("line 2");
    world->pass(second);
    EXPECT_EQ(count_started(), 0U) << "the file says so";
    world->tell(Configure{with_file("")});
    world->pass(second);
    EXPECT_EQ(count_started(), 1U);
    EXPECT_THAT(world->take<SuspensionChanged>(), IsEmpty()) << "nothing to record";
}

TEST_F(RunTime, ASuspensionOutlastsDisabling) {
    set(suspension("{recipientdomain: x.test}"));
    mail(2);
    world->resolve("x.test");
    Options off;
    off.disabled = true;
    world->tell(Configure{off});
    lift();
    world->pass(second);
    EXPECT_EQ(count_started(), 0U);
    world->tell(Configure{Options{}});
    EXPECT_EQ(count_started(), 2U);
    world->pass(second);
    EXPECT_EQ(world->core.stats().suspensions, 0U);
}

// Its lane is not the first to have a turn afterwards.
TEST_F(RunTime, ASuspensionLiftedWhileDisabledHoldsNobodyAfterwards) {
    set(suspension("{recipientdomain: y.test}"));
    for (const char* domain : {"x.test", "y.test"}) {
        mail(1, domain);
        world->resolve(domain);
    }
    ASSERT_EQ(count_started(), 1U);
    Options off;
    off.disabled = true;
    off.lanes_at_once = 1;
    world->tell(Configure{off});
    lift();
    world->pass(second);
    Options on = off;
    on.disabled = false;
    world->tell(Configure{on});
    world->core.audit();
    world->pass(second);
    EXPECT_EQ(count_started(), 1U);
    EXPECT_EQ(world->core.stats().suspensions, 0U);
}

TEST_F(RunTime, TellsWhatASuspensionWouldStop) {
    start(options(1));
    mail(100);
    mail(50, "y.test");
    world->resolve("x.test", {{"a", 0}, {"b", 0}});
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(world->core.reach_of(suspension("{recipientdomain: x.test}")).items, 99U);
    EXPECT_EQ(world->core.reach_of(suspension("{remotemx: mx.b}")).items, 148U);
    EXPECT_EQ(world->core.reach_of(suspension("{percent: 50}")).items, 73U);
    EXPECT_EQ(world->core.reach_of(suspension("{tenantid: t}")).items, 0U);
}

TEST_F(RunTime, WhatWasRecordedIsNotRecordedAgain) {
    policy::Suspension old = suspension("{recipientdomain: x.test, ttl: 60}");
    old.since = world->now - 50 * second;
    old.expires = world->now + 10 * second;
    world->tell(SetSuspension{old, true});
    policy::Suspension over = suspension("{id: over}");
    over.expires = world->now - second;
    world->tell(SetSuspension{over, true});
    EXPECT_THAT(world->actions, IsEmpty());
    mail(1);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 0U);
    world->pass(10 * second);
    EXPECT_EQ(world->take<SuspensionChanged>().size(), 2U) << "both are over";
    EXPECT_EQ(count_started(), 1U);
}

TEST_F(RunTime, FieldsThatOnlyASuspensionAsksForTellLanesApart) {
    const auto admit = [&](const char* job, const char* stream) {
        Admit one = world->mail("x.test");
        one.job = job;
        one.marks = {{"notes.other", "same"}, {"notes.stream", stream}};
        world->tell(one);
    };
    start(options(1));
    for (int i = 0; i < 3; ++i) admit("one", "a");
    for (int i = 0; i < 3; ++i) admit("two", "b");
    set(suspension("{jobid: one}"));
    set(suspension("{id: t, notes.stream: b}"));
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 0U);
    lift();
    const std::vector<Deliver> first = started();
    ASSERT_EQ(first.size(), 0U) << "goes on a little later";
    world->pass(second);
    const std::vector<Deliver> then = started();
    ASSERT_EQ(then.size(), 1U);
    EXPECT_EQ(world->core.find(then[0].work.item)->job, "one");
    world->core.audit();
    // Policies number notes their own way.
    Options other = with("[{fields: [notes.other], default: {concurrency: 5}}]", 5);
    world->tell(Configure{other});
    for (const Deliver& deliver : started()) EXPECT_EQ(world->core.find(deliver.work.item)->job, "one");
    lift("t");
    world->pass(second);
    EXPECT_EQ(count_started(), 2U);
    world->core.audit();
}

TEST_F(RunTime, AnAddressThatIsSuspendedLeavesTheOthersOfItsTransport) {
    Options made = options(50);
    LocalPool pool{"bulk", LocalPool::Order::fill, {{"192.0.2.1", 1, ""}, {"192.0.2.2", 1, ""}}};
    made.transports = {pool};
    start(made);
    set(suspension("{localip: 192.0.2.1}"));
    const auto admit = [&] {
        Admit one = world->mail("x.test");
        one.transport = "bulk";
        world->tell(one);
    };
    admit();
    world->resolve("x.test");
    std::vector<Deliver> sent = started();
    ASSERT_EQ(sent.size(), 1U);
    EXPECT_EQ(sent[0].bind, "192.0.2.2");
    set(suspension("{id: t, localip: 192.0.2.2}"));
    admit();
    EXPECT_EQ(count_started(), 0U);
    lift();
    world->pass(second);
    sent = started();
    ASSERT_EQ(sent.size(), 1U);
    EXPECT_EQ(sent[0].bind, "192.0.2.1");
    world->core.audit();
}

TEST_F(RunTime, FiltersAndCountsFindWhatASuspensionHoldsBack) {
    set(suspension("{id: one, recipientdomain: x.test}"));
    set(suspension("{id: other, tenantid: big}"));
    mail(3);
    mail(2, "y.test", "big");
    mail(1, "z.test");
    world->resolve("x.test");
    world->resolve("y.test");
    const auto count = [&](std::string_view where) {
        Survey survey;
        survey.filter = *Filter::parse(where, world->core.fields());
        survey.by.push_back(*Column::parse("suspension", world->core.fields()));
        std::vector<Group> groups;
        world->core.survey(survey, 0, 1'000, groups);
        std::map<std::string, std::uint64_t> items;
        for (const Group& group : groups) {
            items[group.key.at(0)] = group.items;
            EXPECT_EQ(group.where.at(0), "suspension=" + quoted(std::string_view(group.key[0])));
        }
        return items;
    };
    using Items = std::map<std::string, std::uint64_t>;
    EXPECT_EQ(count(""), (Items{{"one", 3}, {"other", 2}, {"", 1}}));
    EXPECT_EQ(count("suspension=one"), (Items{{"one", 3}}));
    EXPECT_EQ(count("suspension!=one"), (Items{{"other", 2}, {"", 1}}));
    EXPECT_EQ(count("suspension=one,other"), (Items{{"one", 3}, {"other", 2}}));
    EXPECT_EQ(count("suspension!=\"\""), (Items{{"one", 3}, {"other", 2}}));
    EXPECT_EQ(count("suspension=\"\""), (Items{{"", 1}}));
    lift("other");
    EXPECT_EQ(count("suspension=other"), Items{});
}

TEST_F(RunTime, WhatLetsMailGoOnWhenItsTimeEndsComesTooLate) {
    world->resolve("x.test");
    set(suspension("{recipientdomain: x.test, ttl: 60}"));
    for (int i = 0; i < 3; ++i) {
        Admit one = world->mail("x.test");
        one.lifetime = std::chrono::seconds(60);
        world->tell(one);
    }
    world->resolve("x.test");
    world->now += 61 * second;
    world->tell(Tick{});
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(world->take<Conclude>().size(), 3U);
}

}  // namespace
}  // namespace sluice::queue
