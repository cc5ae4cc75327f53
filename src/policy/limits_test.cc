#include "policy/limits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"

namespace sluice::policy {
namespace {

constexpr RateAlgorithm fixed = RateAlgorithm::fixed_window;

// Starts as often as the rate allows, each time a little late, as an engine does.
std::vector<Instant> starts(const Rate& rate, Duration time, std::uint64_t late_ms_max, std::uint64_t seed) {
    Random random(seed);
    RateState state;
    std::vector<Instant> times;
    Instant now = instant_from_ms(1'795'000'000'123);
    const Instant end = now + time;
    while (now < end) {
        if (!state.has_room(rate, now)) {
            now = state.opens(rate) + Duration(static_cast<std::int64_t>(random.below(late_ms_max + 1)));
            continue;
        }
        state.take(rate, now);
        times.push_back(now);
    }
    return times;
}

std::size_t most_in_any_stretch(const std::vector<Instant>& times, Duration length) {
    std::size_t most = 0, first = 0;
    for (std::size_t last = 0; last < times.size(); ++last) {
        while (times[last] - times[first] >= length) ++first;
        most = std::max(most, last - first + 1);
    }
    return most;
}

TEST(Rate, TokenBucketNeverExceedsItsCountInAnyStretchAndReachesIt) {
    const struct {
        std::uint32_t count;
        Duration per;
    } rows[] = {{1, Duration(1'000)}, {10, Duration(1'000)}, {50, Duration(1'000)}, {5'000, Duration(1'000)}, {10, Duration(60'000)},
                {500, Duration(3'600'000)}, {7, Duration(300)}};
    for (const auto& row : rows) {
        const Rate rate(row.count, row.per);
        for (std::uint64_t seed = 1; seed <= 5; ++seed) {
            const std::uint64_t late = static_cast<std::uint64_t>(row.per.count()) / 200;
            const std::vector<Instant> times = starts(rate, row.per * 40, late, seed);
            EXPECT_LE(most_in_any_stretch(times, row.per), row.count) << rate.text();
            EXPECT_GE(static_cast<double>(times.size()), 40.0 * row.count * 0.98) << rate.text();
        }
    }
}

TEST(Rate, TokenBucketNeverExceedsItsCountWhateverComes) {
    const Rate rate(20, Duration(1'000));
    Random random(7);
    RateState state;
    std::vector<Instant> times;
    Instant now = instant_from_ms(1'795'000'000'000);
    for (int i = 0; i < 20'000; ++i) {
        now += Duration(static_cast<std::int64_t>(random.below(random.below(10) == 0 ? 3'000 : 60)));
        while (state.has_room(rate, now)) {
            state.take(rate, now);
            times.push_back(now);
            if (random.below(4) == 0) break;
        }
    }
    EXPECT_LE(most_in_any_stretch(times, Duration(1'000)), 20U);
}

TEST(Rate, FixedWindowBeginsWithItsFirstMessage) {
    const Rate rate(3, Duration(1'000), fixed);
    RateState state;
    Instant now = instant_from_ms(5'000);
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(state.has_room(rate, now));
        state.take(rate, now);
        now += Duration(100);
    }
    EXPECT_FALSE(state.has_room(rate, now));
    EXPECT_EQ(state.opens(rate), instant_from_ms(6'000));
    EXPECT_TRUE(state.matters(rate, instant_from_ms(5'999)));
    EXPECT_TRUE(state.has_room(rate, instant_from_ms(6'000)));
    EXPECT_FALSE(state.matters(rate, instant_from_ms(6'000)));
    state.take(rate, instant_from_ms(6'500));
    state.take(rate, instant_from_ms(6'500));
    state.take(rate, instant_from_ms(6'500));
    EXPECT_EQ(state.opens(rate), instant_from_ms(7'500));
}

TEST(Rate, NoRateAlwaysHasRoom) {
    RateState state;
    for (int i = 0; i < 10; ++i) state.take(Rate{}, Instant{});
    EXPECT_TRUE(state.has_room(Rate{}, Instant{}));
    EXPECT_FALSE(state.matters(Rate{}, Instant{}));
}

TEST(Rate, OpensWhenThereIsRoomAndNotAMillisecondBefore) {
    Random random(3);
    for (const Rate& rate : {Rate(7, Duration(1'000)), Rate(3, Duration(1'000), fixed), Rate(100'000, Duration(86'400'000))}) {
        RateState state;
        Instant now = instant_from_ms(1'795'000'000'000);
        for (int i = 0; i < 1'000; ++i) {
            while (state.has_room(rate, now)) state.take(rate, now);
            const Instant opens = state.opens(rate);
            ASSERT_GT(opens, now);
            EXPECT_FALSE(state.has_room(rate, opens - Duration(1)));
            EXPECT_TRUE(state.has_room(rate, opens));
            EXPECT_TRUE(state.matters(rate, now));
            now = opens + Duration(static_cast<std::int64_t>(random.below(5)));
        }
    }
}

TEST(ByteState, OwesWhatWasSentAndLetsAMessageOfAnySizeStart) {
    ByteState state;
    const Instant now = instant_from_ms(10'000);
    ASSERT_TRUE(state.has_room(1'000, now));
    state.take(1'000, 50'000, now);
    EXPECT_FALSE(state.has_room(1'000, instant_from_ms(59'999)));
    EXPECT_TRUE(state.has_room(1'000, instant_from_ms(60'000)));
    EXPECT_TRUE(state.matters(1'000, instant_from_ms(59'999)));
    EXPECT_FALSE(state.matters(1'000, instant_from_ms(60'000)));
    EXPECT_TRUE(state.has_room(0, now));
}

TEST(Limits, SayWhatTheyAllow) {
    Limits limits;
    EXPECT_EQ(limits.text(), "no limit");
    EXPECT_FALSE(limits.any());
    limits.concurrency = 10;
    limits.rates = {Rate(50, Duration(1'000)), Rate(1'000, Duration(3'600'000), fixed)};
    limits.connect_interval = Duration(500);
    EXPECT_EQ(limits.text(), "10 sessions, 50 per second, 1000 per 3600 s (fixed window), a new session every 0.5 s");
    EXPECT_TRUE(limits.any());
}

}  // namespace
}  // namespace sluice::policy
