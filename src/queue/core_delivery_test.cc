// delivery.yaml in the core: which settings an item travels with, which connections it may use, which addresses it may go to.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/delivery.h"
#include "queue/core.h"
#include "queue/core_test_world.h"
#include "queue/views.h"

namespace sluice::queue {
namespace {

using policy::TlsDemand;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

policy::DeliveryFilePtr deliveries(std::string_view yaml, const policy::PolicySet& set = {}) {
    Problems problems;
    auto file = policy::parse_delivery(yaml, "delivery.yaml", set, problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    return file ? std::make_shared<const policy::DeliveryFile>(std::move(*file)) : nullptr;
}

Options with(std::string_view yaml) {
    Options made;
    made.deliveries = deliveries(yaml);
    return made;
}

// A route whose hosts are ADDRESS[:PORT] of a name.
struct At {
    const char* mx;
    const char* remote;
    std::uint32_t level = 0;
    std::uint32_t preference = 0;
};
void resolve_at(World& world, const std::string& key, std::initializer_list<At> hosts) {
    auto made = std::make_shared<Route>();
    made->key = key;
    for (const At& host : hosts) made->candidates.push_back({host.mx, host.remote, host.level, host.preference});
    made->expires = world.now + Duration(3'600'000);
    world.tell(RouteResolved{key, RoutePtr(std::move(made))});
}

TEST(CoreDelivery, AnItemTravelsWithTheSettingsOfItsHost) {
    World world(with("conditions: [{if: {remotemx: '*.strict.test'}, then: {tls: {mode: require}}}]\n"));
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.strict.test", "192.0.2.1:25"}});
    const Deliver strict = world.take_delivery();
    ASSERT_NE(strict.how, nullptr);
    EXPECT_EQ(strict.how->tls, TlsDemand::require);
    world.admit("y.test");
    resolve_at(world, "y.test", {{"mx.y.test", "192.0.2.2:25"}});
    EXPECT_EQ(world.take_delivery().how, nullptr) << "nothing is said about it";
}

TEST(CoreDelivery, AnExplanationHasTheSettingsOfTheItem) {
    World world(with("conditions: [{if: {recipientdomain: slow.test}, then: {retry: {intervals: [7]}}}]\n"));
    Admit mail = world.mail("slow.test");
    mail.due = world.now + minute;
    world.tell(mail);
    const std::optional<Explanation> slow = world.core.explain(mail.id);
    ASSERT_TRUE(slow && slow->how);
    EXPECT_EQ(slow->how->retries.at(0).after, Duration(7'000));
    EXPECT_EQ(world.core.explain(world.admit("other.test"))->how, nullptr);
}

TEST(CoreDelivery, HostsThatDifferAreNotRaced) {
    World world(with("conditions: [{if: {remoteip: 192.0.2.2}, then: {tls: {mode: require}}}]\n"));
    world.admit("x.test");
    resolve_at(world, "x.test", {{"a.test", "192.0.2.1:25"}, {"b.test", "192.0.2.2:25"}, {"c.test", "192.0.2.3:25"}});
    Deliver first = world.take_delivery();
    EXPECT_FALSE(first.last_resort);
    AttemptEnded failed = world.ending(first, Verdict::next_candidate, false);
    failed.unhealthy = first.candidates;
    world.tell(failed);
    const Deliver second = world.take_delivery();
    EXPECT_TRUE(second.last_resort);
    EXPECT_EQ(first.candidates.size() + second.candidates.size(), 3U);
    for (const Deliver* const deliver : std::initializer_list<const Deliver*>{&first, &second}) {
        for (const std::uint32_t candidate : deliver->candidates) EXPECT_EQ(candidate == 1, deliver->how != nullptr);
    }
}

TEST(CoreDelivery, AConnectionServesOnlyThoseWhoWouldHaveOpenedItLikeThat) {
    World world(with("conditions: [{if: {tenantid: bank}, then: {tls: {mode: require}}}]\n"));
    world.admit("x.test", "shop");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver shop = world.take_delivery();
    world.opened(shop);
    world.done(shop);
    ASSERT_EQ(world.core.stats().idle_sessions, 1U);
    world.admit("x.test", "bank");
    EXPECT_TRUE(world.take_delivery().open) << "the idle one may be in clear";
    world.admit("x.test", "other");
    const Deliver other = world.take_delivery();
    EXPECT_FALSE(other.open);
    EXPECT_EQ(other.session, shop.session);
}

TEST(CoreDelivery, RetrySettingsDoNotDivideConnections) {
    World world(with("conditions: [{if: {tenantid: bank}, then: {retry: {count: 2}}}]\n"));
    world.admit("x.test", "shop");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver shop = world.take_delivery();
    world.opened(shop);
    world.done(shop);
    world.admit("x.test", "bank");
    const Deliver bank = world.take_delivery();
    EXPECT_FALSE(bank.open);
    ASSERT_NE(bank.how, nullptr);
    EXPECT_EQ(bank.how->retry_count, 2U) << "each item has its own";
}

TEST(CoreDelivery, PoolingOffMeansAConnectionAMessage) {
    Options made = with("default: {pooling: {enabled: false}}\n");
    made.destination_concurrency = 1;
    World world(made);
    for (int i = 0; i < 3; ++i) world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    for (int i = 0; i < 3; ++i) {
        const Deliver deliver = world.take_delivery();
        EXPECT_TRUE(deliver.open);
        world.opened(deliver);
        world.done(deliver);
        EXPECT_THAT(world.take<Close>(), SizeIs(1));
        world.closed(deliver.session);
    }
    EXPECT_EQ(world.core.stats().sessions, 0U);
}

TEST(CoreDelivery, TransactionsAndIdleTimeAreThoseOfTheFile) {
    World world(with("default: {pooling: {transactions: 2, timeout: 0.5}}\n"));
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    world.pass(Duration(499));
    EXPECT_THAT(world.take<Close>(), IsEmpty());
    world.admit("x.test");
    const Deliver second = world.take_delivery();
    EXPECT_EQ(second.session, first.session);
    world.done(second);
    EXPECT_THAT(world.take<Close>(), SizeIs(1)) << "two transactions";
    world.closed(first.session);
    world.admit("x.test");
    const Deliver third = world.take_delivery();
    world.opened(third);
    world.done(third);
    world.pass(Duration(500));
    EXPECT_THAT(world.take<Close>(), SizeIs(1)) << "idle for half a second";
}

TEST(CoreDelivery, WhatIsNotEvictableKeepsItsSlotUntilItsIdleTimeEnds) {
    for (const bool evictable : {true, false}) {
        Options made = with(evictable ? "{}" : "conditions: [{if: {recipientdomain: x.test}, then: {pooling: {evictable: false, timeout: 3}}}]\n");
        made.concurrency_max = 1;
        World world(made);
        world.admit("x.test");
        resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
        const Deliver first = world.take_delivery();
        world.opened(first);
        world.done(first);
        world.admit("y.test");
        resolve_at(world, "y.test", {{"mx.y.test", "192.0.2.2:25"}});
        EXPECT_THAT(world.take<Close>(), SizeIs(evictable ? 1 : 0));
        if (evictable) continue;
        EXPECT_THAT(world.take<Deliver>(), IsEmpty());
        world.admit("x.test");
        const Deliver again = world.take_delivery();
        EXPECT_EQ(again.session, first.session) << "its own mail may use it";
        world.done(again);
        world.pass(Duration(3'000));
        EXPECT_THAT(world.take<Close>(), SizeIs(1));
        world.closed(first.session);
        EXPECT_TRUE(world.take_delivery().open);
    }
}

TEST(CoreDelivery, NotEvictableIsClosedAllTheSameWhenALimitIsLowered) {
    Options made = with("default: {pooling: {evictable: false, timeout: 100}}\n");
    World world(made);
    for (int i = 0; i < 4; ++i) world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    std::vector<Deliver> all = world.take<Deliver>();
    ASSERT_THAT(all, SizeIs(4));
    for (const Deliver& deliver : all) world.opened(deliver);
    for (const Deliver& deliver : all) world.done(deliver);
    made.destination_concurrency = 1;
    world.tell(Configure{made});
    EXPECT_THAT(world.take<Close>(), SizeIs(3));
}

TEST(CoreDelivery, FamiliesAreChosenByCondition) {
    const std::initializer_list<At> both{{"mx.x.test", "192.0.2.1:25"}, {"mx.x.test", "[2001:db8::1]:25"}};
    const auto group = [&](const char* family) {
        World world(with(std::string("conditions: [{if: {recipientdomain: x.test}, then: {family: ") + family + "}}]\n"));
        world.admit("x.test");
        resolve_at(world, "x.test", both);
        return world.take_delivery();
    };
    EXPECT_THAT(group("ipv4").candidates, ElementsAre(0));
    EXPECT_TRUE(group("ipv4").last_resort) << "the other one does not count";
    EXPECT_THAT(group("ipv6").candidates, ElementsAre(1));
    EXPECT_THAT(group("prefer_ipv4").candidates, ElementsAre(0));
    EXPECT_FALSE(group("prefer_ipv4").last_resort);
    EXPECT_THAT(group("prefer_ipv6").candidates, ElementsAre(1));
    EXPECT_THAT(group("any").candidates, SizeIs(2));
}

TEST(CoreDelivery, AFamilyIsPreferredWithinAnMxPreferenceWhateverInetPreferSays) {
    // As inet_prefer=v4 arranges two hosts.
    const std::initializer_list<At> arranged{
        {"mx1.x.test", "192.0.2.1:25", 0, 0}, {"mx1.x.test", "[2001:db8::1]:25", 1, 0}, {"mx2.x.test", "192.0.2.2:25", 2, 2}, {"mx2.x.test", "[2001:db8::2]:25", 3, 2}};
    const auto order = [&](const char* file) {
        World world(with(file));
        world.admit("x.test");
        resolve_at(world, "x.test", arranged);
        std::vector<std::vector<std::uint32_t>> groups;
        for (std::vector<Deliver> found = world.take<Deliver>(); !found.empty(); found = world.take<Deliver>()) {
            std::sort(found[0].candidates.begin(), found[0].candidates.end());
            groups.push_back(found[0].candidates);
            AttemptEnded failed = world.ending(found[0], found[0].last_resort ? Verdict::deferred : Verdict::next_candidate, false);
            failed.next = world.now + minute;
            failed.unhealthy = found[0].candidates;
            world.tell(failed);
        }
        return groups;
    };
    using Groups = std::vector<std::vector<std::uint32_t>>;
    EXPECT_EQ(order("{}"), (Groups{{0}, {1}, {2}, {3}}));
    EXPECT_EQ(order("default: {family: prefer_ipv6}\n"), (Groups{{1}, {0}, {3}, {2}}));
    EXPECT_EQ(order("default: {family: any}\n"), (Groups{{0, 1}, {2, 3}}));
    EXPECT_EQ(order("default: {family: ipv6}\n"), (Groups{{1}, {3}}));
    EXPECT_EQ(order("conditions: [{if: {remotemx: mx1.x.test}, then: {family: prefer_ipv6}}]\n"), (Groups{{1}, {0}, {2}, {3}}));
}

TEST(CoreDelivery, NoAddressOfTheFamilyIsTemporary) {
    World world(with("default: {family: ipv6}\n"));
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(1));
    EXPECT_EQ(concluded[0].error.code, Errc::not_found);
    EXPECT_THAT(concluded[0].error.detail, testing::HasSubstr("delivery.yaml"));
}

TEST(CoreDelivery, AWaitingItemExpiresByItsOwnLifetime) {
    Options made = with("conditions: [{if: {remotemx: mx.short.test}, then: {retry: {lifetime: 1200}}}]\n");
    made.destination_concurrency = 1;
    World world(made);
    for (const char* const domain : {"short.test", "long.test"}) {
        world.admit(domain);
        world.admit(domain);
        resolve_at(world, domain, {{domain == std::string("short.test") ? "mx.short.test" : "mx.long.test", "192.0.2.1:25"}});
    }
    EXPECT_THAT(world.take<Deliver>(), SizeIs(2));
    world.pass(Duration(1'199'999));
    EXPECT_THAT(world.take<Conclude>(), IsEmpty());
    world.pass(Duration(1));
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(1));
    EXPECT_EQ(concluded[0].error.code, Errc::timed_out);
}

TEST(CoreDelivery, AReloadClosesWhatWouldNotBeOpenedLikeThat) {
    World world(with("conditions: [{if: {tenantid: bank}, then: {tls: {mode: require}}}]\n"));
    for (const char* const tenant : {"bank", "shop"}) world.admit("x.test", tenant);
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    std::vector<Deliver> both = world.take<Deliver>();
    ASSERT_THAT(both, SizeIs(2));
    for (const Deliver& deliver : both) world.opened(deliver);
    world.done(both[0]);

    world.tell(Configure{with("conditions: [{if: {tenantid: bank}, then: {tls: {mode: require}, retry: {count: 9}}}]\n")});
    EXPECT_THAT(world.take<Close>(), IsEmpty()) << "sessions are as they would be";

    world.tell(Configure{with("conditions: [{if: {tenantid: shop}, then: {tls: {mode: require}}}]\n")});
    std::vector<Close> closed = world.take<Close>();
    ASSERT_THAT(closed, SizeIs(1));
    EXPECT_EQ(closed[0].session, both[0].session) << "the idle one at once";
    world.done(both[1]);
    closed = world.take<Close>();
    ASSERT_THAT(closed, SizeIs(1));
    EXPECT_EQ(closed[0].session, both[1].session) << "the busy one when it is free";
}

TEST(CoreDelivery, AReloadMovesTheEndOfWhoWaits) {
    Options made = options(1);
    World world(made);
    for (int i = 0; i < 2; ++i) world.admit("x.test");
    world.admit("unrouted.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    world.take<Deliver>();
    made.deliveries = deliveries("default: {retry: {lifetime: 1200}}\n");
    world.tell(Configure{made});
    world.pass(Duration(1'200'000));
    EXPECT_THAT(world.take<Conclude>(), SizeIs(2));
}

// A reload may make another route, and nothing else tells the core.
// Where name servers are silent, each answer may be older than the latest settings.
TEST(CoreDelivery, MailIsDeferredHoweverOftenSettingsChange) {
    World world(options(1));
    world.admit("x.test");
    world.take<Resolve>();
    world.tell(Configure{options(1)});
    world.tell(RouteResolved{"x.test", fail(Errc::dns_temporary, "no answer")});
    EXPECT_THAT(world.take<Conclude>(), IsEmpty());
    EXPECT_THAT(world.take<Resolve>(), SizeIs(1)) << "under the new settings";
    world.tell(Configure{options(1)});
    world.tell(RouteResolved{"x.test", fail(Errc::dns_temporary, "no answer")});
    EXPECT_THAT(world.take<Conclude>(), SizeIs(1));
    EXPECT_THAT(world.take<Resolve>(), IsEmpty());
}

TEST(CoreDelivery, AnAnswerFromBeforeAReloadDoesNotCount) {
    World world(options(1));
    world.admit("x.test");
    const ItemId waiting = world.admit("x.test");
    EXPECT_THAT(world.take<Resolve>(), SizeIs(1));
    world.tell(Configure{options(1)});
    EXPECT_THAT(world.take<Resolve>(), IsEmpty()) << "one question at a time";
    world.tell(RouteResolved{"x.test", fail(Errc::dns_no_domain, "NXDOMAIN")});
    EXPECT_THAT(world.take<Conclude>(), IsEmpty());
    EXPECT_THAT(world.take<Resolve>(), SizeIs(1));
    world.resolve("x.test", {{"new", 0}});
    const Deliver first = world.take_delivery();
    EXPECT_EQ(first.route->candidates[0].mx_host, "mx.new");
    world.opened(first);
    // The same for a route that is asked for again, and when nobody waits for it any more.
    world.tell(Configure{options(1)});
    EXPECT_THAT(world.take<Resolve>(), SizeIs(1));
    world.tell(Configure{options(1)});
    world.resolve("x.test", {{"old", 0}});
    EXPECT_THAT(world.take<Resolve>(), SizeIs(1));
    world.tell(Configure{options(1)});
    world.tell(Remove{{waiting, ""}});
    world.resolve("x.test", {{"old", 0}});
    EXPECT_THAT(world.take<Resolve>(), IsEmpty());
    world.done(first, false);
    world.closed(first.session);
    EXPECT_EQ(world.core.stats().routes, 0U) << "nothing is kept from before";
}

TEST(CoreDelivery, AReloadWhileASessionOpens) {
    World world(with("{}"));
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver deliver = world.take_delivery();
    world.tell(Configure{with("default: {tls: {mode: require_verify}}\n")});
    world.opened(deliver);
    world.done(deliver);
    EXPECT_THAT(world.take<Close>(), SizeIs(1));
    world.closed(deliver.session);
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver next = world.take_delivery();
    ASSERT_NE(next.how, nullptr);
    EXPECT_EQ(next.how->tls, TlsDemand::require_verify);
}

TEST(CoreDelivery, GroupingsOfThePoliciesHold) {
    Options made;
    made.policies = policies("{grouping: {groupings: [{id: big, remotemx: '*.big.test'}]}, policies: []}");
    ASSERT_NE(made.policies, nullptr);
    made.deliveries = deliveries("conditions: [{if: {grouping: '&big'}, then: {family: ipv4}}]\n", *made.policies);
    World world(made);
    world.admit("x.test");
    resolve_at(world, "x.test", {{"mx.big.test", "192.0.2.1:25"}, {"mx.other.test", "192.0.2.2:25"}});
    for (const Deliver& deliver : world.take<Deliver>()) EXPECT_EQ(deliver.how != nullptr, deliver.candidates.front() == 0);
    // Now the same host belongs to no grouping.
    made.policies = policies("{grouping: {groupings: [{id: big, remotemx: '*.huge.test'}]}, policies: []}");
    made.deliveries = deliveries("conditions: [{if: {grouping: '&big'}, then: {family: ipv4}}]\n", *made.policies);
    world.tell(Configure{made});
    world.admit("z.test");
    resolve_at(world, "z.test", {{"mx.big.test", "192.0.2.1:25"}});
    EXPECT_EQ(world.take_delivery().how, nullptr);
    made.policies = nullptr;
    made.deliveries = deliveries("conditions: [{if: {grouping: ''}, then: {family: ipv4}}]\n");
    world.tell(Configure{made});
    world.admit("w.test");
    resolve_at(world, "w.test", {{"mx.big.test", "192.0.2.1:25"}});
    EXPECT_NE(world.take_delivery().how, nullptr) << "without a policy file every grouping is empty";
}

TEST(CoreDelivery, FieldsThatOnlyThisFileAsksForAreToldApart) {
    World world(with("conditions: [{if: {attempt: '>=2'}, then: {tls: {mode: disabled}}}, {if: {jobid: urgent}, then: {retry: {count: 3}}},"
                     " {if: {notes.vip: '1'}, then: {retry: {count: 9}}}]\n"));
    Admit plain = world.mail("x.test");
    Admit urgent = world.mail("x.test");
    urgent.job = "urgent";
    Admit vip = world.mail("x.test");
    vip.marks = {{"notes.vip", "1"}};
    for (const Admit* const mail : std::initializer_list<const Admit*>{&plain, &urgent, &vip}) world.tell(*mail);
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    std::vector<Deliver> all = world.take<Deliver>();
    ASSERT_THAT(all, SizeIs(3));
    EXPECT_EQ(all[0].how, nullptr);
    ASSERT_NE(all[1].how, nullptr);
    EXPECT_EQ(all[1].how->retry_count, 3U);
    ASSERT_NE(all[2].how, nullptr);
    EXPECT_EQ(all[2].how->retry_count, 9U);
    world.opened(all[0]);
    world.defer(all[0], minute, false);
    world.closed(all[0].session);
    world.pass(minute);
    const Deliver second = world.take_delivery();
    ASSERT_NE(second.how, nullptr);
    EXPECT_EQ(second.how->tls, TlsDemand::disabled) << "the second attempt";
}

TEST(CoreDelivery, AReloadTellsMoreApartAmongWhatIsUnderWayAndWaits) {
    Options made = options(1);
    World world(made);
    std::vector<Admit> mails{world.mail("x.test"), world.mail("x.test"), world.mail("x.test")};
    mails[0].job = mails[2].job = "urgent";
    for (const Admit& mail : mails) world.tell(mail);
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const Deliver first = world.take_delivery();
    world.opened(first);
    made.deliveries = deliveries("conditions: [{if: {jobid: urgent}, then: {tls: {mode: require}}}]\n");
    world.tell(Configure{made});
    world.done(first);
    EXPECT_THAT(world.take<Close>(), SizeIs(1)) << "it was opened for what needs TLS now";
    world.closed(first.session);
    for (const bool strict : {false, true}) {
        std::vector<Deliver> next = world.take<Deliver>();
        ASSERT_THAT(next, SizeIs(1));
        EXPECT_TRUE(next[0].open);
        EXPECT_EQ(next[0].how != nullptr, strict);
        world.opened(next[0]);
        world.done(next[0]);
        for (const Close& close : world.take<Close>()) world.closed(close.session);
    }
}

TEST(CoreDelivery, TheLocalAddressMayDecide) {
    Options made;
    made.sources4 = {"198.51.100.1", "198.51.100.2"};
    made.deliveries = deliveries("conditions: [{if: {localip: 198.51.100.2}, then: {tls: {mode: require}}}]\n");
    World world(made);
    for (std::uint32_t i = 0; i < 4; ++i) {
        Admit mail = world.mail("x.test");
        mail.source_hash = i;
        world.tell(mail);
    }
    resolve_at(world, "x.test", {{"mx.x.test", "192.0.2.1:25"}});
    const std::vector<Deliver> all = world.take<Deliver>();
    ASSERT_THAT(all, SizeIs(4));
    for (const Deliver& deliver : all) EXPECT_EQ(deliver.how != nullptr, deliver.bind == "198.51.100.2");
}

}  // namespace
}  // namespace sluice::queue
