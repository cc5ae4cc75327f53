#include "dns/cache.h"

#include <gtest/gtest.h>

namespace sluice::dns {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const Instant start = instant_from_ms(1'000'000);

FindingPtr mx_finding(std::size_t records, seconds ttl) {
    Records found;
    for (std::size_t i = 0; i < records; ++i)
        found.mx.push_back(MxRecord{10, "mx.test"});
    return std::make_shared<const Finding>(Finding{std::move(found), ttl, false});
}
Question mx_of(const std::string& name) {
    return Question{name, RecordType::mx};
}

TEST(AnswerCache, DNS_5_AnswersLiveForTheirTtlAndTellWhatIsLeft) {
    AnswerCache cache(100);
    cache.put(mx_of("a.test"), mx_finding(1, seconds(10)), start);
    EXPECT_EQ(cache.get(mx_of("a.test"), start)->left, seconds(10));
    EXPECT_EQ(cache.get(mx_of("a.test"), start + milliseconds(3'500))->left, seconds(6));
    EXPECT_TRUE(cache.get(mx_of("a.test"), start + milliseconds(9'999)));
    EXPECT_FALSE(cache.get(mx_of("a.test"), start + seconds(10)));
    EXPECT_EQ(cache.size(), 0U);
}

TEST(AnswerCache, DNS_5_TtlZeroIsNotKept) {
    AnswerCache cache(100);
    cache.put(mx_of("a.test"), mx_finding(1, seconds(10)), start);
    cache.put(mx_of("a.test"), mx_finding(1, seconds(0)), start);
    EXPECT_FALSE(cache.get(mx_of("a.test"), start));
    EXPECT_EQ(cache.weight(), 0U);
}

TEST(AnswerCache, TypesOfOneNameAreApart) {
    AnswerCache cache(100);
    cache.put(mx_of("a.test"), mx_finding(1, seconds(10)), start);
    EXPECT_FALSE(cache.get(Question{"a.test", RecordType::a}, start));
}

TEST(AnswerCache, WhatWasUsedLongestAgoGoesFirst) {
    AnswerCache cache(9);
    for (const char* name : {"a.test", "b.test", "c.test"})
        cache.put(mx_of(name), mx_finding(2, seconds(10)), start);
    EXPECT_TRUE(cache.get(mx_of("a.test"), start));
    cache.put(mx_of("d.test"), mx_finding(2, seconds(10)), start);
    EXPECT_FALSE(cache.get(mx_of("b.test"), start));
    EXPECT_TRUE(cache.get(mx_of("a.test"), start));
    EXPECT_EQ(cache.weight(), 9U);
}

TEST(AnswerCache, WeightIsBoundedWhateverComes) {
    AnswerCache cache(50);
    for (std::size_t i = 0; i < 1000; ++i) {
        cache.put(mx_of("n" + std::to_string(i % 70) + ".test"), mx_finding(i % 60, seconds(10)), start);
        ASSERT_LE(cache.weight(), 50U);
    }
    cache.clear();
    EXPECT_EQ(cache.size(), 0U);
    EXPECT_EQ(cache.weight(), 0U);
}

}  // namespace
}  // namespace sluice::dns
