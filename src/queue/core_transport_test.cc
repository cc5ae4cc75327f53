// A bucket says which transport's addresses mail goes out from: by a rule, by a condition of run time, by the file.

#include <gmock/gmock.h>

#include "queue/run_time_test_world.h"
#include "queue/views.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const char* const usual = "192.0.2.1";
const char* const backup = "192.0.2.9";

class OtherTransport : public RunTime {
protected:
    static Options with_pools(const char* yaml) {
        Options made = with(yaml);
        made.transports = {{"usual", policy::LocalPool::Order::spread, {{usual, 1, ""}}},
                           {"backup", policy::LocalPool::Order::spread, {{backup, 1, "backup.test"}}}};
        return made;
    }
    void admit(const char* domain, const char* transport = "usual") {
        Admit mail = world->mail(domain);
        mail.transport = transport;
        world->tell(mail);
    }
    Deliver start_one(const char* domain) {
        admit(domain);
        return world->take_delivery();
    }
    void fail(const Deliver& deliver) {
        if (deliver.open) world->opened(deliver);
        AttemptEnded ended = world->ending(deliver, Verdict::deferred, false);
        ended.next = world->now + minute * 600;
        policy::Observation seen{policy::Stage::rcpt, 421, Errc::timed_out, "4.7.0", "not from there", {}};
        seen.failure = policy::classify(seen);
        ended.failures.push_back({Failed::connected, seen});
        world->tell(ended);
        world->closed(deliver.session);
    }
    void succeed(const Deliver& deliver) {
        world->done(deliver, false);
        world->closed(deliver.session);
    }
};

TEST_F(OtherTransport, ARuleMovesMailForAReceiverAndItComesBack) {
    start(with_pools(R"(
rules:
- name: away
  per: [transportid, remotemx]
  at_least: 2/60
  then: { transport: backup }
  for: 300
)"));
    admit("x.test");
    world->resolve("x.test", {{"a", 0}});
    const Deliver first = world->take_delivery();
    EXPECT_EQ(first.bind, usual);
    fail(first);
    const Deliver second = start_one("x.test");
    EXPECT_EQ(second.bind, usual) << "once is not enough";
    fail(second);
    const auto told = world->take<Reacted>();
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told[0].what.what, "from the addresses of `backup` for 300 s");

    const Deliver third = start_one("x.test");
    EXPECT_EQ(third.bind, backup);
    EXPECT_EQ(third.helo, "backup.test");
    succeed(third);
    admit("y.test");
    world->resolve("y.test", {{"b", 0}});
    const Deliver other = world->take_delivery();
    EXPECT_EQ(other.bind, usual) << "another receiver";
    succeed(other);
    admit("x.test", "backup");
    const Deliver own = world->take_delivery();
    EXPECT_EQ(own.bind, backup);
    succeed(own);

    world->pass(minute * 5);
    EXPECT_EQ(world->core.stats().conditions, 0U);
    EXPECT_EQ(start_one("x.test").bind, usual);
}

TEST_F(OtherTransport, MailOnItsWayToSeveralHostsGoesToEachFromWhereItMay) {
    const char* const yaml = "[{fields: [remotemx], conditions: [{if: {remotemx: mx.a}, then: {transport: backup}}]}]";
    start(with_pools(yaml));
    admit("x.test");
    world->resolve("x.test", {{"a", 0}, {"b", 1}});
    const Deliver first = world->take_delivery();
    EXPECT_EQ(first.bind, backup);
    EXPECT_THAT(first.candidates, ElementsAre(0));
    AttemptEnded failed = world->ending(first, Verdict::next_candidate, false);
    failed.unhealthy = {0};
    world->tell(failed);
    const Deliver next = world->take_delivery();
    EXPECT_EQ(next.bind, usual);
    EXPECT_THAT(next.candidates, ElementsAre(1));
    EXPECT_TRUE(next.last_resort);
}

TEST_F(OtherTransport, EquallyGoodHostsAreNotRacedFromAddressesOfTwoPools) {
    start(with_pools("[{fields: [recipientdomain]}]"));
    admit("x.test");
    world->resolve("x.test", {{"a", 0}, {"b", 0}});
    const Deliver both = world->take_delivery();
    EXPECT_THAT(both.candidates, SizeIs(2));
    const Options apart = with_pools("[{fields: [remotemx], conditions: [{if: {remotemx: mx.a}, then: {transport: backup}}]}]");
    world->tell(Configure{apart});
    world->resolve("x.test", {{"a", 0}, {"b", 0}});
    const Deliver one = start_one("x.test");
    ASSERT_THAT(one.candidates, SizeIs(1));
    EXPECT_EQ(one.bind, one.candidates[0] == 0 ? backup : usual);
    EXPECT_FALSE(one.last_resort);
}

TEST_F(OtherTransport, WhatWaitsForItsOwnAddressesGoesOnAtOnceAndBackWhenItEnds) {
    const Options options = with_pools("[{fields: [localip], default: {concurrency: 1}}, {fields: [remotemx]}]");
    start(options);
    admit("x.test");
    admit("x.test");
    world->resolve("x.test", {{"a", 0}});
    EXPECT_EQ(world->take_delivery().bind, usual);
    set(condition("{if: {remotemx: mx.a}, then: {transport: backup}, ttl: 60}", options.policies));
    const Deliver moved = world->take_delivery();
    EXPECT_EQ(moved.bind, backup);
    admit("x.test");
    EXPECT_THAT(started(), IsEmpty()) << "the other address is busy";
    std::optional<Explanation> why = world->core.explain("x.test");
    ASSERT_TRUE(why && why->candidates.size() == 1);
    EXPECT_EQ(why->candidates[0].localip, backup);
    ASSERT_THAT(why->candidates[0].buckets, SizeIs(testing::Ge(2U)));
    EXPECT_THAT(why->candidates[0].buckets[1].limits.text(), HasSubstr("from the addresses of `backup`"));

    world->pass(minute);  // the condition ends; its own address is still busy
    why = world->core.explain("x.test");
    ASSERT_TRUE(why && why->candidates.size() == 1);
    EXPECT_EQ(why->candidates[0].localip, usual);
    succeed(moved);
    EXPECT_THAT(started(), IsEmpty()) << "what became free is not its own";
}

TEST_F(OtherTransport, AnIdleSessionFromTheOtherAddressIsNotUsed) {
    const Options options = with_pools("[{fields: [remotemx]}]");
    start(options);
    admit("x.test");
    world->resolve("x.test", {{"a", 0}});
    const Deliver first = world->take_delivery();
    world->opened(first);
    world->done(first);
    set(condition("{if: {remotemx: mx.a}, then: {transport: backup}}", options.policies));
    const Deliver second = start_one("x.test");
    EXPECT_TRUE(second.open);
    EXPECT_EQ(second.bind, backup);
    world->opened(second);
    world->done(second);
    world->tell(RemoveCondition{"c", "me", "enough"});
    const Deliver third = start_one("x.test");
    EXPECT_EQ(third.session, first.session);
}

TEST_F(OtherTransport, ATransportWithoutAddressesIsTheUsualOnesAndAFamilyItDoesNotServeIsNotCalled) {
    Options options = with_pools("[{fields: [remotemx]}]");
    options.sources4 = {"192.0.2.77"};
    start(options);
    set(condition("{if: {remotemx: mx.a}, then: {transport: nowhere}}", options.policies));
    admit("x.test");
    world->resolve("x.test", {{"a", 0}});
    EXPECT_EQ(world->take_delivery().bind, "192.0.2.77");

    Options six = with_pools("[{fields: [remotemx], conditions: [{if: {remotemx: mx.c}, then: {transport: six}}]}]");
    six.transports.push_back({"six", policy::LocalPool::Order::spread, {{"2001:db8::6", 1, ""}}});
    start(six);
    admit("z.test");
    world->resolve("z.test", {{"c", 0}, {"d", 1}});
    EXPECT_THAT(world->take_delivery().candidates, ElementsAre(1)) << "c has no IPv6 address";
}

TEST_F(OtherTransport, SuspendedAddressesAreThoseThatItWouldGoOutFrom) {
    const Options options = with_pools("[{fields: [remotemx], conditions: [{if: {remotemx: mx.a}, then: {transport: backup}}]}]");
    start(options);
    set(suspension(std::string("{id: s, localip: ") + usual + "}"));
    admit("x.test");
    world->resolve("x.test", {{"a", 0}});
    const Deliver moved = world->take_delivery();
    EXPECT_EQ(moved.bind, backup);
    set(suspension(std::string("{id: t, localip: ") + backup + "}"));
    admit("x.test");
    EXPECT_THAT(started(), IsEmpty());
    lift("t");
    world->pass(second);
    EXPECT_THAT(started(), SizeIs(1));
}

}  // namespace
}  // namespace sluice::queue
