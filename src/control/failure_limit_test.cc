#include "control/failure_limit.h"

#include <gtest/gtest.h>

namespace sluice::control {
namespace {

using namespace std::chrono_literals;

TEST(FailureLimit, WEB_1_TooManyWrongTokensAreEnoughForAMinute) {
    FailureLimit limit;
    const FailureLimit::TimePoint start{1000s};
    const auto client = net::IpAddress::v4(0xC0000201);
    const auto other = net::IpAddress::v4(0xC0000202);
    for (std::uint32_t i = 0; i < FailureLimit::failures_max; ++i) {
        EXPECT_FALSE(limit.reached(client, start + 1s * i));
        limit.add(client, start + 1s * i);
    }
    EXPECT_TRUE(limit.reached(client, start + 59s));
    EXPECT_FALSE(limit.reached(other, start + 59s));
    EXPECT_FALSE(limit.reached(client, start + 60s));
    limit.add(client, start + 61s);
    EXPECT_FALSE(limit.reached(client, start + 62s));
}

TEST(FailureLimit, RemembersSoManyAddressesAndNoMore) {
    FailureLimit limit;
    const FailureLimit::TimePoint start{1000s};
    const auto bad = net::IpAddress::v4(1);
    for (std::uint32_t i = 0; i < FailureLimit::failures_max; ++i) limit.add(bad, start);
    for (std::uint32_t i = 2; i < FailureLimit::addresses_max; ++i) limit.add(net::IpAddress::v4(i), start + 1s);
    EXPECT_TRUE(limit.reached(bad, start + 1s));
    limit.add(net::IpAddress::v4(FailureLimit::addresses_max), start + 1s);
    limit.add(net::IpAddress::v4(FailureLimit::addresses_max + 1), start + 1s);
    EXPECT_FALSE(limit.reached(bad, start + 1s));
}

}  // namespace
}  // namespace sluice::control
