#include "queue/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/random.h"

namespace sluice::queue {
namespace {

struct Nodes {
    std::vector<TimerNode>* nodes;
    TimerNode& operator()(Index key) const { return (*nodes)[key]; }
};

TEST(TimerWheel, WakesToTheMillisecondAtEveryDistance) {
    const std::int64_t start = 1'795'000'000'123;
    for (const std::int64_t distance : {1LL, 63LL, 64LL, 65LL, 4'095LL, 4'096LL, 262'144LL, 86'400'000LL, 31'536'000'000LL}) {
        std::vector<TimerNode> nodes(1);
        TimerWheel<Nodes> wheel(Nodes{&nodes});
        wheel.advance(instant_from_ms(start));
        wheel.add(0, instant_from_ms(start + distance));
        int steps = 0;
        while (wheel.next() < instant_from_ms(start + distance)) {
            wheel.advance(wheel.next());
            ASSERT_EQ(wheel.take(), none) << distance;
            ++steps;
        }
        EXPECT_LE(steps, 7) << "only when it moves to a finer slot";
        EXPECT_EQ(wheel.next(), instant_from_ms(start + distance));
        wheel.advance(instant_from_ms(start + distance));
        EXPECT_EQ(wheel.take(), 0U);
        EXPECT_EQ(wheel.take(), none);
        EXPECT_EQ(wheel.next(), Instant::max());
    }
}

TEST(TimerWheel, ThePastAndTheEndOfTimeAreAllowed) {
    std::vector<TimerNode> nodes(2);
    TimerWheel<Nodes> wheel(Nodes{&nodes});
    wheel.advance(instant_from_ms(5'000));
    wheel.add(0, instant_from_ms(10));
    wheel.add(1, Instant::max());
    EXPECT_EQ(wheel.next(), instant_from_ms(5'000)) << "due at once";
    EXPECT_EQ(wheel.take(), 0U);
    wheel.cancel(1);
    EXPECT_EQ(wheel.next(), Instant::max());
}

TEST(TimerWheel, BehavesLikeASortedMap) {
    constexpr Index keys = 300;
    Random random(7);
    std::vector<TimerNode> nodes(keys);
    TimerWheel<Nodes> wheel(Nodes{&nodes});
    std::map<Index, std::int64_t> model;
    std::int64_t now = 1'000'000;
    wheel.advance(instant_from_ms(now));
    for (int step = 0; step < 20'000; ++step) {
        const auto key = static_cast<Index>(random.below(keys));
        if (model.erase(key) > 0) {
            wheel.cancel(key);
        } else {
            const auto distance = static_cast<std::int64_t>(random.next() >> (24 + random.below(40)));
            model[key] = now + distance;
            wheel.add(key, instant_from_ms(now + distance));
        }
        if (!random.chance(0.2)) continue;
        now += static_cast<std::int64_t>(random.next() >> (44 + random.below(20)));
        wheel.advance(instant_from_ms(now));
        for (Index due = wheel.take(); due != none; due = wheel.take()) {
            ASSERT_TRUE(model.contains(due));
            ASSERT_LE(model[due], now);
            model.erase(due);
        }
        for (const auto& [waiting, when] : model) ASSERT_GT(when, now) << waiting;
        for (const auto& [waiting, when] : model) ASSERT_LE(wheel.next(), instant_from_ms(when));
    }
}

}  // namespace
}  // namespace sluice::queue
