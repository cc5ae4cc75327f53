#include "policy/adaptive.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sluice::policy {
namespace {

Limits adaptive_sessions(std::uint32_t min, std::uint32_t max) {
    Limits limits;
    limits.adaptive.concurrency_min = min;
    limits.adaptive.concurrency_max = max;
    return limits;
}

Limits adaptive_rate(std::uint32_t min, std::uint32_t max, Duration per) {
    Limits limits;
    limits.adaptive.rate_min = min;
    limits.adaptive.rate_max = max;
    limits.adaptive.rate_per = per;
    return limits;
}

const Instant start = instant_from_ms(1'795'000'000'000);

TEST(Adapting, SessionsFindTheHiddenLimitOfAReceiver) {
    for (const std::uint32_t hidden : {3U, 20U, 75U}) {
        Adapting adapting(adaptive_sessions(1, 500));
        Instant now = start;
        std::uint32_t highest = 0, lowest = 500;
        std::uint64_t refused = 0, taken = 0;
        for (int round = 0; round < 400; ++round) {
            // As many sessions as allowed at once, and as fast as they come: what is too much is refused.
            const std::uint32_t open = adapting.limits().concurrency;
            for (std::uint32_t session = 0; session < open; ++session) {
                const bool fits = session < hidden;
                if (fits) adapting.delivered(true, now);
                else adapting.failed(Failure::connections, now);
                if (round >= 50) ++(fits ? taken : refused);
            }
            now += Duration(1'000);
            if (round < 50) continue;
            highest = std::max(highest, open);
            lowest = std::min(lowest, open);
        }
        EXPECT_LE(highest, hidden + 1 + hidden / 10) << hidden;
        EXPECT_GE(lowest, hidden * 7 / 10) << hidden;
        // With three sessions one too many is a quarter of all, one round in three or so.
        EXPECT_LE(static_cast<double>(refused) / static_cast<double>(taken), hidden < 10 ? 0.12 : 0.06) << hidden;
    }
}

TEST(Adapting, RatesFindTheHiddenLimitOfAReceiver) {
    Adapting adapting(adaptive_rate(10, 6'000, Duration(60'000)));
    const std::uint32_t hidden = 600;  // a minute
    Instant now = start;
    std::uint64_t refused = 0, taken = 0;
    for (int minute = 0; minute < 240; ++minute) {
        // The receiver counts by its own minutes.
        std::uint32_t seen = 0;
        for (double second = 0; second < 60;) {
            const std::uint32_t rate = adapting.limits().rates.at(0).count();
            second += 60.0 / rate;
            now = start + Duration(minute * 60'000 + static_cast<std::int64_t>(second * 1'000));
            const bool fits = ++seen <= hidden;
            if (fits) adapting.delivered(true, now);
            else adapting.failed(Failure::throttled, now);
            if (minute >= 30) ++(fits ? taken : refused);
        }
    }
    EXPECT_GE(static_cast<double>(taken), 0.8 * hidden * 210) << "it is used";
    EXPECT_LE(static_cast<double>(refused) / static_cast<double>(taken), 0.05);
}

TEST(Adapting, ObjectionsToOneCrowdCountOnce) {
    Adapting adapting(adaptive_sessions(1, 100));
    for (int i = 0; i < 39; ++i) adapting.delivered(true, start);
    EXPECT_EQ(adapting.limits().concurrency, 40U);
    for (int i = 0; i < 30; ++i) adapting.failed(Failure::connections, start);
    EXPECT_EQ(adapting.limits().concurrency, 30U);
    EXPECT_TRUE(adapting.is_news());
    EXPECT_FALSE(adapting.is_news());
}

TEST(Adapting, AnOutageIsFollowedByASlowStart) {
    Adapting adapting(adaptive_sessions(2, 100));
    for (int i = 0; i < 62; ++i) adapting.delivered(true, start);
    EXPECT_EQ(adapting.limits().concurrency, 64U);
    for (int i = 0; i < 100; ++i) adapting.failed(Failure::connection, start);
    EXPECT_EQ(adapting.limits().concurrency, 2U);
    adapting.delivered(true, start);
    EXPECT_EQ(adapting.limits().concurrency, 3U);
    for (int i = 0; i < 100; ++i) adapting.delivered(true, start);
    EXPECT_LT(adapting.limits().concurrency, 30U) << "not blindly up to where it was";
}

TEST(Adapting, WhatDoesNotHoldBackDoesNotGrow) {
    Adapting adapting(adaptive_sessions(2, 100));
    for (int i = 0; i < 1'000; ++i) EXPECT_FALSE(adapting.delivered(false, start));
    EXPECT_EQ(adapting.limits().concurrency, 2U);
    for (int i = 0; i < 1'000; ++i) EXPECT_FALSE(adapting.failed(Failure::unknown_mailbox, start));
}

TEST(Adapting, StaysWithinItsBoundsAndBeginsAnewAfterSilence) {
    Limits limits = adaptive_sessions(2, 10);
    limits.concurrency = 8;
    Adapting adapting(limits);
    for (int i = 0; i < 1'000; ++i) adapting.delivered(true, start);
    EXPECT_EQ(adapting.limits().concurrency, 8U) << "the limit of the policy holds as well";
    for (int i = 0; i < 1'000; ++i) adapting.failed(Failure::connections, start);
    EXPECT_EQ(adapting.limits().concurrency, 2U);
    for (int i = 0; i < 5; ++i) adapting.delivered(true, start);
    EXPECT_EQ(adapting.remembers_until(), start + Duration(600'000));
    adapting.delivered(true, start + Duration(600'001));
    EXPECT_EQ(adapting.limits().concurrency, 3U);
}

}  // namespace
}  // namespace sluice::policy
