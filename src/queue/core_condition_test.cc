// Conditions that come and go while the core runs.

#include "queue/run_time_test_world.h"

namespace sluice::queue {
namespace {

const char* const per_mx = "- fields: [{remotemx: {g: '*.g.test'}}]\n  default: {concurrency: 5}\n";

TEST_F(RunTime, AConditionChangesBucketsThatAreThereAndThoseToCome) {
    start(with(per_mx));
    const policy::PolicySetPtr set_of_file = policies(per_mx);
    mail(10);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 5U);
    set(condition("{if: {remotemx: mx.a}, then: {concurrency: 8}}", set_of_file));
    EXPECT_EQ(count_started(), 3U) << "at once";
    set(condition("{id: later, if: {remotemx: mx.b}, then: {concurrency: 2}}", set_of_file));
    mail(10, "y.test");
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(count_started(), 2U);
    std::map<std::string, std::uint64_t> buckets;
    world->core.each_condition([&](const ConditionView& view) {
        EXPECT_FALSE(view.idle);
        buckets[view.condition.id] = view.buckets;
    });
    EXPECT_EQ(buckets, (std::map<std::string, std::uint64_t>{{"c", 1}, {"later", 1}}));
    world->tell(RemoveCondition{"later", "me", ""});
    EXPECT_EQ(count_started(), 3U) << "the file's word again";
    EXPECT_EQ(world->take<ConditionChanged>().back().change, Change::removed);
}

TEST_F(RunTime, OneForManyBucketsAndTheOrderOfClasses) {
    start(with(per_mx));
    const policy::PolicySetPtr file = policies(per_mx);
    set(condition("{id: wide, if: {remotemx: /^mx/}, then: {concurrency: 1}}", file));
    set(condition("{id: exact, if: {remotemx: mx.a}, then: {concurrency: 3}}", file));
    mail(9);
    mail(9, "y.test");
    world->resolve("x.test");
    world->resolve("y.test", {{"b", 0}});
    EXPECT_EQ(count_started(), 4U) << "3 by the newer, 1 by the wide one";
    set(condition("{id: slow, class: back_off, if: {not: {remotemx: mx.c}}, then: {concurrency: 2}}", file));
    EXPECT_EQ(count_started(), 1U) << "back-off comes first, tighter or not";
    set(condition("{id: warm, class: warm_up, if: {remotemx: mx.b}, then: {concurrency: 9}}", file));
    EXPECT_EQ(count_started(), 0U);
    world->tell(RemoveCondition{"slow", "", ""});
    EXPECT_EQ(count_started(), 7U) << "mx.b to 9";
    world->tell(RemoveCondition{"exact", "", ""});
    world->tell(RemoveCondition{"warm", "", ""});
    EXPECT_EQ(count_started(), 0U);
    EXPECT_EQ(world->core.reach_of(condition("{if: {remotemx: /^mx/}, then: {}}", file)).buckets, 2U);
    EXPECT_EQ(world->core.reach_of(condition("{if: {remotemx: mx.a}, then: {}}", file)).items, 6U);
    EXPECT_EQ(world->core.reach_of(condition("{if: {remotemx: mx.unknown}, then: {}}", file)).buckets, 0U);
}

TEST_F(RunTime, AConditionEndsByItself) {
    start(with(per_mx));
    set(condition("{if: {remotemx: '#g'}, then: {concurrency: 1}, ttl: 300}", policies(per_mx)));
    world->take<ConditionChanged>();
    mail(9);
    world->resolve("x.test", {{"a", 0}});
    EXPECT_EQ(count_started(), 5U);
    mail(9, "y.test");
    auto made = std::make_shared<Route>();
    made->key = "y.test";
    made->candidates = {{"in.g.test", "g1:25", 0}, {"too.g.test", "g2:25", 0}};
    made->expires = world->now + Duration(86'400'000);
    world->tell(RouteResolved{"y.test", RoutePtr(made)});
    EXPECT_EQ(count_started(), 1U) << "one for the group";
    world->pass(300 * second);
    EXPECT_EQ(count_started(), 4U);
    EXPECT_EQ(world->take<ConditionChanged>().back().change, Change::expired);
    EXPECT_EQ(world->core.stats().conditions, 0U);
}

TEST_F(RunTime, ARateThatIsLoweredRemembersWhatWasSent) {
    const char* const rate = "- fields: [recipientdomain]\n  default: {rate: 100}\n";
    start(with(rate, 0));
    const policy::PolicySetPtr file = policies(rate);
    set(condition("{if: {recipientdomain: x.test}, then: {rate: {count: 4, interval: 60, algorithm: fixedwindow}}}", file));
    mail(30);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 4U);
    set(condition("{if: {recipientdomain: x.test}, then: {rate: {count: 6, interval: 60, algorithm: fixedwindow}}}", file));
    EXPECT_EQ(world->take<ConditionChanged>().back().change, Change::updated);
    EXPECT_EQ(count_started(), 2U) << "four of the six were sent";
    set(condition("{if: {recipientdomain: x.test}, then: {rate: {count: 3, interval: 60, algorithm: fixedwindow}}}", file));
    world->pass(59 * second);
    EXPECT_EQ(count_started(), 0U);
    world->pass(second);
    EXPECT_EQ(count_started(), 3U);
}

TEST_F(RunTime, LoweringAConcurrencyClosesIdleSessions) {
    start(with(per_mx));
    mail(5);
    world->resolve("x.test");
    for (const Deliver& deliver : started()) {
        world->opened(deliver);
        world->done(deliver);
    }
    EXPECT_EQ(world->core.stats().idle_sessions, 5U);
    set(condition("{if: {remotemx: mx.a}, then: {concurrency: 2}}", policies(per_mx)));
    EXPECT_EQ(world->take<Close>().size(), 3U);
}

TEST_F(RunTime, WithoutItsPolicyAConditionIsIdleUntilThePolicyIsBack) {
    start(with(per_mx));
    set(condition("{if: {remotemx: mx.a}, then: {concurrency: 1}}", policies(per_mx)));
    const auto idle = [&] {
        bool found = false;
        world->core.each_condition([&](const ConditionView& view) { found = view.idle; });
        return found;
    };
    world->tell(Configure{with("- fields: [remotemx]\n  default: {concurrency: 3}\n")});
    EXPECT_TRUE(idle());
    mail(9);
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 3U);
    world->tell(Configure{with("- fields: [tenantid]\n- fields: [{remotemx: {g: '*.g.test'}}]\n  default: {concurrency: 7}\n")});
    EXPECT_FALSE(idle()) << "the same policy at another place and with other limits";
    mail(9, "y.test");
    world->resolve("y.test", {{"a", 0}});
    EXPECT_EQ(count_started(), 0U);
    world->tell(RemoveCondition{"c", "", ""});
    EXPECT_EQ(count_started(), 4U);
    world->tell(Configure{Options{}});
    world->tell(SetCondition{condition("{if: {remotemx: mx.a}, then: {concurrency: 1}}", policies(per_mx))});
    EXPECT_TRUE(idle()) << "also when there is no file";
}

TEST_F(RunTime, StopIsTheFilesToSay) {
    const char* const stops = "- fields: [tenantid]\n  conditions: [{if: {tenantid: vip}, then: {concurrency: 9, stop: true}}]\n- default: {concurrency: 1}\n";
    start(with(stops));
    set(condition("{if: {tenantid: vip}, then: {concurrency: 4}}", policies(stops)));
    mail(9, "x.test", "vip");
    mail(9, "x.test", "other");
    world->resolve("x.test");
    EXPECT_EQ(count_started(), 5U) << "four that stop there, and one";
}

}  // namespace
}  // namespace sluice::queue
