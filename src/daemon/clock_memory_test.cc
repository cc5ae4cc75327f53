#include "daemon/clock_memory.h"

#include <gtest/gtest.h>

namespace sluice::daemon {
namespace {

constexpr std::int64_t hour = 3'600'000;
constexpr std::int64_t day = 24 * hour;
constexpr std::int64_t then = 1'795'172'040'000;

const ClockReading last{"boot-a", 5 * hour, then, then};

ClockReading later(const char* boot, std::int64_t boot_ms, std::int64_t wall_ms) { return {boot, boot_ms, wall_ms, 0}; }

std::int64_t gap(const ClockReading& now) { return to_ms(resumed_at(last, now)) - last.engine_ms; }

TEST(ClockMemory, AReadingSurvivesItsText) {
    const auto read = parse_reading(format_reading(last));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->boot, last.boot);
    EXPECT_EQ(read->boot_ms, last.boot_ms);
    EXPECT_EQ(read->wall_ms, last.wall_ms);
    EXPECT_EQ(read->engine_ms, last.engine_ms);
    EXPECT_EQ(format_reading({"boot-a", 1, 2, 3}).size(), format_reading(last).size());
}

TEST(ClockMemory, WhatIsTornOrForeignIsNoReading) {
    const std::string line = format_reading(last);
    for (std::size_t size = 0; size < line.size(); ++size) EXPECT_FALSE(parse_reading(line.substr(0, size)));
    for (std::size_t at = 0; at < line.size(); ++at) {
        std::string flipped = line;
        flipped[at] = static_cast<char>(flipped[at] ^ 1);
        EXPECT_FALSE(parse_reading(flipped)) << at;
    }
}

TEST(ClockMemory, FM_27_OnTheSameMachineNoWallClockMatters) {
    for (const std::int64_t wall : {std::int64_t{0}, then - 10 * day, then + 10 * day, then + 40'000 * day}) {
        EXPECT_EQ(gap(later("boot-a", 7 * hour, wall)), 2 * hour);
        EXPECT_EQ(gap(later("boot-a", 200 * hour, wall)), 195 * hour) << "however long it was";
    }
}

TEST(ClockMemory, FM_27_AfterABootTheWallClockIsBelievedForADayAndNeverBackwards) {
    EXPECT_EQ(gap(later("boot-b", hour, then + 3 * hour)), 3 * hour);
    EXPECT_EQ(gap(later("boot-b", hour, then - 10 * day)), 0);
    EXPECT_EQ(gap(later("boot-b", hour, 0)), 0);
    EXPECT_EQ(gap(later("boot-b", hour, then + 10 * day)), day);
    EXPECT_EQ(gap(later("boot-b", hour, then + 40'000 * day)), day);
    EXPECT_EQ(gap(later("", 7 * hour, then + 3 * hour)), 3 * hour) << "a machine that does not name its boots";
    EXPECT_EQ(gap(later("boot-a", hour, then + 3 * hour)), 3 * hour) << "less time since the boot than before: another one";
}

TEST(ClockMemory, ANewQueueBeginsWithTheWallClock) {
    EXPECT_EQ(to_ms(resumed_at(std::nullopt, later("boot-a", hour, then))), then);
    EXPECT_EQ(to_ms(resumed_at(std::nullopt, later("boot-a", hour, -day))), 0) << "engine time is not before the epoch";
}

}  // namespace
}  // namespace sluice::daemon
