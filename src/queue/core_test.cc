#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "queue/core.h"
#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

std::vector<std::string> keys(const std::vector<Resolve>& asked) {
    std::vector<std::string> out;
    for (const Resolve& resolve : asked) out.push_back(resolve.key);
    return out;
}

TEST(Core, AdmitResolveDeliverEnd) {
    World world;
    const ItemId item = world.admit("x.test");
    EXPECT_THAT(keys(world.take<Resolve>()), ElementsAre("x.test"));
    EXPECT_EQ(world.core.find(item)->state, ItemState::ready);

    world.resolve("x.test", {{"a", 0}, {"b", 0}, {"c", 1}});
    const Deliver deliver = world.take_delivery();
    EXPECT_TRUE(deliver.open);
    EXPECT_THAT(deliver.candidates, UnorderedElementsAre(0, 1)) << "one level only";
    EXPECT_FALSE(deliver.last_resort);
    EXPECT_EQ(world.core.find(item)->state, ItemState::sending);

    world.opened(deliver, 1);
    world.done(deliver);
    EXPECT_EQ(world.core.find(item), std::nullopt);
    EXPECT_EQ(world.core.stats().idle_sessions, 1U);
}

TEST(Core, PlacesAreGoneThroughInBoundedStretches) {
    World world;
    std::vector<ItemId> all;
    for (int i = 0; i < 10; ++i) all.push_back(world.admit("x.test"));

    std::vector<ItemId> met;
    std::optional<Core::Place> next = Core::Place{0};
    int stretches = 0;
    while (next) {
        next = world.core.each_from(*next, 4, [&](const ItemView& item) {
            met.push_back(item.id);
            return met.size() != 2;  // ends this stretch, after the item
        });
        // What leaves is passed over; what comes may take its place.
        if (++stretches == 2) world.tell(Remove{Selection{all[7], ""}});
    }
    EXPECT_EQ(stretches, 3);
    all.erase(all.begin() + 7);
    EXPECT_EQ(met, all);
    EXPECT_FALSE(world.core.each_from(1'000, 4, [](const ItemView&) { return true; }).has_value());
}

TEST(Core, OneQuestionForAllWhoWaitForARoute) {
    World world(options(2));
    for (int i = 0; i < 5; ++i) world.admit("x.test");
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
    world.resolve("x.test");
    EXPECT_EQ(world.take<Deliver>().size(), 2U);
}

TEST(Core, RouteFailureConcludesEveryWaitingItem) {
    World world;
    const ItemId one = world.admit("x.test");
    const ItemId two = world.admit("x.test");
    world.tell(RouteResolved{"x.test", fail(Errc::dns_no_domain, "no such domain")});
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_EQ(concluded.size(), 2U);
    EXPECT_EQ(concluded[0].work.item, one);
    EXPECT_EQ(concluded[1].error.code, Errc::dns_no_domain);

    AttemptEnded deferred;
    deferred.item = two;
    deferred.verdict = Verdict::deferred;
    deferred.next = world.now + minute;
    world.tell(deferred);
    EXPECT_EQ(world.core.find(two)->attempts, 1);
    world.take<Resolve>();
    world.pass(minute);
    EXPECT_THAT(keys(world.take<Resolve>()), ElementsAre("x.test")) << "a failure is not cached by the core";
}

TEST(Core, RouteIsCachedUntilItExpiresAndRefreshedWhileNeeded) {
    World world(options(1));
    world.admit("x.test");
    world.resolve("x.test");
    world.admit("x.test");
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
    world.pass(Duration(3'600'000));
    EXPECT_EQ(world.take<Resolve>().size(), 1U) << "an item still waits for its turn";
    world.tell(RouteResolved{"x.test", fail(Errc::dns_temporary, "SERVFAIL")});
    EXPECT_EQ(world.take<Conclude>().size(), 1U);
}

TEST(Core, BusySessionTakesTheNextItemAtOnce) {
    World world(options(1));
    world.admit("x.test");
    const ItemId second_item = world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    const Deliver next = world.take_delivery();
    EXPECT_FALSE(next.open);
    EXPECT_EQ(next.session, first.session);
    EXPECT_EQ(next.work.item, second_item);
    EXPECT_TRUE(next.candidates.empty());
    EXPECT_TRUE(next.last_resort);
}

TEST(Core, LimitsHoldUntilSessionClosed) {
    World world(options(2));
    for (int i = 0; i < 4; ++i) world.admit("x.test");
    world.resolve("x.test");
    std::vector<Deliver> started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 2U);
    world.opened(started[0]);
    world.done(started[0], false);
    EXPECT_TRUE(world.take<Deliver>().empty()) << "the slot is still counted";
    world.closed(started[0].session);
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
}

TEST(Core, IdleSessionServesSiblingDomainsOfTheSameHost) {
    World world;
    world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    world.admit("y.test");
    world.resolve("y.test", {{"b", 0}, {"a", 0}});
    const Deliver reused = world.take_delivery();
    EXPECT_FALSE(reused.open);
    EXPECT_EQ(reused.session, first.session);
    std::map<std::string, std::uint64_t> sessions;
    world.core.each_domain([&](const DomainStats& stats) {
        sessions[std::string(stats.domain)] = stats.sessions;
        return true;
    });
    EXPECT_EQ(sessions, (std::map<std::string, std::uint64_t>{{"y.test", 1}})) << "its slot moved along";
}

TEST(Core, VerifiedConnectionsAreNotSharedBetweenHostNames) {
    World world;
    for (const char* const domain : {"x.test", "y.test"}) {
        world.admit(domain);
        auto route = std::make_shared<Route>(*world.route(domain, {{"a", 0}}));
        route->candidates[0].mx_host = std::string("mx.") + domain;
        route->transport.force_tls = true;
        world.tell(RouteResolved{domain, RoutePtr(route)});
        const Deliver deliver = world.take_delivery();
        EXPECT_TRUE(deliver.open) << domain;
        world.opened(deliver);
        world.done(deliver);
    }
}

TEST(Core, IdleSessionYieldsToAnotherLane) {
    World world(options(10, 1));
    world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    world.admit("y.test");
    world.resolve("y.test", {{"other", 0}});
    const std::vector<Close> closing = world.take<Close>();
    ASSERT_EQ(closing.size(), 1U);
    EXPECT_EQ(closing[0].session, first.session);
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.closed(first.session);
    EXPECT_TRUE(world.take_delivery().open);
}

TEST(Core, IdleSessionIsClosedAfterItsTime) {
    World world;
    world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    world.pass(Duration(4'999));
    EXPECT_TRUE(world.take<Close>().empty());
    EXPECT_EQ(world.core.next_timer(), world.now + Duration(1));
    world.pass(Duration(1));
    EXPECT_EQ(world.take<Close>().size(), 1U);
    world.closed(first.session);
    EXPECT_EQ(world.core.stats().sessions, 0U);
}

TEST(Core, SessionIsClosedAfterItsMessages) {
    Options made = options(1);
    made.session_messages_max = 2;
    World world(made);
    for (int i = 0; i < 3; ++i) world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    const Deliver again = world.take_delivery();
    EXPECT_EQ(again.session, first.session);
    world.done(again);
    EXPECT_EQ(world.take<Close>().size(), 1U);
    world.closed(first.session);
    EXPECT_NE(world.take_delivery().session, first.session);
}

TEST(Core, FailedCandidatesLeadToTheOthersAndThenToTheLastResort) {
    World world;
    world.admit("x.test");
    world.resolve("x.test", {{"a", 0}, {"b", 1}});
    const Deliver first = world.take_delivery();
    EXPECT_THAT(first.candidates, ElementsAre(0));
    EXPECT_FALSE(first.last_resort);
    AttemptEnded failed = world.ending(first, Verdict::next_candidate, false);
    failed.unhealthy = {0};
    failed.permanent = true;
    world.tell(failed);
    const Deliver second_try = world.take_delivery();
    EXPECT_THAT(second_try.candidates, ElementsAre(1));
    EXPECT_TRUE(second_try.last_resort);
    EXPECT_TRUE(second_try.permanent_so_far);
    EXPECT_EQ(second_try.work.attempts, 0) << "one attempt goes on";
    world.closed(first.session);
    world.defer(second_try, minute, false);
    world.closed(second_try.session);

    world.admit("x.test");
    const Deliver other = world.take_delivery();
    EXPECT_THAT(other.candidates, ElementsAre(1)) << "the dead host is avoided";
    EXPECT_FALSE(other.last_resort) << "but not given up";
    failed = world.ending(other, Verdict::next_candidate, false);
    world.tell(failed);
    const Deliver dead_one = world.take_delivery();
    EXPECT_THAT(dead_one.candidates, ElementsAre(0)) << "tried last";
    EXPECT_TRUE(dead_one.last_resort);
    EXPECT_FALSE(dead_one.permanent_so_far);
    world.closed(other.session);
    world.opened(dead_one, 0);
    world.done(dead_one, false);
    world.closed(dead_one.session);
    world.admit("x.test");
    EXPECT_THAT(world.take_delivery().candidates, ElementsAre(0)) << "reached again, healthy again";
}

TEST(Core, HandingBackTheLastCandidateIsConcluded) {
    World world;
    world.admit("x.test");
    world.resolve("x.test");
    const Deliver only = world.take_delivery();
    EXPECT_TRUE(only.last_resort);
    world.tell(world.ending(only, Verdict::next_candidate, false));
    EXPECT_EQ(world.take<Conclude>().size(), 1U);
}

TEST(Core, DeadReusedConnectionIsReplacedOnTheSameHost) {
    World world(options(1));
    world.admit("x.test");
    const ItemId item = world.admit("x.test");
    world.resolve("x.test", {{"a", 0}, {"b", 0}});
    const Deliver first = world.take_delivery();
    world.opened(first, 1);
    world.done(first);
    const Deliver reused = world.take_delivery();
    EXPECT_FALSE(reused.open);
    world.tell(world.ending(reused, Verdict::fresh_session, false));
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.closed(first.session);
    const Deliver again = world.take_delivery();
    EXPECT_TRUE(again.open);
    EXPECT_EQ(again.work.item, item);
    EXPECT_THAT(again.candidates, ElementsAre(1));
    EXPECT_EQ(again.work.attempts, 0);
}

TEST(Core, SessionClosedMayOvertakeTheAttemptItWasJustGiven) {
    World world(options(1));
    world.admit("x.test");
    const ItemId item = world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    const Deliver reused = world.take_delivery();
    world.closed(reused.session);
    world.tell(world.ending(reused, Verdict::fresh_session, false));
    const Deliver again = world.take_delivery();
    EXPECT_TRUE(again.open);
    EXPECT_EQ(again.work.item, item);
    EXPECT_EQ(world.core.stats().sessions, 1U);
}

TEST(Core, DeferredItemComesBackToTheMillisecond) {
    World world;
    const ItemId item = world.admit("x.test");
    world.resolve("x.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    AttemptEnded ended = world.ending(first, Verdict::deferred, true);
    ended.next = world.now + Duration(3'723'456);
    ended.pending = {2, 5};
    ended.delay_notified = true;
    world.tell(ended);
    EXPECT_EQ(world.core.find(item)->state, ItemState::scheduled);
    while (world.now < ended.next - Duration(1)) {
        world.pass(std::min(world.core.next_timer(), ended.next - Duration(1)) - world.now);
    }
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.take<Resolve>();
    world.pass(Duration(1));
    world.resolve("x.test");
    const Deliver again = world.take_delivery();
    EXPECT_EQ(again.work.attempts, 1);
    EXPECT_TRUE(again.work.delay_notified);
    EXPECT_THAT(again.work.pending, ElementsAre(2, 5));
}

TEST(Core, ReadyItemWithoutASlotIsConcludedAfterItsLifetime) {
    Options made = options(1);
    made.lifetime = 60 * minute;
    made.last_chance = minute;
    World world(made);
    world.admit("x.test");
    const ItemId waiting = world.admit("x.test");
    world.resolve("x.test");
    world.take<Deliver>();
    world.pass(60 * minute - Duration(1));
    EXPECT_TRUE(world.take<Conclude>().empty());
    world.pass(Duration(1));
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_EQ(concluded.size(), 1U);
    EXPECT_EQ(concluded[0].work.item, waiting);
    EXPECT_EQ(concluded[0].error.code, Errc::timed_out);
}

TEST(Core, ItemFoundAfterItsLifetimeStillGetsItsLastChance) {
    World world;
    Admit old = world.mail("x.test");
    old.arrival = world.now - 2 * Options{}.lifetime;
    world.tell(old);
    EXPECT_TRUE(world.take<Conclude>().empty());
    world.resolve("x.test");
    EXPECT_EQ(world.take_delivery().work.item, old.id);
}

TEST(Core, FreshMessageIsHandedOutUntilTheFirstAttemptEnded) {
    Options made = options(1);
    made.fresh_bytes_max = 150;
    World world(made);
    auto message = std::make_shared<mail::Message>();
    message->content = std::string(100, 'x');
    Admit one = world.mail("x.test");
    one.fresh = message;
    Admit other_item = one;
    other_item.id.index = 1;
    Admit too_much = world.mail("x.test");
    too_much.fresh = std::make_shared<mail::Message>(*message);
    for (const Admit& admit : {one, other_item, too_much}) world.tell(admit);
    EXPECT_EQ(world.core.stats().fresh_bytes, 100U) << "a message counts once for all its items";

    world.resolve("x.test");
    Deliver deliver = world.take_delivery();
    EXPECT_EQ(deliver.work.message, message);
    world.opened(deliver);
    world.defer(deliver, minute);
    deliver = world.take_delivery();
    EXPECT_EQ(deliver.work.message, message);
    world.done(deliver);
    EXPECT_EQ(world.core.stats().fresh_bytes, 0U);
    deliver = world.take_delivery();
    EXPECT_EQ(deliver.work.message, nullptr) << "it was above the budget";
    world.done(deliver);
    world.pass(minute);
    world.closed(deliver.session);  // idle for too long
    EXPECT_EQ(world.take_delivery().work.message, nullptr) << "its first attempt is over";
}

TEST(Core, DisabledStartsNothingAndAsksNothing) {
    Options made;
    made.disabled = true;
    World world(made);
    world.admit("x.test");
    EXPECT_TRUE(world.actions.empty());
    made.disabled = false;
    world.tell(Configure{made});
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
    world.resolve("x.test");
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
    made.disabled = true;
    world.tell(Configure{made});
    world.actions.clear();
    world.admit("x.test");
    EXPECT_TRUE(world.actions.empty());
}

TEST(Core, HoldReleaseFlushRemove) {
    World world(options(1));
    const ItemId sending = world.admit("x.test");
    const ItemId ready = world.admit("x.test");
    Admit later = world.mail("x.test");
    later.due = world.now + minute;
    later.pending = {7};
    world.tell(later);
    world.resolve("x.test");
    const Deliver deliver = world.take_delivery();
    EXPECT_EQ(deliver.work.item, sending);

    world.tell(Hold{{std::nullopt, "x.test"}});
    EXPECT_EQ(world.take<HoldChanged>().size(), 3U);
    EXPECT_EQ(world.core.stats().held, 2U);
    EXPECT_EQ(world.core.stats().sending, 1U);
    world.opened(deliver);
    world.defer(deliver, minute);
    EXPECT_EQ(world.core.stats().held, 3U);

    world.tell(Release{{ready, ""}});
    EXPECT_EQ(world.take_delivery().work.item, ready);
    world.tell(Release{{std::nullopt, ""}});
    EXPECT_EQ(world.core.stats().scheduled, 2U) << "released items keep their schedule";
    world.tell(Flush{{std::nullopt, "x.test"}});
    EXPECT_EQ(world.core.stats().ready, 2U);

    world.tell(Remove{{later.id, ""}});
    const std::vector<Removed> removed = world.take<Removed>();
    ASSERT_EQ(removed.size(), 1U);
    EXPECT_THAT(removed[0].pending, ElementsAre(7));
    world.tell(Remove{{std::nullopt, "other.test"}});
    EXPECT_EQ(world.core.stats().items, 2U);
}

TEST(Core, RemovingASendingItemWaitsForItsAttempt) {
    for (const Verdict verdict : {Verdict::done, Verdict::deferred, Verdict::next_candidate}) {
        World world;
        const ItemId item = world.admit("x.test");
        world.resolve("x.test");
        const Deliver deliver = world.take_delivery();
        world.opened(deliver);
        world.tell(Remove{{item, ""}});
        EXPECT_TRUE(world.take<Removed>().empty());
        AttemptEnded ended = world.ending(deliver, verdict, false);
        ended.pending = {3};
        ended.next = world.now;
        world.tell(ended);
        EXPECT_EQ(world.take<Removed>().size(), verdict == Verdict::done ? 0U : 1U);
        EXPECT_EQ(world.core.stats().items, 0U);
    }
}

}  // namespace
}  // namespace sluice::queue
