#include "policy/pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace sluice::policy {
namespace {

Pattern pattern(FieldType type, std::string_view text) {
    Result<Pattern> parsed = Pattern::parse(type, text);
    EXPECT_TRUE(parsed) << text << ": " << (parsed ? "" : parsed.error().detail);
    return parsed ? *parsed : Pattern{};
}

TEST(Pattern, MatchesWhatItSays) {
    const struct {
        FieldType type;
        const char* pattern;
        const char* value;
        bool matches;
    } rows[] = {
        {FieldType::domain, "Example.ORG.", "example.org", true},
        {FieldType::domain, "example.org", "a.example.org", false},
        {FieldType::domain, "*.example.org", "a.example.org", true},
        {FieldType::domain, "*.example.org", "a.b.example.org", true},
        {FieldType::domain, "*.example.org", "example.org", false},
        {FieldType::domain, "*.example.org", "badexample.org", false},
        {FieldType::domain, "*", "anything.test", true},
        {FieldType::domain, "*", "", true},
        {FieldType::domain, "/^MX\\d+\\.b1\\.test$/", "mx17.b1.test", true},
        {FieldType::domain, "/^mx\\d+\\.b1\\.test$/", "mx.b1.test", false},
        {FieldType::text, "News", "News", true},
        {FieldType::text, "News", "news", false},
        {FieldType::text, "/^vip-/", "vip-1", true},
        {FieldType::text, "/^vip-/", "VIP-1", false},
        {FieldType::text, "", "", true},
        {FieldType::text, "", "x", false},
        {FieldType::address, "192.0.2.0/28", "192.0.2.15", true},
        {FieldType::address, "192.0.2.0/28", "192.0.2.16", false},
        {FieldType::address, "192.0.2.7", "192.0.2.7", true},
        {FieldType::address, "2001:DB8::/33", "2001:db8:7fff::1", true},
        {FieldType::address, "2001:db8::/33", "2001:db8:8000::1", false},
        {FieldType::address, "::/0", "2001:db8::1", true},
        {FieldType::address, "0.0.0.0/0", "192.0.2.1", true},
        {FieldType::address, "0.0.0.0/0", "2001:db8::1", false},
        {FieldType::address, "192.0.2.1", "not an address", false},
        {FieldType::number, "3", "3", true},
        {FieldType::number, "2..4", "4", true},
        {FieldType::number, "2..4", "5", false},
        {FieldType::number, ">=3", "3", true},
        {FieldType::number, ">3", "3", false},
        {FieldType::number, "<3", "2", true},
        {FieldType::number, "<=3", "4", false},
        {FieldType::grouping, "google.com", "google.com", true},
    };
    for (const auto& row : rows) {
        const Pattern made = pattern(row.type, row.pattern);
        EXPECT_EQ(made.matches(row.value), row.matches) << row.pattern << " / " << row.value;
        Matcher matcher;
        matcher.add(made, 0);
        EXPECT_EQ(matcher.matches(row.value), row.matches) << "matcher: " << row.pattern << " / " << row.value;
    }
}

TEST(Pattern, RefusesWhatItCannotMean) {
    const struct {
        FieldType type;
        const char* text;
    } rows[] = {
        {FieldType::domain, "mx*.example.org"}, {FieldType::domain, "*."},         {FieldType::domain, "/("},
        {FieldType::domain, "/(/"},             {FieldType::domain, "/(?=a)b/"},   {FieldType::domain, "a b"},
        {FieldType::text, "news-*"},            {FieldType::address, "192.0.2.1/28"}, {FieldType::address, "192.0.2.0/33"},
        {FieldType::address, "192.0.2"},        {FieldType::address, "/^192/"},    {FieldType::address, "example.org"},
        {FieldType::number, "4..2"},            {FieldType::number, "<0"},         {FieldType::number, "high"},
    };
    for (const auto& row : rows) {
        const Result<Pattern> parsed = Pattern::parse(row.type, row.text);
        ASSERT_FALSE(parsed) << row.text;
        EXPECT_TRUE(parsed.error().detail.starts_with("expected ")) << parsed.error().detail;
    }
}

TEST(Pattern, KnowsWhichIsWider) {
    const struct {
        FieldType type;
        const char *wide, *narrow;
        bool covers, meets;
    } rows[] = {
        {FieldType::domain, "*.a.test", "*.b.a.test", true, true},
        {FieldType::domain, "*.b.a.test", "*.a.test", false, true},
        {FieldType::domain, "*.a.test", "a.test", false, false},
        {FieldType::domain, "/test$/", "x.test", true, true},
        {FieldType::domain, "*", "/x/", true, true},
        {FieldType::domain, "/x/", "/y/", false, false},
        {FieldType::address, "192.0.2.0/24", "192.0.2.128/25", true, true},
        {FieldType::address, "192.0.2.128/25", "192.0.2.0/24", false, true},
        {FieldType::address, "192.0.2.0/25", "192.0.2.128/25", false, false},
        {FieldType::number, "1..5", "2..3", true, true},
        {FieldType::number, "1..3", "2..5", false, true},
        {FieldType::number, "1..2", "3..5", false, false},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(pattern(row.type, row.wide).covers(pattern(row.type, row.narrow)), row.covers) << row.wide << " " << row.narrow;
        EXPECT_EQ(pattern(row.type, row.wide).meets(pattern(row.type, row.narrow)), row.meets) << row.wide << " " << row.narrow;
    }
}

TEST(Matcher, TheFirstGroupWinsWhateverTheKindOfPattern) {
    // Every order of the same patterns: the answer is the lowest group that matches.
    const std::vector<std::string> texts{"mx.a.test", "*.a.test", "/^mx/", "*", "*.test"};
    std::vector<std::size_t> order{0, 1, 2, 3, 4};
    do {
        Matcher matcher;
        for (std::uint32_t group = 0; group < order.size(); ++group) matcher.add(pattern(FieldType::domain, texts[order[group]]), group);
        for (const char* const value : {"mx.a.test", "b.a.test", "mx.other", "x.test", "y", ""}) {
            std::uint32_t expected = Matcher::nothing;
            for (std::uint32_t group = 0; group < order.size() && expected == Matcher::nothing; ++group) {
                if (pattern(FieldType::domain, texts[order[group]]).matches(value)) expected = group;
            }
            EXPECT_EQ(matcher.match(value), expected) << value;
        }
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Matcher, NoCatastrophicExpression_DoS_10) {
    Matcher matcher;
    matcher.add(pattern(FieldType::text, "/^(a+)+$/"), 0);
    EXPECT_FALSE(matcher.matches(std::string(10'000, 'a') + "b"));
}

TEST(Network, KeepsItsText) {
    for (const char* const text : {"192.0.2.1", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0", "2001:db8::1"}) {
        const std::optional<Network> network = Network::parse(text);
        ASSERT_TRUE(network) << text;
        EXPECT_EQ(network->text(), text);
    }
    EXPECT_EQ(normal(FieldType::address, "2001:DB8:0::0001"), "2001:db8::1");
    EXPECT_EQ(normal(FieldType::domain, "MX.Example.ORG."), "mx.example.org");
}

}  // namespace
}  // namespace sluice::policy
