#include "delivery/retry.h"

#include <gtest/gtest.h>

namespace sluice::delivery {
namespace {

const Instant arrival = instant_from_ms(1'800'000'000'000);

config::OutboundSettings settings() {
    config::OutboundSettings out;
    out.temp_fail_intervals = {Duration(60'000), Duration(300'000)};
    out.retry_jitter = false;
    out.queue_lifetime = Duration(3'600'000);
    return out;
}

TEST(Retry, TakesTheIntervalOfTheAttempt) {
    Random random(1);
    EXPECT_EQ(next_attempt(settings(), 0, arrival, arrival, random), arrival + Duration(60'000));
    const Instant later = arrival + Duration(70'000);
    EXPECT_EQ(next_attempt(settings(), 1, arrival, later, random), later + Duration(300'000));
}

TEST(Retry, GivesUpAfterTheLastInterval) {
    Random random(1);
    EXPECT_EQ(next_attempt(settings(), 2, arrival, arrival, random), std::nullopt);
}

TEST(Retry, C5321_18_TheLastAttemptFallsAtTheEndOfTheLifetime) {
    Random random(1);
    const Instant end = arrival + Duration(3'600'000);
    EXPECT_EQ(next_attempt(settings(), 1, arrival, end - Duration(1'000), random), end);
    EXPECT_EQ(next_attempt(settings(), 1, arrival, end, random), std::nullopt);
}

TEST(Retry, JitterStaysWithinTenPercentAndVaries) {
    config::OutboundSettings out = settings();
    out.retry_jitter = true;
    Random random(7);
    bool earlier = false;
    bool later = false;
    for (int i = 0; i < 1'000; ++i) {
        const Duration wait = *next_attempt(out, 0, arrival, arrival, random) - arrival;
        EXPECT_GE(wait, Duration(54'000));
        EXPECT_LE(wait, Duration(66'000));
        earlier = earlier || wait < Duration(57'000);
        later = later || wait > Duration(63'000);
    }
    EXPECT_TRUE(earlier && later);
}

}  // namespace
}  // namespace sluice::delivery
