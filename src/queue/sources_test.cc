#include "queue/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

namespace sluice::queue {
namespace {

class SourcesTest : public testing::Test {
protected:
    using Order = LocalPool::Order;
    std::string preferred(Index pool, Family family = Family::ipv4) const {
        return std::string(names.text(sources.preferred(pool, family, choice, now).address));
    }
    std::vector<std::string> list(Index pool, Family family = Family::ipv4) const {
        std::vector<Local> locals;
        sources.list(pool, family, choice, now, locals);
        std::vector<std::string> texts;
        for (const Local& local : locals) texts.emplace_back(names.text(local.address));
        return texts;
    }
    void avoid(const char* address) {
        const NameId name = names.intern(address);
        sources.avoid(name, now + Duration(500));
        names.drop(name);
    }
    Index pool_of(const char* transport) {
        const NameId name = names.intern(transport);
        const Index pool = sources.pool_of(name);
        names.drop(name);
        return pool;
    }

    Names names;
    Instant now = instant_from_ms(1'000);
    Sources sources{names};
    SourceChoice choice;
};

TEST_F(SourcesTest, UnusableAddressesAreSkippedUntilAllAre) {
    sources.configure({"192.0.2.1", "192.0.2.2", "192.0.2.3"}, {}, {});
    choice = sources.choose(0, 4, 0);  // the second
    EXPECT_EQ(preferred(0), "192.0.2.2");
    for (const char* const next : {"192.0.2.3", "192.0.2.1", "192.0.2.2"}) {
        avoid(preferred(0).c_str());
        EXPECT_EQ(preferred(0), next);
    }
    now += Duration(500);
    EXPECT_EQ(preferred(0), "192.0.2.2");
    EXPECT_THAT(list(0), testing::ElementsAre("192.0.2.2", "192.0.2.3", "192.0.2.1"));
    sources.configure({"192.0.2.2"}, {"2001:db8::1"}, {});
    EXPECT_EQ(preferred(0, Family::ipv6), "2001:db8::1");
    EXPECT_EQ(preferred(0, Family::local), "");
    sources.configure({}, {}, {});
    EXPECT_EQ(names.size(), 1U) << "only the empty name is left";
}

TEST_F(SourcesTest, ATransportHasItsOwnAddressesAndOthersHaveTheUsualOnes) {
    sources.configure({"192.0.2.1"}, {}, {{"bulk", Order::fill, {{"192.0.2.7", 1, "bulk.test"}, {"192.0.2.8", 1, ""}}}, {"empty", Order::fill, {}}});
    EXPECT_EQ(preferred(pool_of("bulk")), "192.0.2.7");
    EXPECT_EQ(names.text(sources.preferred(pool_of("bulk"), Family::ipv4, choice, now).helo), "bulk.test");
    EXPECT_EQ(pool_of("empty"), 0U);
    EXPECT_EQ(pool_of("unheard"), 0U);
    EXPECT_FALSE(sources.serves(pool_of("bulk"), Family::ipv6)) << "mail of a transport does not leave from anywhere else";
    EXPECT_TRUE(list(pool_of("bulk"), Family::ipv6).empty());
    EXPECT_TRUE(sources.serves(0, Family::ipv6)) << "the kernel chooses";
    avoid("192.0.2.7");
    EXPECT_THAT(list(pool_of("bulk")), testing::ElementsAre("192.0.2.8", "192.0.2.7"));
}

TEST_F(SourcesTest, SpreadingFollowsTheWeightsAtEveryMoment) {
    sources.configure({}, {}, {{"bulk", Order::spread, {{"192.0.2.1", 5, ""}, {"192.0.2.2", 3, ""}, {"192.0.2.3", 2, ""}}}});
    const Index pool = pool_of("bulk");
    std::map<std::string, int> sent;
    for (int i = 1; i <= 1'000; ++i) {
        const std::string address = preferred(pool);
        EXPECT_EQ(list(pool).front(), address);
        ++sent[address];
        const NameId name = names.intern(address);
        sources.count(pool, Family::ipv4, name);
        names.drop(name);
        EXPECT_LE(std::abs(sent["192.0.2.1"] - 0.5 * i), 1.5);
        EXPECT_LE(std::abs(sent["192.0.2.3"] - 0.2 * i), 1.5);
    }
}

TEST_F(SourcesTest, AnAddressThatWasOutDoesNotGetEverythingAfterwards) {
    sources.configure({}, {}, {{"bulk", Order::spread, {{"192.0.2.1", 1, ""}, {"192.0.2.2", 1, ""}}}});
    const Index pool = pool_of("bulk");
    const NameId second = names.intern("192.0.2.2");
    for (int i = 0; i < 10'000; ++i) sources.count(pool, Family::ipv4, second);
    int in_a_row = 0;
    for (; preferred(pool) == "192.0.2.1"; ++in_a_row) sources.count(pool, Family::ipv4, sources.preferred(pool, Family::ipv4, choice, now).address);
    EXPECT_LE(in_a_row, 4);
    names.drop(second);
}

TEST_F(SourcesTest, ALargePoolIsLookedAtFromThePreferredAddressOn) {
    std::vector<std::string> many;
    for (int i = 0; i < 200; ++i) many.push_back("192.0.2." + std::to_string(i));
    sources.configure(many, {}, {});
    choice = sources.choose(0, 190, 0);
    const std::vector<std::string> considered = list(0);
    ASSERT_EQ(considered.size(), Sources::considered_max);
    EXPECT_EQ(considered.front(), "192.0.2.190");
    EXPECT_EQ(considered[10], "192.0.2.0");
}

}  // namespace
}  // namespace sluice::queue
