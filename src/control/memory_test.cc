#include "control/memory.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <limits>

namespace sluice::control {
namespace {

using std::chrono::seconds;

class MemoryTest : public testing::Test {
protected:
    std::string value_of(const std::string& key) {
        const auto entry = memory_.get(key);
        return entry ? std::string(entry->value.is_string() ? entry->value.as_string().c_str() : std::to_string(entry->value.as_int64())) : "none";
    }
    ManualClock clock_{instant_from_ms(1'000'000)};
    Memory memory_{clock_};
};

TEST_F(MemoryTest, KeepsValuesUntilTheirTimeIsOver) {
    ASSERT_TRUE(memory_.set("a", "one", {}));
    ASSERT_TRUE(memory_.set("b", "two", seconds(5)));
    clock_.advance(seconds(4));
    EXPECT_EQ(value_of("b"), "two");
    EXPECT_EQ(memory_.get("b")->left, Duration(1000));
    clock_.advance(seconds(1));
    EXPECT_EQ(value_of("b"), "none");
    EXPECT_EQ(value_of("a"), "one");
    EXPECT_EQ(memory_.entries(), 1U);
    EXPECT_TRUE(memory_.erase("a"));
    EXPECT_FALSE(memory_.erase("a"));
    EXPECT_EQ(memory_.bytes(), 0U);
}

TEST_F(MemoryTest, CountsAndKeepsTheFirstTimeToLive) {
    EXPECT_EQ(memory_.increment("n", 1, seconds(10)).value(), 1);
    clock_.advance(seconds(9));
    EXPECT_EQ(memory_.increment("n", 5, seconds(10)).value(), 6);
    clock_.advance(seconds(1));
    EXPECT_EQ(memory_.increment("n", -2, {}).value(), -2);
    ASSERT_TRUE(memory_.set("text", "x", {}));
    EXPECT_EQ(memory_.increment("text", 1, {}).error().code, Errc::bad_input);
    ASSERT_TRUE(memory_.set("large", std::numeric_limits<std::int64_t>::max(), {}));
    EXPECT_EQ(memory_.increment("large", 1, {}).error().code, Errc::bad_input);
}

TEST_F(MemoryTest, SwapsOnlyWhatIsAsExpected) {
    EXPECT_TRUE(memory_.compare_and_set("k", std::nullopt, 1, {})->done);
    const auto refused = memory_.compare_and_set("k", std::nullopt, 2, {});
    EXPECT_FALSE(refused->done);
    EXPECT_EQ(*refused->value, boost::json::value(1));
    EXPECT_FALSE(memory_.compare_and_set("k", boost::json::value("1"), 2, {})->done);
    EXPECT_TRUE(memory_.compare_and_set("k", boost::json::value(1), 2, {})->done);
    EXPECT_EQ(value_of("k"), "2");
}

TEST_F(MemoryTest, RatesAreExactOverASlidingWindow) {
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(memory_.rate("mx", "a", 3, seconds(60))->allowed);
        clock_.advance(seconds(10));
    }
    EXPECT_FALSE(memory_.rate("mx", "a", 3, seconds(60))->allowed);
    EXPECT_EQ(memory_.rate("mx", "a", 0, seconds(60))->used, 3U);
    EXPECT_EQ(memory_.rate("mx", "a", 0, seconds(15))->used, 1U) << "a shorter time";
    EXPECT_TRUE(memory_.rate("mx", "b", 3, seconds(60))->allowed) << "another key";
    EXPECT_TRUE(memory_.rate("other", "a", 3, seconds(60))->allowed) << "another namespace";
    clock_.advance(seconds(30));
    EXPECT_TRUE(memory_.rate("mx", "a", 3, seconds(60))->allowed) << "the first is a minute old";
    EXPECT_FALSE(memory_.rate("mx", "a", 3, seconds(60))->allowed);
    clock_.advance(seconds(61));
    EXPECT_EQ(memory_.rate("mx", "a", 0, seconds(60))->used, 0U);
    EXPECT_EQ(memory_.entries(), 0U);
    EXPECT_FALSE(memory_.rate("mx", "a", Memory::rate_count_max + 1, seconds(60)));
}

TEST_F(MemoryTest, RatesAreNobodysEntries) {
    ASSERT_TRUE(memory_.rate("mx", "a", 3, seconds(60)));
    ASSERT_TRUE(memory_.set("b", 1, {}));
    EXPECT_EQ(memory_.list("", "", 10).entries.size(), 1U);
    EXPECT_FALSE(memory_.get(std::string("\x01") + "mx\x01" + "a"));
    EXPECT_FALSE(memory_.set(std::string("\x01") + "mx\x01" + "a", 1, {}));
}

TEST_F(MemoryTest, ListsByPrefixInPages) {
    for (const char* key : {"a:1", "a:2", "a:3", "b:1", "a"}) ASSERT_TRUE(memory_.set(key, 1, {}));
    const Memory::Page first = memory_.list("a:", "", 2);
    ASSERT_EQ(first.entries.size(), 2U);
    EXPECT_EQ(first.entries[0].key, "a:1");
    const Memory::Page second = memory_.list("a:", first.after, 2);
    ASSERT_EQ(second.entries.size(), 1U);
    EXPECT_EQ(second.entries[0].key, "a:3");
    EXPECT_EQ(second.after, "");
}

TEST_F(MemoryTest, MakesRoomByWhatWouldEndSoonest) {
    const boost::json::value large(boost::json::string(Memory::value_bytes_max - 2, 'x'));
    const boost::json::value too_large(boost::json::string(Memory::value_bytes_max, 'x'));
    const std::size_t fit = Memory::bytes_max / (Memory::value_bytes_max + 300);
    ASSERT_TRUE(memory_.set("kept", "x", {}));
    for (std::size_t i = 0; i < fit + 10; ++i) {
        ASSERT_TRUE(memory_.set("t" + std::to_string(i), large, seconds(1000 - static_cast<int>(i % 500)))) << i;
    }
    EXPECT_LE(memory_.bytes(), Memory::bytes_max);
    EXPECT_EQ(value_of("kept"), "x");
    EXPECT_EQ(memory_.set("k", too_large, {}).error().code, Errc::bad_input);
    Result<> done;
    for (std::size_t i = 0; done && i < 2 * fit; ++i) done = memory_.set("u" + std::to_string(i), large, {});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::too_large);
    EXPECT_EQ(value_of("kept"), "x");
}

}  // namespace
}  // namespace sluice::control
