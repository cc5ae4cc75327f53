#include "queue/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::queue {
namespace {

using testing::HasSubstr;

Filter parsed(std::string_view text) {
    Result<Filter> filter = Filter::parse(text, policy::FieldTable());
    EXPECT_TRUE(filter) << text << ": " << (filter ? "" : filter.error().detail);
    return filter ? std::move(*filter) : Filter();
}

const Filter::Term& only(const Filter& filter) {
    EXPECT_EQ(filter.terms().size(), 1U);
    return filter.terms().front();
}

bool holds(std::string_view text, std::string_view value) {
    const Filter filter = parsed(text);
    return only(filter).holds(value);
}

bool holds(std::string_view text, std::int64_t number) {
    const Filter filter = parsed(text);
    return only(filter).holds(number);
}

TEST(Filter, TextsArePatternsOfPolicies) {
    EXPECT_TRUE(holds("domain=example.org", "example.org"));
    EXPECT_TRUE(holds("domain=Example.ORG.", "example.org"));
    EXPECT_FALSE(holds("domain=*.example.org", "example.org"));
    EXPECT_TRUE(holds("domain=*.example.org", "mx.example.org"));
    EXPECT_TRUE(holds("domain=/^mx[0-9]+ ?/", "mx12.test"));
    EXPECT_TRUE(holds("tenant=a,b", "b"));
    EXPECT_FALSE(holds("tenant!=a,b", "b"));
    EXPECT_TRUE(holds("tenant!=a,b", "c"));
    EXPECT_TRUE(holds("tenant=\"\"", ""));
    EXPECT_TRUE(holds("tenant=\"a b, \\\"c\\\"\"", "a b, \"c\""));
    EXPECT_TRUE(holds("tenant='#7'", "#7"));
    EXPECT_TRUE(holds("remoteip=192.0.2.0/24", "192.0.2.9"));
}

TEST(Filter, PartsAreFoundWhateverTheCase) {
    EXPECT_TRUE(holds("reply~greylist", "451 4.7.1 Greylisted, come back"));
    EXPECT_FALSE(holds("reply!~greylist", "451 4.7.1 Greylisted, come back"));
    EXPECT_TRUE(holds("reply~\"come back\",x", "451 4.7.1 Greylisted, Come Back"));
    EXPECT_TRUE(holds("reply=/^4.*back$/", "451 4.7.1 Greylisted, come back"));
}

TEST(Filter, NumbersHaveUnitsAndRanges) {
    EXPECT_TRUE(holds("age>2h", 7'200'001));
    EXPECT_FALSE(holds("age>2h", 7'200'000));
    EXPECT_TRUE(holds("age>=1d12h", 129'600'000));
    EXPECT_TRUE(holds("age<90", 89'999));
    EXPECT_TRUE(holds("attempts=2..4", 4));
    EXPECT_FALSE(holds("attempts!=2..4", 4));
    EXPECT_TRUE(holds("attempts=1,7", 7));
    EXPECT_TRUE(holds("size>=10k", 10'240));
    EXPECT_TRUE(holds("attempt>=3", 3));
    EXPECT_TRUE(holds("next<=0s", 0));
}

TEST(Filter, AllTermsAreRead) {
    const Filter filter = parsed("  domain=a.test,b.test\tage>2h attempts>=3\nstate=scheduled,held reply~\"x\" ");
    ASSERT_EQ(filter.terms().size(), 5U);
    EXPECT_FALSE(filter.needs_message());
    EXPECT_TRUE(parsed("sender~@example.org").needs_message());
    EXPECT_TRUE(parsed("").is_empty());
}

TEST(Filter, WhatIsWrongIsSaidWithItsField) {
    const struct {
        const char* text;
        const char* sentence;
    } rows[] = {
        {"tennant=a", "tennant: no field is called so (did you mean `tenant`?)"},
        {"domain", "domain: an operator is expected"},
        {"domain>a", "domain: it is a text: one of = != ~ !~ is expected, found `>`"},
        {"domain=", "domain: a value is expected"},
        {"domain=a b=c", "b: no field is called so"},
        {"domain=a,", "domain: a value is expected"},
        {"domain=\"a", "domain: the end of `\"a` is missing"},
        {"domain=/a(/", "domain: expected an expression that RE2 knows"},
        {"domain=a*", "domain: expected a domain"},
        {"domain=@list", "domain: lists and groups of policy files cannot stand here"},
        {"age>2x", "age: a time like 90s, 15m, 2h or 1d12h is expected, found `2x`"},
        {"age~2", "age: it is a number"},
        {"age>99999999999w", "age: a time like"},
        {"attempts=4..2", "attempts: the smaller one comes first"},
        {"attempts=4..", "attempts: a number is expected on both sides"},
        {"size=1t", "size: a size like"},
        {"state=sheduled", "(did you mean `scheduled`?)"},
        {"state~s", "state: = or != is expected"},
        {"a=1 or b=2", "a: no field"},
        {"domain=a or domain=b", "where: there is no `or`"},
        {"notes.x=1", "notes.x: no policy counts by it"},
        {"=3", "where: a field's name is expected"},
        {"remoteip=300.1.1.1", "remoteip: expected an address"},
        {"domain=\"a\"b", "domain: a blank or a comma is expected before `b`"},
    };
    for (const auto& row : rows) {
        const Result<Filter> filter = Filter::parse(row.text, policy::FieldTable());
        ASSERT_FALSE(filter) << row.text;
        EXPECT_THAT(filter.error().detail, HasSubstr(row.sentence)) << row.text;
    }
    std::string many;
    for (int i = 0; i < 65; ++i) many += "age>1 ";
    EXPECT_FALSE(Filter::parse(many, policy::FieldTable()));
    EXPECT_FALSE(Filter::parse(std::string(70'000, ' '), policy::FieldTable()));
}

TEST(Filter, WhatIsQuotedIsReadAsItself) {
    for (const char* text : {"", "a", "a b", "\"", "\\", "a,b", "@x", "#x", "/x/", "*", "451 4.7.1 \"later\"\\"}) {
        EXPECT_TRUE(holds("tenant=" + quoted(text), text)) << text;
        EXPECT_FALSE(holds("tenant=" + quoted(text), "something else")) << text;
    }
}

TEST(Filter, DurationsAreWrittenAsTheyAreRead) {
    EXPECT_EQ(duration_text(Duration(0)), "0s");
    EXPECT_EQ(duration_text(Duration(90'000)), "1m30s");
    EXPECT_EQ(duration_text(Duration(129'600'000)), "1d12h");
    EXPECT_TRUE(holds("age=" + duration_text(Duration(93'784'000)), 93'784'000));
}

TEST(Filter, CodesOfReplies) {
    EXPECT_EQ(reply_code("451 4.7.1 later"), "451 4.7.1");
    EXPECT_EQ(reply_code("451 later"), "451");
    EXPECT_EQ(reply_code("451 4 messages"), "451");
    EXPECT_EQ(reply_code("450"), "450");
    EXPECT_EQ(reply_code("timed_out: no answer"), "timed_out");
    EXPECT_EQ(reply_code(""), "");
}

}  // namespace
}  // namespace sluice::queue
