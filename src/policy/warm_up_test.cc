#include "policy/warm_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const char* const plan = R"(
warm_up:
- name: new
  localip: [192.0.2.1, 192.0.2.2]
  per: [remotemx]
  days: [50, 100, 1000]
  step_back: 3/60
)";

struct Bench {
    PolicySetPtr set = policies_of(plan);
    WarmUps warm_ups;
    Instant now = instant_from_ms(1'795'000'000'000);
    Reactions last;

    Bench() { warm_ups.configure(set, now, last); }
    const Reactions& try_message(std::string_view ip = "192.0.2.1", const Observation* failure = nullptr) {
        FieldTexts values;
        values.set(Field::localip, ip);
        values.set(Field::remotemx, "mx.a.test");
        last = {};
        warm_ups.tried(values, failure, now, last);
        return last;
    }
    const Reactions& pass(Duration time) {
        now += time;
        last = {};
        warm_ups.advance(now, last);
        return last;
    }
    void send(int count) {
        for (int i = 0; i < count; ++i) try_message();
    }
};

TEST(WarmUp, TheFirstDayHoldsBeforeAnythingIsKnown) {
    const Bench bench;
    ASSERT_THAT(bench.set->policies, SizeIs(1));
    const Policy& policy = *bench.set->policies[0];
    EXPECT_EQ(policy.limits_of(texts_for(policy, {{Field::localip, "192.0.2.2"}, {Field::remotemx, "mx"}})).text(), "50 per 86400 s");
    EXPECT_EQ(policy.limits_of(texts_for(policy, {{Field::localip, "192.0.2.3"}, {Field::remotemx, "mx"}})).text(), "no limit");
}

TEST(WarmUp, DaysFollowEachOtherWhenTheyWereUsed) {
    Bench bench;
    EXPECT_TRUE(bench.try_message("192.0.2.3").empty()) << "an address that does not warm up";
    EXPECT_EQ(bench.try_message().told.at(0).what, "day 1: 50 messages");
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "50 per 86400 s");
    bench.send(10);
    EXPECT_THAT(bench.pass(WarmUps::day).told.at(0).what, HasSubstr("again"));
    bench.send(30);
    EXPECT_EQ(bench.pass(WarmUps::day).told.at(0).what, "day 2: 100 messages");
    bench.send(60);
    bench.pass(WarmUps::day);
    bench.send(900);
    EXPECT_EQ(bench.pass(WarmUps::day).told.at(0).what, "it is warm");
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "no limit");
    for (int i = 0; i < 28; ++i) EXPECT_TRUE(bench.pass(WarmUps::day).removed.empty());
    EXPECT_THAT(bench.pass(WarmUps::day).removed, SizeIs(1)) << "receivers have forgotten it";
    EXPECT_EQ(bench.try_message().told.at(0).what, "day 1: 50 messages");
}

TEST(WarmUp, StepsBack) {
    Bench bench;
    bench.send(50);
    bench.pass(WarmUps::day);
    const Observation blocked{Stage::rcpt, 554, {}, "5.7.1", "listed", Failure::blocked};
    const Observation unknown{Stage::rcpt, 550, {}, "5.1.1", "nobody", Failure::unknown_mailbox};
    for (int i = 0; i < 10; ++i) bench.try_message("192.0.2.1", &unknown);
    bench.try_message("192.0.2.1", &blocked);
    bench.try_message("192.0.2.1", &blocked);
    bench.pass(Duration(60'000));
    EXPECT_TRUE(bench.try_message("192.0.2.1", &blocked).told.empty()) << "not within a minute";
    bench.try_message("192.0.2.1", &blocked);
    EXPECT_EQ(bench.try_message("192.0.2.1", &blocked).told.at(0).what, "stepped back: day 1: 50 messages");
}

TEST(WarmUp, OutlivesRestartsAndCrashesWithoutOverdoingIt) {
    Bench before;
    before.send(50);
    before.pass(WarmUps::day);
    before.send(80);
    Problems problems;
    before.try_message();
    before.try_message();
    const auto kept = parse_condition_record(record_of(before.last.set.at(0)), "journal", problems);
    ASSERT_TRUE(kept);

    Bench after;
    after.now = before.now + Duration(3'600'000);
    ASSERT_TRUE(after.warm_ups.adopt(*kept, after.now, after.last));
    EXPECT_EQ(after.warm_ups.next(), before.now + WarmUps::day) << "the day began when it began";
    after.send(16);
    EXPECT_THAT(after.last.suspended, testing::IsEmpty());
    EXPECT_EQ(after.pass(WarmUps::day).told.at(0).what, "day 3: 1000 messages");

    // A quota that crashes made it forget is not used twice.
    DynamicCondition full = *kept;
    full.limits.properties.at(0).second = "1 " + std::to_string(to_ms(before.now)) + " 100 " + std::to_string(to_ms(before.now)) + " new";
    Bench again;
    again.now = before.now + Duration(3'600'000);
    ASSERT_TRUE(again.warm_ups.adopt(full, again.now, again.last));
    ASSERT_THAT(again.last.suspended, SizeIs(1));
    EXPECT_EQ(again.last.suspended[0].ttl, WarmUps::day - Duration(3'600'000));
    EXPECT_EQ(again.last.suspended[0].match.text(again.set->fields), "localip 192.0.2.1, remotemx mx.a.test");

    for (const char* const bad : {"", "1", "x 1 1 1 new", "1 1 1 1", "-1 1 1 1 new", "1 1 1 1 other"}) {
        full.limits.properties.at(0).second = bad;
        Bench other;
        EXPECT_FALSE(other.warm_ups.adopt(full, other.now, other.last)) << bad;
    }
}

}  // namespace
}  // namespace sluice::policy
