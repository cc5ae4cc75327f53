// New local addresses beside warm ones: what is too much for a new one goes out from the others.

#include <gmock/gmock.h>

#include <map>
#include <string>

#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

const std::string cold = "192.0.2.10", warm = "192.0.2.1";
constexpr Duration hour = minute * 60;

class WarmUpOverflow : public testing::Test {
protected:
    using Order = policy::LocalPool::Order;

    static Options with(const char* days, Order order, std::vector<std::string> addresses) {
        Options made = options(1'000);
        made.policies = policies("warm_up: [{name: new, localip: [" + cold + "], per: [remotemx], days: " + days + "}]");
        policy::LocalPool pool{"bulk", order, {}};
        for (std::string& address : addresses) pool.sources.push_back({std::move(address), 1, ""});
        made.transports.push_back(std::move(pool));
        return made;
    }
    void start(const Options& options) { world = std::make_unique<World>(options); }
    void route(const std::string& domain, const std::string& host) {
        auto made = std::make_shared<Route>(*world->route(domain, {{host, 0}}));
        made->expires = world->now + hour * 24 * 30;
        world->tell(RouteResolved{domain, RoutePtr(std::move(made))});
    }
    void admit(const char* domain, int count) {
        for (int i = 0; i < count; ++i) {
            Admit mail = world->mail(domain);
            mail.transport = "bulk";
            world->core.handle(std::move(mail), world->now, world->actions);
        }
    }
    // Everything that starts is taken, on a connection of its own. Counted by where it came from.
    std::map<std::string, int> deliver() {
        std::map<std::string, int> from;
        for (std::vector<Deliver> started = world->take<Deliver>(); !started.empty(); started = world->take<Deliver>()) {
            for (const Deliver& one : started) {
                ++from[one.bind];
                world->opened(one);
                AttemptEnded ended = world->ending(one, Verdict::done, false);
                ended.delivered = true;
                world->tell(ended);
                world->closed(one.session);
            }
        }
        return from;
    }
    // One message every quarter of an hour.
    std::map<std::string, int> one_day(const char* domain) {
        std::map<std::string, int> from;
        for (int i = 0; i < 24 * 4; ++i) {
            admit(domain, 1);
            for (const auto& [address, count] : deliver()) from[address] += count;
            world->pass(minute * 15);
        }
        return from;
    }
    std::unique_ptr<World> world;
};

TEST_F(WarmUpOverflow, WhatIsTooMuchForTheNewAddressGoesOutFromTheWarmOneAndNothingWaits) {
    for (const Order order : {Order::fill, Order::spread}) {
        start(with("[10, 40]", order, {cold, warm}));
        admit("x.test", 1);
        route("x.test", "a");
        deliver();
        std::map<std::string, int> from = one_day("x.test");
        EXPECT_EQ(from[cold] + from[warm], 96);
        EXPECT_LE(from[cold], 10);
        EXPECT_GE(from[cold], 8);
        world->pass(minute);
        from = one_day("x.test");
        EXPECT_EQ(from[cold] + from[warm], 96);
        EXPECT_LE(from[cold], 40) << "the second day";
        EXPECT_GE(from[cold], 36);
        world->pass(minute);
        from = one_day("x.test");
        EXPECT_EQ(from[cold] + from[warm], 96);
        EXPECT_GE(from[cold], 47) << "it is warm, and has its share";
        EXPECT_EQ(world->core.stats().items, 0U);
    }
}

TEST_F(WarmUpOverflow, ABurstGoesOutAtOnceFromTheWarmAddress) {
    start(with("[100]", Order::fill, {cold, warm}));
    admit("x.test", 500);
    route("x.test", "a");
    std::map<std::string, int> from = deliver();
    EXPECT_EQ(from[cold] + from[warm], 500);
    EXPECT_GE(from[cold], 1);
    EXPECT_LE(from[cold], 2) << "a hundredth of the day ahead of an even pace";
}

TEST_F(WarmUpOverflow, WhereThereIsNoWarmAddressMailWaits) {
    start(with("[24]", Order::fill, {cold}));
    admit("x.test", 50);
    route("x.test", "a");
    EXPECT_EQ(deliver()[cold], 1);
    EXPECT_EQ(world->core.stats().ready, 49U);
    EXPECT_LE(world->core.next_timer(), world->now + hour * 2);
    int sent = 1;
    for (int i = 0; i < 23 * 60; ++i) {
        world->now += minute;
        world->core.handle(Tick{}, world->now, world->actions);
        sent += deliver()[cold];
    }
    EXPECT_LE(sent, 24);
    EXPECT_GE(sent, 22);
}

TEST_F(WarmUpOverflow, ItIsAboutOneReceiver) {
    start(with("[1]", Order::fill, {cold, warm}));
    admit("x.test", 2);
    route("x.test", "a");
    EXPECT_EQ(deliver()[warm], 1);
    admit("y.test", 2);
    route("y.test", "b");
    std::map<std::string, int> from = deliver();
    EXPECT_EQ(from[cold], 1) << "b has not seen it today";
    EXPECT_EQ(from[warm], 1);
}

TEST_F(WarmUpOverflow, AnOpenConnectionFromTheNewAddressIsNoWayAroundTheQuota) {
    start(with("[1]", Order::fill, {cold, warm}));
    admit("x.test", 1);
    route("x.test", "a");
    const Deliver first = world->take_delivery();
    EXPECT_EQ(first.bind, cold);
    world->opened(first);
    world->done(first);
    EXPECT_EQ(world->core.stats().idle_sessions, 1U);
    admit("x.test", 1);
    const Deliver second = world->take_delivery();
    EXPECT_TRUE(second.open);
    EXPECT_EQ(second.bind, warm);
    world->opened(second);
    world->done(second);
    admit("x.test", 1);
    EXPECT_EQ(world->take_delivery().session, second.session) << "the warm connection is used again";
}

TEST_F(WarmUpOverflow, AddressesWithoutATransportOverflowToo) {
    Options made = options(1'000);
    made.policies = policies("warm_up: [{name: new, localip: [" + cold + "], per: [remotemx], days: [1]}]");
    made.sources4 = {cold, warm};
    start(made);
    for (int i = 0; i < 10; ++i) world->admit("x.test");
    route("x.test", "a");
    std::map<std::string, int> from = deliver();
    EXPECT_LE(from[cold], 1);
    EXPECT_EQ(from[cold] + from[warm], 10);
}

}  // namespace
}  // namespace sluice::queue
