#include "policy/policy.h"

#include <gtest/gtest.h>

namespace sluice::policy {
namespace {

FieldValues values(Value tenant, Value domain, Value local, Value remote, Value mx) {
    FieldValues out;
    out[Field::tenantid] = tenant;
    out[Field::recipientdomain] = domain;
    out[Field::localip] = local;
    out[Field::remoteip] = remote;
    out[Field::remotemx] = mx;
    return out;
}

TEST(BucketKey, OnlyTheFieldsOfThePolicyTellBucketsApart) {
    const FieldValues one = values(1, 2, 3, 4, 5);
    const FieldValues other = values(1, 9, 3, 9, 9);
    const struct {
        FieldSet fields;
        bool same;
    } rows[] = {
        {{}, true},
        {{Field::tenantid}, true},
        {{Field::recipientdomain}, false},
        {{Field::tenantid, Field::localip}, true},
        {{Field::tenantid, Field::localip, Field::remoteip}, false},
        {{Field::remotemx}, false},
    };
    for (const auto& row : rows) {
        const WindowPolicy policy{"p", row.fields, 1, {}};
        EXPECT_EQ(bucket_key(0, policy, one) == bucket_key(0, policy, other), row.same);
        EXPECT_FALSE(bucket_key(0, policy, one) == bucket_key(1, policy, one)) << "every policy counts for itself";
    }
}

TEST(FieldSet, KnowsWhichFieldsNeedACandidate) {
    EXPECT_FALSE(FieldSet({Field::tenantid, Field::recipientdomain}).depends_on_candidate());
    for (const Field field : {Field::localip, Field::remoteip, Field::remotemx}) {
        EXPECT_TRUE(FieldSet({Field::tenantid, field}).depends_on_candidate()) << name_of(field);
    }
}

TEST(RateWindow, NeverMoreThanCountInAWindow) {
    const WindowRate rate{3, Duration(1'000)};
    RateWindow window;
    Instant now = instant_from_ms(5'000);
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(window.has_room(rate, now));
        window.take(rate, now);
        now += Duration(100);
    }
    EXPECT_FALSE(window.has_room(rate, now));
    EXPECT_EQ(window.reopens(rate), instant_from_ms(6'000));
    EXPECT_TRUE(window.matters(rate, instant_from_ms(5'999)));
    EXPECT_TRUE(window.has_room(rate, instant_from_ms(6'000)));
    EXPECT_FALSE(window.matters(rate, instant_from_ms(6'000)));
    window.take(rate, instant_from_ms(6'500));
    EXPECT_EQ(window.reopens(rate), instant_from_ms(7'500)) << "a window begins with its first message";
}

TEST(RateWindow, NoRateAlwaysHasRoom) {
    RateWindow window;
    for (int i = 0; i < 10; ++i) window.take(WindowRate{}, Instant{});
    EXPECT_TRUE(window.has_room(WindowRate{}, Instant{}));
    EXPECT_FALSE(window.matters(WindowRate{}, Instant{}));
}

}  // namespace
}  // namespace sluice::policy
