#include "plugin/blame.h"

#include <gtest/gtest.h>

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;

constexpr Blame::Limits three{3, 30s};

class BlameTest : public testing::Test {
protected:
    bool ended(std::chrono::seconds at, const char* hook = "get_mx") {
        return blame_.ended("a", hook, three, start_ + at);
    }
    std::size_t resting(std::chrono::seconds at) const { return blame_.resting(start_ + at).size(); }

    Blame blame_;
    const Blame::Time start_{1h};
};

TEST_F(BlameTest, AHookRestsAfterItsThirdHostAndComesBack) {
    EXPECT_FALSE(ended(0s));
    EXPECT_FALSE(ended(10s));
    EXPECT_FALSE(ended(15s, "bounce"));
    EXPECT_EQ(resting(15s), 0U);
    EXPECT_TRUE(ended(20s));
    const auto now = blame_.resting(start_ + 20s);
    ASSERT_EQ(now.size(), 1U);
    EXPECT_EQ(now[0].plugin, "a");
    EXPECT_EQ(now[0].hook, "get_mx");
    EXPECT_EQ(now[0].until, start_ + 50s);
    EXPECT_EQ(resting(50s), 0U);
}

TEST_F(BlameTest, OneMoreSoonAfterARestIsTwiceAsLongUpToTenMinutes) {
    for (const auto at : {0s, 1s, 2s})
        ended(at);
    std::chrono::seconds at = 2s;
    for (const auto rest : {30s, 60s, 120s, 240s, 480s, 600s, 600s}) {
        EXPECT_EQ(blame_.resting(start_ + at).at(0).until, start_ + at + rest);
        at += rest + 9min;
        EXPECT_EQ(resting(at), 0U);
        EXPECT_TRUE(ended(at));
    }
}

TEST_F(BlameTest, WhoBehavesForTenMinutesStartsAgain) {
    ended(0s);
    ended(1s);
    EXPECT_FALSE(ended(700s)) << "the others are too long ago";
    ended(701s);
    EXPECT_TRUE(ended(702s));
    EXPECT_FALSE(ended(702s + 30s + 601s));
}

TEST_F(BlameTest, OtherVersionsAreNotBlamedForTheseAndNoLimitBlamesNobody) {
    for (const auto at : {0s, 1s, 2s})
        ended(at);
    blame_.forget();
    EXPECT_EQ(resting(3s), 0U);
    EXPECT_FALSE(ended(4s));
    for (int i = 0; i < 9; ++i)
        EXPECT_FALSE(blame_.ended("b", "x", {0, 30s}, start_));
}

}  // namespace
}  // namespace sluice::plugin
