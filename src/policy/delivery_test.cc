#include "policy/delivery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

DeliveryFile delivery_of(std::string_view text) {
    Problems problems;
    std::optional<DeliveryFile> file = parse_delivery(text, "delivery.yaml", PolicySet{}, problems);
    EXPECT_THAT(texts_of(problems.all()), testing::IsEmpty());
    return file ? *file : DeliveryFile{};
}

const DeliverySettings& settings(const DeliveryFile& file, std::string_view mx) {
    FieldTexts texts;
    texts.set(Field::remotemx, mx);
    return file.settings_of(texts);
}

TEST(Delivery, TheFirstConditionThatMatchesOrTheDefault) {
    const DeliveryFile file = delivery_of(R"(
delivery:
  conditions:
    - if: { remotemx: '*.strict.test' }
      then:
        tls: { mode: require_verify }
        timeout: { connect: 5, smtp: { BANNER: 30, EOD: 600.5 } }
        family: ipv4
    - if: { remotemx: '*.test' }
      then: { inherit: true, pooling: { enabled: true, timeout: 10, transactions: 100, evictable: false } }
  default:
    tls: { mode: optional }
    retry: { count: 30, lifetime: 432000, intervals: [60, 900, { interval: 3600, notify: true }] }
)");
    const DeliverySettings& strict = settings(file, "mx.strict.test");
    EXPECT_EQ(strict.tls, TlsDemand::require_verify);
    EXPECT_EQ(strict.connect_timeout, Duration(5'000));
    EXPECT_THAT(strict.state_timeouts, testing::ElementsAre(testing::Pair("BANNER", Duration(30'000)), testing::Pair("EOD", Duration(600'500))));
    EXPECT_EQ(strict.family, FamilyChoice::ipv4);
    EXPECT_FALSE(strict.retry_count) << "nothing is inherited unless asked for";
    const DeliverySettings& pooled = settings(file, "mx.some.test");
    EXPECT_EQ(pooled.tls, TlsDemand::optional);
    EXPECT_EQ(pooled.pooling, true);
    EXPECT_EQ(pooled.evictable, false);
    EXPECT_EQ(pooled.transactions, 100U);
    EXPECT_EQ(pooled.idle_timeout, Duration(10'000));
    const DeliverySettings& usual = settings(file, "mx.example.org");
    EXPECT_EQ(usual.retry_count, 30U);
    EXPECT_EQ(usual.lifetime, Duration(432'000'000));
    EXPECT_THAT(usual.retries, testing::ElementsAre(DeliverySettings::Retry{Duration(60'000), false}, DeliverySettings::Retry{Duration(900'000), false},
                                                    DeliverySettings::Retry{Duration(3'600'000), true}));
}

TEST(Delivery, WhatASessionIsLikeIsToldFromWhatItsItemsAreLike) {
    const DeliveryFile file = delivery_of(R"(
conditions:
  - if: { tenantid: a }
    then: { tls: { mode: require }, timeout: { smtp: { EOD: 5 } } }
  - if: { tenantid: b }
    then: { timeout: { smtp: { EOD: 5 } }, tls: { mode: require }, retry: { count: 3, lifetime: 60 }, family: ipv4 }
  - if: { tenantid: c }
    then: { tls: { mode: require_verify }, timeout: { smtp: { EOD: 5 } } }
  - if: { tenantid: d, remotemx: '*' }
    then: { retry: { count: 3 } }
)");
    EXPECT_EQ(file.at(1).session_text(), file.at(2).session_text());
    EXPECT_NE(file.at(1).session_text(), file.at(3).session_text());
    EXPECT_EQ(file.at(4).session_text(), "");
    EXPECT_EQ(file.at(0).session_text(), "");
    EXPECT_TRUE(file.at(4).any());
    EXPECT_FALSE(file.at(0).any());
    EXPECT_TRUE(file.at(3).verifies_tls());
    EXPECT_EQ(file.used_fields(), (FieldSet{Field::tenantid, Field::remotemx}));
}

TEST(Delivery, StatesThatNothingWaitsForAreNamed) {
    Problems problems;
    const auto file = parse_delivery("default: {timeout: {smtp: {NOOP: 5, RSET: 5, MAIL: 5}}}\n", "delivery.yaml", PolicySet{}, problems);
    ASSERT_TRUE(file);
    EXPECT_THAT(texts_of(problems.all()), testing::ElementsAre("warning: delivery.yaml:1: timeout: NOOP is never sent, so nothing waits for its answer",
                                                               "warning: delivery.yaml:1: timeout: RSET goes out together with MAIL, whose timeout counts"));
}

TEST(Delivery, WithoutTheOuterKeyAndEmpty) {
    EXPECT_EQ(delivery_of("default: {family: prefer_ipv6}\n").fallback.family, FamilyChoice::prefer_ipv6);
    EXPECT_EQ(delivery_of("").fallback, DeliverySettings{});
}

}  // namespace
}  // namespace sluice::policy
