#include "dns/rdata.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace sluice::dns {
namespace {

using namespace std::string_literals;

TEST(Rdata, DNS_7_MxHostsAreLowerCaseWithoutTrailingDotAndEscaped) {
    const std::vector<std::pair<std::string, std::string>> table{
        {"\0\x0A\2MX\7Example\0"s, "mx.example"},  {"\0\x0A\0"s, ""},
        {"\0\x0A\3a.b\1c\0"s, "a\\.b.c"},          {"\0\x0A\3_mx\1c\0"s, "_mx.c"},
        {"\0\x0A\3\0 \xFF\0"s, "\\000\\032\\255"}, {"\0\x0A\2\\\x7F\0"s, "\\\\\\127"},
    };
    for (const auto& [rdata, host] : table) {
        const auto mx = parse_mx(rdata);
        ASSERT_TRUE(mx) << host << ": " << mx.error().text();
        EXPECT_EQ(mx->preference, 10);
        EXPECT_EQ(mx->host, host);
    }
    EXPECT_EQ(parse_mx("\xFF\xFE\1a\0"s)->preference, 65534);
}

TEST(Rdata, NamesThatFitOnTheWireArePresentable) {
    const std::string label63(63, 'a');
    const std::string name = label63 + "." + label63 + "." + label63 + ".";
    for (const std::string& good :
         {"a"s, "_mx.test"s, "a\\.b"s, "\\255x"s, "\\032"s, label63, name + std::string(61, 'a')}) {
        EXPECT_TRUE(is_presentable_name(good)) << good;
    }
    for (const std::string& bad :
         {""s, "."s, "a."s, ".a"s, "a..b"s, "a b"s, "\\"s, "\\25"s, "\\256"s, "a\0"s, "\xFF"s, label63 + "a",
          name + std::string(62, 'a')}) {
        EXPECT_FALSE(is_presentable_name(bad)) << bad;
    }
}

TEST(Rdata, DNS_1_MalformedMxIsRefused) {
    const std::string label63 = "\x3F"s + std::string(63, 'a');
    const std::vector<std::string> table{
        "",
        "\0\x0A"s,                                                  // no name
        "\0\x0A\1a"s,                                               // no end
        "\0\x0A\5ab\0"s,                                            // label beyond the record
        "\0\x0A\1a\0x"s,                                            // octets after the name
        "\0\x0A\0\0"s,                                              // the same after the root
        "\0\x0A\xC0\x00"s,                                          // a pointer
        "\0\x0A\x40"s + std::string(64, 'a') + "\0"s,               // label of 64
        "\0\x0A"s + label63 + label63 + label63 + label63 + "\0"s,  // name of 257
    };
    for (std::size_t i = 0; i < table.size(); ++i) {
        const auto mx = parse_mx(table[i]);
        ASSERT_FALSE(mx) << "row " << i;
        EXPECT_EQ(mx.error().code, Errc::bad_input) << "row " << i;
    }
    EXPECT_TRUE(parse_mx("\0\x0A"s + label63 + label63 + label63 + "\x3D"s + std::string(61, 'a') + "\0"s));
}

TEST(Rdata, DNS_1_AddressesHaveExactlyTheirLength) {
    EXPECT_EQ(parse_a("\xC0\0\2\1"s)->text(), "192.0.2.1");
    EXPECT_EQ(parse_aaaa("\x20\1\x0D\xB8"s + std::string(11, '\0') + "\1"s)->text(), "2001:db8::1");
    EXPECT_EQ(parse_aaaa(std::string(10, '\0') + "\xFF\xFF\x7F\0\0\1"s)->text(), "127.0.0.1");
    for (std::size_t length = 0; length < 20; ++length) {
        EXPECT_EQ(parse_a(std::string(length, 'x')).has_value(), length == 4) << length;
        EXPECT_EQ(parse_aaaa(std::string(length, 'x')).has_value(), length == 16) << length;
    }
}

constexpr std::size_t header_octets = 12;

std::string message(std::uint8_t question_count, std::uint8_t answer_count, const std::string& rest) {
    std::string header(header_octets, '\0');
    header[5] = static_cast<char>(question_count);
    header[7] = static_cast<char>(answer_count);
    return header + rest;
}

TEST(Rdata, DNS_3_AliasesInAnAnswerAreCounted) {
    const std::string question = "\1a\0\0\x0F\0\1"s;
    const std::string alias = "\xC0\x0C\0\5\0\1\0\0\0\1\0\3\1b\0"s;
    const std::string address = "\1b\0\0\1\0\1\0\0\0\1\0\4\x7F\0\0\1"s;
    EXPECT_EQ(*count_aliases(message(0, 0, "")), 0U);
    EXPECT_EQ(*count_aliases(message(1, 3, question + alias + alias + address)), 2U);
    EXPECT_EQ(*count_aliases(message(1, 1, question + address + alias)), 0U);
}

TEST(Rdata, DNS_6_ReferralsNameServersWithoutSoa) {
    const std::string ns = "\1b\0\0\2\0\1\0\0\0\1\0\3\1c\0"s;
    const std::string soa = "\1b\0\0\6\0\1\0\0\0\1\0\0"s;
    const auto with_authority = [](std::uint8_t count, const std::string& rest) {
        std::string out = message(0, 0, rest);
        out[9] = static_cast<char>(count);
        return out;
    };
    EXPECT_TRUE(*is_referral(with_authority(1, ns)));
    EXPECT_FALSE(*is_referral(with_authority(2, ns + soa)));
    EXPECT_FALSE(*is_referral(with_authority(1, soa)));
    EXPECT_FALSE(*is_referral(with_authority(0, "")));
    EXPECT_FALSE(is_referral(with_authority(2, ns)));  // one is promised and missing
}

TEST(Rdata, DNS_1_MessagesThatLieAboutTheirContentAreRefused) {
    const std::string question = "\1a\0\0\x0F\0\1"s;
    for (const std::string& bad : {
             "short"s, message(1, 0, ""), message(1, 0, "\1a\0\0"s),
             message(0, 255, ""),                                             // records promised, none there
             message(1, 1, question + "\xC0"s),                               // half a pointer
             message(1, 1, question + "\xC0\x0C\0\5\0\1"s),                   // half a record
             message(1, 1, question + "\xC0\x0C\0\5\0\1\0\0\0\1\0\4\1b\0"s),  // length beyond the message
             message(1, 1, question + "\x80\x0C"s),                           // a label of no known kind
         }) {
        EXPECT_FALSE(count_aliases(bad));
    }
}

// Every accepted name is one that DNS can be asked for; nothing else happens but refusal.
TEST(Rdata, DNS_1_RandomOctetsNeverCrash) {
    Random random(20261120);
    for (int run = 0; run < 200'000; ++run) {
        std::string bytes(random.below(40), '\0');
        for (char& c : bytes)
            c = static_cast<char>(random.chance(0.7) ? random.below(6) : random.below(256));
        if (const auto mx = parse_mx(bytes)) {
            EXPECT_LE(mx->host.size(), 4 * bytes.size());
            EXPECT_TRUE(mx->host.empty() || is_presentable_name(mx->host)) << mx->host;
        }
        if (const auto count = count_aliases(bytes)) {
            EXPECT_LE(*count, bytes.size());
        }
        EXPECT_EQ(parse_a(bytes).has_value(), bytes.size() == 4);
    }
}

}  // namespace
}  // namespace sluice::dns
