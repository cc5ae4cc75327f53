#include "config/syntax.h"

#include <gmock/gmock.h>

#include "base/nearest.h"
#include "config/next_hop.h"

namespace sluice::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<Milliseconds> seconds_of(const std::vector<int>& counts) {
    std::vector<Milliseconds> out;
    for (const int count : counts)
        out.push_back(std::chrono::seconds(count));
    return out;
}

TEST(Intervals, FollowHarakasGrammar) {
    EXPECT_EQ(parse_intervals("10s, 1m*2").value(), seconds_of({10, 60, 60}));
    EXPECT_EQ(
        parse_intervals("30s, 1m, 5m, 9m, 15m*3, 30m*2, 1h*3, 2h*3, 1d").value(),
        seconds_of({30, 60, 300, 540, 900, 900, 900, 1800, 1800, 3600, 3600, 3600, 7200, 7200, 7200, 86400})
    );
    EXPECT_EQ(parse_intervals("1.5M").value(), seconds_of({90}));
    EXPECT_EQ(parse_intervals(" 5 s ").value(), seconds_of({5}));
    EXPECT_THAT(parse_intervals("None").value(), IsEmpty());
}

TEST(Intervals, RefuseWhatHarakaRefuses) {
    for (const char* text :
         {"", "60 min", "60", "4s", "1m*", "1m*0", "1m*-1", "1m*2*2", "1m,,2m", "-1m", "500ms", "m", "1h*2000"
         }) {
        EXPECT_FALSE(parse_intervals(text)) << text;
    }
}

TEST(Intervals, DefaultIsHarakasFormula) {
    EXPECT_EQ(
        default_intervals(13),
        seconds_of({64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072})
    );
    EXPECT_THAT(default_intervals(1), IsEmpty());
}

TEST(Intervals, AreWrittenAsTheyAreRead) {
    for (const char* text : {"10s, 1m*2, 1d", "none", "90s"})
        EXPECT_EQ(format_intervals(parse_intervals(text).value()), text);
}

TEST(Durations, CountInTheUnitOfTheSettingUnlessTheyNameOne) {
    EXPECT_EQ(parse_duration("30", 1000ms), 30s);
    EXPECT_EQ(parse_duration("30", 1ms), 30ms);
    EXPECT_EQ(parse_duration("0.5", 1000ms), 500ms);
    EXPECT_EQ(parse_duration("250ms", 1000ms), 250ms);
    EXPECT_EQ(parse_duration("2h", 1ms), 2h);
    EXPECT_EQ(parse_duration("1d", 1000ms), 24h);
    for (const char* text :
         {"", "s", "-1", "1e3", "1 s", "1w", "1.", ".5", "1.2.3", "99999999999999999999", "4000d"}) {
        EXPECT_EQ(parse_duration(text, 1000ms), std::nullopt) << text;
    }
}

TEST(Durations, AreWrittenInTheLargestExactUnit) {
    EXPECT_EQ(format_duration(0ms), "0");
    EXPECT_EQ(format_duration(1500ms), "1500ms");
    EXPECT_EQ(format_duration(90s), "90s");
    EXPECT_EQ(format_duration(5min), "5m");
    EXPECT_EQ(format_duration(120h), "5d");
}

TEST(Bytes, TakePowersOf1024) {
    EXPECT_EQ(parse_bytes("26214400"), 26'214'400U);
    EXPECT_EQ(parse_bytes("25M"), 26'214'400U);
    EXPECT_EQ(parse_bytes("1k"), 1024U);
    EXPECT_EQ(format_bytes(26'214'400), "25M");
    EXPECT_EQ(format_bytes(1000), "1000");
    EXPECT_EQ(format_bytes(0), "0");
    for (const char* text : {"", "M", "-1", "1.5M", "1MB", "20000000T"})
        EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
}

TEST(Cidrs, AreAddressesWithOrWithoutPrefix) {
    EXPECT_EQ(parse_cidr("192.0.2.0/24"), "192.0.2.0/24");
    EXPECT_EQ(parse_cidr("192.0.2.1"), "192.0.2.1");
    EXPECT_EQ(parse_cidr("[2001:db8::1]"), "2001:db8::1");
    EXPECT_EQ(parse_cidr("[2001:db8::]/32"), "2001:db8::/32");
    for (const char* text :
         {"", "192.0.2", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/-1", "host",
          "1.2.3.4/8/8", "::1%lo"}) {
        EXPECT_EQ(parse_cidr(text), std::nullopt) << text;
    }
}

TEST(Endpoints, TakeEveryUsualForm) {
    const auto text = [](const char* written) {
        const auto endpoint = parse_endpoint(written, 25);
        return endpoint ? endpoint->text() : "nothing";
    };
    EXPECT_EQ(text("127.0.0.1:2525"), "127.0.0.1:2525");
    EXPECT_EQ(text("127.0.0.1"), "127.0.0.1:25");
    EXPECT_EQ(text("[::0]:25"), "[::0]:25");
    EXPECT_EQ(text("[2001:db8::1]"), "[2001:db8::1]:25");
    EXPECT_EQ(text("2001:db8::1"), "[2001:db8::1]:25");
    EXPECT_EQ(text("/run/x.sock"), "/run/x.sock");
    for (const char* bad :
         {"", "localhost:25", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:", ":25", "[127.0.0.1]:25",
          "[::1]25", "[::1"}) {
        EXPECT_EQ(text(bad), "nothing") << bad;
    }
}

TEST(HostNames, HaveLegalLabels) {
    for (const char* good : {"mx.example.com", "a", "a-b.c_d", "bücher.example", "1.example"})
        EXPECT_TRUE(is_host_name(good)) << good;
    const std::string long_label(64, 'a');
    for (const std::string& bad :
         {std::string(), std::string("a..b"), std::string(".a"), std::string("a."), std::string("-a"),
          std::string("a b"), std::string("a/b"), std::string("\xff"), long_label}) {
        EXPECT_FALSE(is_host_name(bad)) << bad;
    }
}

struct Hop {
    const char* written;
    NextHop means;
};

TEST(NextHops, TakeEveryFormOfHaraka) {
    const std::vector<Hop> table{
        {"MX.example.com", {false, "mx.example.com", 25, {}, {}, {}}},
        {"mx.example.com:2525", {false, "mx.example.com", 2525, {}, {}, {}}},
        {"192.0.2.1", {false, "192.0.2.1", 25, {}, {}, {}}},
        {"192.0.2.1:26", {false, "192.0.2.1", 26, {}, {}, {}}},
        {"[2001:db8::1]", {false, "2001:db8::1", 25, {}, {}, {}}},
        {"[2001:db8::1]:26", {false, "2001:db8::1", 26, {}, {}, {}}},
        {"2001:db8::1", {false, "2001:db8::1", 25, {}, {}, {}}},
        {"smtp://mx.example.com", {false, "mx.example.com", 25, {}, {}, {}}},
        {"smtp://user:pa:ss@mx.example.com:587", {false, "mx.example.com", 587, {}, "user", "pa:ss"}},
        {"smtp://u%40d:p%2Fq@[::1]:587/", {false, "::1", 587, {}, "u@d", "p/q"}},
        {"lmtp://Store.example", {true, "store.example", 24, {}, {}, {}}},
        {"LMTP://[::1]:2424", {true, "::1", 2424, {}, {}, {}}},
        {"lmtp:///run/lmtp.sock", {true, {}, 0, "/run/lmtp.sock", {}, {}}},
        {"/run/smtp.sock", {false, {}, 0, "/run/smtp.sock", {}, {}}},
    };
    for (const Hop& row : table) {
        const auto hop = parse_next_hop(row.written);
        ASSERT_TRUE(hop) << row.written << ": " << hop.error().detail;
        EXPECT_EQ(*hop, row.means) << row.written;
    }
}

TEST(NextHops, RefuseTheRest) {
    for (const char* text :
         {"", "http://x", "mx:0", "mx:port", "mx:70000", "[::1", "[::1]25", "[mx]:25", "a b", "/", "smtp://",
          "smtp://user@mx", "smtp://u:%zz@mx", "smtp://:p@mx", "mx,mx2"}) {
        EXPECT_FALSE(parse_next_hop(text)) << text;
    }
}

TEST(NextHops, LM_1_NeverSpeakLmtpOnPort25) {
    EXPECT_FALSE(parse_next_hop("lmtp://store.example:25"));
    EXPECT_TRUE(parse_next_hop("lmtp://store.example:2525"));
    EXPECT_TRUE(parse_next_hop("smtp://store.example:25"));
}

TEST(Nearest, FindsTypingErrors) {
    const std::vector<std::string> keys{"concurrency_max", "connect_timeout", "inet_prefer", "all", "acl"};
    EXPECT_EQ(nearest("concurency_max", keys), "concurrency_max");
    EXPECT_EQ(nearest("Conect_Timeout", keys), "connect_timeout");
    EXPECT_EQ(nearest("inet_perfer", keys), "inet_prefer");
    EXPECT_EQ(nearest("acls", keys), "acl");
    EXPECT_EQ(nearest("pool_size", keys), "");
    EXPECT_EQ(nearest(std::string(1000, 'a'), keys), "");
}

TEST(Nearest, CountsASwapAsOneMistake) {
    EXPECT_EQ(edit_distance("perfer", "prefer"), 1U);
    EXPECT_EQ(edit_distance("", "abc"), 3U);
    EXPECT_EQ(edit_distance("abc", ""), 3U);
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

}  // namespace
}  // namespace sluice::config
