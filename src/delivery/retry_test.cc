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

std::optional<Instant> next(
    const config::OutboundSettings& out, std::size_t failed_before, Instant from, Instant now, Random& random,
    const policy::DeliverySettings* how = nullptr) {
    const auto found = next_attempt(out, how, failed_before, from, now, random);
    return found ? std::optional(found->when) : std::nullopt;
}

TEST(Retry, TakesTheIntervalOfTheAttempt) {
    Random random(1);
    EXPECT_EQ(next(settings(), 0, arrival, arrival, random), arrival + Duration(60'000));
    const Instant later = arrival + Duration(70'000);
    EXPECT_EQ(next(settings(), 1, arrival, later, random), later + Duration(300'000));
}

TEST(Retry, GivesUpAfterTheLastInterval) {
    Random random(1);
    EXPECT_EQ(next(settings(), 2, arrival, arrival, random), std::nullopt);
}

TEST(Retry, C5321_18_TheLastAttemptFallsAtTheEndOfTheLifetime) {
    Random random(1);
    const Instant end = arrival + Duration(3'600'000);
    EXPECT_EQ(next(settings(), 1, arrival, end - Duration(1'000), random), end);
    EXPECT_EQ(next(settings(), 1, arrival, end, random), std::nullopt);
}

TEST(Retry, JitterStaysWithinTenPercentAndVaries) {
    config::OutboundSettings out = settings();
    out.retry_jitter = true;
    Random random(7);
    bool earlier = false;
    bool later = false;
    for (int i = 0; i < 1'000; ++i) {
        const Duration wait = *next(out, 0, arrival, arrival, random) - arrival;
        EXPECT_GE(wait, Duration(54'000));
        EXPECT_LE(wait, Duration(66'000));
        earlier = earlier || wait < Duration(57'000);
        later = later || wait > Duration(63'000);
    }
    EXPECT_TRUE(earlier && later);
}

// ---- as delivery.yaml says -----------------------------------------------------------------------------------

TEST(Retry, TheLastIntervalOfTheFileRepeatsUntilTheLifetimeEnds) {
    Random random(1);
    policy::DeliverySettings how;
    how.retries = {{Duration(10'000), false}, {Duration(20'000), true}};
    for (const std::size_t failed_before : {0U, 1U, 2U, 50U, 60'000U}) {
        const auto found = next_attempt(settings(), &how, failed_before, arrival, arrival, random);
        ASSERT_TRUE(found);
        EXPECT_EQ(found->when - arrival, failed_before == 0 ? Duration(10'000) : Duration(20'000));
        EXPECT_EQ(found->notify, failed_before > 0);
    }
    EXPECT_EQ(next(settings(), 7, arrival, arrival + Duration(3'600'000), random, &how), std::nullopt);
}

TEST(Retry, ACountEndsItAndStretchesTheIntervalsOfTheSettings) {
    Random random(1);
    policy::DeliverySettings how;
    how.retry_count = 4;
    EXPECT_EQ(next(settings(), 3, arrival, arrival, random, &how), arrival + Duration(300'000));
    EXPECT_EQ(next(settings(), 4, arrival, arrival, random, &how), std::nullopt);
    how.retry_count = 1;
    EXPECT_EQ(next(settings(), 0, arrival, arrival, random, &how), arrival + Duration(60'000));
    EXPECT_EQ(next(settings(), 1, arrival, arrival, random, &how), std::nullopt);
    how.retry_count = 0;
    EXPECT_EQ(next(settings(), 0, arrival, arrival, random, &how), std::nullopt);
    how.retry_count = 5;
    config::OutboundSettings never = settings();
    never.temp_fail_intervals.clear();
    EXPECT_EQ(next(never, 0, arrival, arrival, random, &how), std::nullopt) << "no interval to repeat";
}

TEST(Retry, TheLifetimeOfTheFileCountsInsteadOfTheSetting) {
    Random random(1);
    policy::DeliverySettings how;
    how.lifetime = Duration(30'000);
    EXPECT_EQ(next(settings(), 0, arrival, arrival, random, &how), arrival + Duration(30'000));
    EXPECT_EQ(next(settings(), 0, arrival, arrival + Duration(30'000), random, &how), std::nullopt);
    how.lifetime = Duration(7'200'000);
    EXPECT_EQ(next(settings(), 0, arrival, arrival + Duration(3'700'000), random, &how), arrival + Duration(3'760'000));
}

TEST(Retry, WhatLiesAheadIsWhatWouldHappenWithoutJitter) {
    policy::DeliverySettings how;
    how.retries = {{Duration(10'000), false}, {Duration(20'000), true}};
    const auto ahead = [](const policy::DeliverySettings* how, std::size_t failed, Duration lifetime, std::size_t most) {
        std::vector<std::int64_t> seconds;
        for (const Instant at : tries_ahead(settings(), how, failed, arrival, arrival + lifetime, most)) seconds.push_back((at - arrival).count() / 1'000);
        return seconds;
    };
    using Seconds = std::vector<std::int64_t>;
    EXPECT_EQ(ahead(&how, 0, Duration(65'000), 50), (Seconds{10, 30, 50, 65})) << "the last interval repeats; the end comes last";
    EXPECT_EQ(ahead(&how, 0, Duration(3'600'000), 3), (Seconds{10, 30, 50}));
    how.retry_count = 3;
    EXPECT_EQ(ahead(&how, 1, Duration(3'600'000), 50), (Seconds{20, 40}));
    EXPECT_EQ(ahead(&how, 3, Duration(3'600'000), 50), Seconds{});
    Random random(1);
    for (std::size_t failed = 0; failed < 3; ++failed) {
        const auto usual = ahead(nullptr, failed, Duration(100'000'000), 1);
        const auto next_one = next(settings(), failed, arrival, arrival, random);
        ASSERT_EQ(usual.empty(), !next_one) << failed;
        if (next_one) EXPECT_EQ(usual.front(), (*next_one - arrival).count() / 1'000);
    }
}

}  // namespace
}  // namespace sluice::delivery
