#include "smtp/extensions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::smtp {
namespace {

using testing::ElementsAre;

Extensions of(std::initializer_list<std::string_view> keywords) {
    Reply reply(250, "", "mx.test greets you");
    for (const std::string_view keyword : keywords)
        reply.lines.emplace_back(keyword);
    return parse_extensions(reply);
}

TEST(Extensions, KeywordsInAnyCase) {
    const Extensions all =
        of({"pipelining", "Size 1000", "8bitmime", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN",
            "ENHANCEDSTATUSCODES", "STARTTLS", "REQUIRETLS", "AUTH plain LOGIN", "X-UNKNOWN 1", "HELP"});
    EXPECT_TRUE(
        all.pipelining && all.size && all.eight_bit_mime && all.smtputf8 && all.chunking && all.binarymime
    );
    EXPECT_TRUE(all.dsn && all.enhanced_codes && all.starttls && all.requiretls && all.help && !all.vrfy);
    EXPECT_EQ(all.size_max, 1000U);
    EXPECT_THAT(all.auth, ElementsAre("PLAIN", "LOGIN"));
    EXPECT_TRUE(all.offers_auth("login"));
    EXPECT_FALSE(all.offers_auth("CRAM-MD5"));
    EXPECT_EQ(of({}), Extensions{});
}

TEST(Extensions, TheGreetingLineIsNoKeyword) {
    EXPECT_EQ(parse_extensions(Reply(250, "", "PIPELINING")), Extensions{});
    EXPECT_EQ(parse_extensions(Reply()), Extensions{});
}

TEST(Extensions, SizeWithoutFixedLimit_SZ_6) {
    for (const char* line :
         {"SIZE", "SIZE 0", "SIZE abc", "SIZE 99999999999999999999", "SIZE -1", "SIZE  "}) {
        const Extensions offered = of({line});
        EXPECT_TRUE(offered.size) << line;
        EXPECT_EQ(offered.size_max, 0U) << line;
    }
}

TEST(Extensions, OldAuthSyntaxCounts) {
    EXPECT_THAT(of({"AUTH=LOGIN PLAIN"}).auth, ElementsAre("LOGIN", "PLAIN"));
}

TEST(Extensions, AnEndlessListOfMechanismsIsNotKept) {
    std::string line = "AUTH " + std::string(21, 'X') + " plain";
    for (int i = 0; i < 30'000; ++i) line += " A";
    const Extensions offered = of({line});
    EXPECT_EQ(offered.auth.size(), 32U);
    EXPECT_EQ(offered.auth.front(), "PLAIN");
}

TEST(Extensions, LimitsThatMakeNoSenseAreIgnored_LI_1_LI_5) {
    const Limits good = of({"LIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1 FUTURE=7"}).limits;
    EXPECT_EQ(good.rcpt_max, 20U);
    EXPECT_EQ(good.mail_max, 5U);
    EXPECT_EQ(good.rcpt_domain_max, 1U);
    const Limits bad = of({"LIMITS RCPTMAX=0 MAILMAX=-1 RCPTDOMAINMAX=abc"}).limits;
    EXPECT_EQ(bad, Limits{});
    EXPECT_EQ(of({"LIMITS RCPTMAX=99999999999999999999 MAILMAX= RCPTDOMAINMAX"}).limits, Limits{});
    EXPECT_EQ(of({"LIMITS RCPTMAX=abc MAILMAX=10"}).limits.mail_max, 10U);
}

TEST(Extensions, WhatWeOfferIsWhatIsRead) {
    Extensions ours;
    ours.pipelining = ours.size = ours.eight_bit_mime = ours.smtputf8 = ours.chunking = ours.dsn = true;
    ours.enhanced_codes = ours.starttls = true;
    ours.size_max = 26214400;
    ours.auth = {"PLAIN", "LOGIN"};
    ours.limits.rcpt_max = 1000;
    const Reply reply = format_extensions(ours, "mx.test");
    EXPECT_EQ(reply.lines.front(), "mx.test");
    EXPECT_EQ(reply.enhanced, std::nullopt);  // RFC 2034 §4: none in the reply to EHLO
    EXPECT_EQ(parse_extensions(reply), ours);
}

}  // namespace
}  // namespace sluice::smtp
