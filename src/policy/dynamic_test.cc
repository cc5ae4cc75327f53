#include "policy/dynamic.h"

#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

using Class = DynamicCondition::Class;

class Dynamic : public testing::Test {
protected:
    DynamicCondition condition(std::string id, Class kind, std::uint32_t concurrency, const char* match, std::int64_t since_ms) {
        // The match is written as a static condition of the same policy, so that it reads alike.
        const PolicySetPtr set = policies_of("- fields: [localip, remotemx]\n  conditions: [{if: " + std::string(match) + ", then: {}}]\n");
        DynamicCondition made;
        made.id = std::move(id);
        made.kind = kind;
        made.counts = policy_.counts;
        made.match = set->policies[0]->conditions[0].match;
        made.limits.concurrency = concurrency;
        made.since = instant_from_ms(since_ms);
        return made;
    }
    std::uint32_t concurrency(const char* ip, const char* mx, std::int64_t now_ms = 1'000) const {
        return conditions_.limits_of(policy_, texts_for(policy_, {{Field::localip, ip}, {Field::remotemx, mx}}), instant_from_ms(now_ms)).concurrency;
    }

    PolicySetPtr set_ = policies_of("- fields: [localip, remotemx]\n  conditions: [{if: {remotemx: m.test}, then: {concurrency: 50}}]\n  default: {concurrency: 20}\n");
    const Policy& policy_ = *set_->policies[0];
    DynamicConditions conditions_;
};

TEST_F(Dynamic, BackOffBeforeWarmUpBeforeOrdinaryBeforeStatic) {
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 50U);
    conditions_.set(condition("o", Class::ordinary, 3, "{localip: 192.0.2.1, remotemx: m.test}", 900));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 3U);
    conditions_.set(condition("w", Class::warm_up, 2, "{localip: 192.0.2.1}", 100));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 2U);
    conditions_.set(condition("b", Class::back_off, 1, "{remotemx: m.test}", 50));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 1U);
    EXPECT_EQ(concurrency("192.0.2.9", "other.test"), 20U);
    EXPECT_TRUE(conditions_.remove("b"));
    EXPECT_FALSE(conditions_.remove("b"));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 2U);
}

TEST_F(Dynamic, InAClassMoreFieldsThenTheNewer) {
    conditions_.set(condition("two", Class::ordinary, 1, "{localip: 192.0.2.1, remotemx: m.test}", 100));
    conditions_.set(condition("one", Class::ordinary, 2, "{remotemx: m.test}", 900));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 1U);
    conditions_.set(condition("newer", Class::ordinary, 3, "{localip: 192.0.2.1, remotemx: /^m/}", 200));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 3U);
    conditions_.set(condition("as new", Class::ordinary, 4, "{localip: 192.0.2.0/24, remotemx: /^m/}", 200));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 4U) << "of equals the one said last";
}

TEST_F(Dynamic, SayingItTwiceRenewsIt) {
    EXPECT_EQ(conditions_.set_or_renew(condition("a", Class::back_off, 1, "{remotemx: m.test}", 100)), "a");
    EXPECT_EQ(conditions_.set_or_renew(condition("b", Class::back_off, 2, "{remotemx: m.test}", 200)), "a");
    EXPECT_EQ(conditions_.all().size(), 1U);
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 2U);
    conditions_.set(condition("a", Class::ordinary, 7, "{localip: 192.0.2.1}", 300));
    EXPECT_EQ(conditions_.all().size(), 1U) << "an id names one condition";
    EXPECT_EQ(concurrency("192.0.2.1", "m.test"), 7U);
}

TEST_F(Dynamic, EndsInTime) {
    DynamicCondition made = condition("a", Class::back_off, 1, "{remotemx: m.test}", 100);
    made.expires = instant_from_ms(2'000);
    conditions_.set(made);
    conditions_.set(condition("for ever", Class::ordinary, 9, "{remotemx: m.test}", 100));
    EXPECT_EQ(conditions_.next_expiry(), instant_from_ms(2'000));
    EXPECT_EQ(concurrency("192.0.2.1", "m.test", 1'999), 1U);
    EXPECT_EQ(concurrency("192.0.2.1", "m.test", 2'000), 9U) << "over, even before it is removed";
    const std::vector<DynamicCondition> over = conditions_.expire(instant_from_ms(2'000));
    ASSERT_EQ(over.size(), 1U);
    EXPECT_EQ(over[0].id, "a");
    EXPECT_EQ(conditions_.next_expiry(), std::nullopt);
}

TEST_F(Dynamic, OnlyForThePolicyItOverrides) {
    conditions_.set(condition("a", Class::back_off, 1, "{remotemx: m.test}", 100));
    const PolicySetPtr other = policies_of("- fields: [remotemx]\n  default: {concurrency: 4}\n");
    const Policy& policy = *other->policies[0];
    EXPECT_EQ(conditions_.limits_of(policy, texts_for(policy, {{Field::remotemx, "m.test"}}), instant_from_ms(500)).concurrency, 4U);
}

}  // namespace
}  // namespace sluice::policy
