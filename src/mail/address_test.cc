#include "mail/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "base/text.h"

namespace sluice::mail {
namespace {

struct GoodCase {
    std::string_view wire;
    std::string_view local;
    std::string_view domain;
    std::string_view text;  // what we write
};

TEST(Address, GrammarOfRfc5321_S5321_18_S5321_19) {
    const GoodCase table[] = {
        {"<a@b.test>", "a", "b.test", "a@b.test"},
        {"<John.Doe@Example.TEST>", "John.Doe", "Example.TEST", "John.Doe@Example.TEST"},
        {"<\"a b\"@x.test>", "a b", "x.test", "\"a b\"@x.test"},
        {"<\"a\\\"b\"@x.test>", "a\"b", "x.test", "\"a\\\"b\"@x.test"},
        {"<\"\"@x.test>", "", "x.test", "\"\"@x.test"},
        {"<\"abc\"@x.test>", "abc", "x.test", "abc@x.test"},
        {"<\"\\a\\b\"@x.test>", "ab", "x.test", "ab@x.test"},
        {"<\"a..b\"@x.test>", "a..b", "x.test", "\"a..b\"@x.test"},
        {"<\"a@x\"@y.test>", "a@x", "y.test", "\"a@x\"@y.test"},
        {"<\"a>b\"@y.test>", "a>b", "y.test", "\"a>b\"@y.test"},
        {"<a%y@x.test>", "a%y", "x.test", "a%y@x.test"},
        {"<a!b@x.test>", "a!b", "x.test", "a!b@x.test"},
        {"<=?utf-8?q?=62=6F=62?=@x>", "=?utf-8?q?=62=6F=62?=", "x", "=?utf-8?q?=62=6F=62?=@x"},
        {"<u@[192.0.2.1]>", "u", "[192.0.2.1]", "u@[192.0.2.1]"},
        {"<u@[IPv6:2001:db8::1]>", "u", "[IPv6:2001:db8::1]", "u@[IPv6:2001:db8::1]"},
        {"<jörg@bücher.example>", "jörg", "bücher.example", "jörg@bücher.example"},
        {"<\"\\\\\"@x.test>", "\\", "x.test", "\"\\\\\"@x.test"},
    };
    for (const GoodCase& row : table) {
        const auto address = parse_path(row.wire, {});
        ASSERT_TRUE(address) << row.wire << ": " << address.error().detail;
        EXPECT_EQ(address->local, row.local) << row.wire;
        EXPECT_EQ(address->domain, row.domain) << row.wire;
        EXPECT_EQ(address->text(), row.text) << row.wire;
        EXPECT_EQ(parse_address(address->text()), *address) << row.wire;
    }
}

TEST(Address, RefusesWhatTwoReadersCouldTakeForTwoAddresses) {
    using namespace std::string_view_literals;
    const std::string_view table[] = {
        "<>",
        "",
        "<",
        ">",
        "a@x",
        "<a@x",
        "a@x>",
        "< a@x>",
        "<a@x >",
        "<<a@x>>",
        "<a@x>,<b@y>",
        "<a@x(comment)>",
        "<(c)a@x>",
        "<a@x,b@y>",
        "<a@x;b@y>",
        "<@x:b@y>",
        "<@x,@z:b@y>",
        "<a@[x]>",
        "<a@x@y>",
        "<a@x.>",
        "<a..b@x>",
        "<.a@x>",
        "<a.@x>",
        "<a@x:25>",
        "<a@.x>",
        "<a@x..y>",
        "<a@>",
        "<@x>",
        "<a>",
        "<Postmaster>",
        "<a@-x>",
        "<a@x->",
        "<a@x_y>",
        "<a@[2001:db8::1]>",
        "<a@[IPv6:192.0.2.1]>",
        "<a@[192.0.2.256]>",
        "<a@[192.0.2.1>",
        "<a@[tag:x]>",
        "<\"a@x>",
        "<\"a\"b@x>",
        "<a\"b\"@x>",
        "<a\\b@x>",
        "<a b@x>",
        "<\"a\r\nb\"@x>",
        "<\"a\nb\"@x>",
        "<\"a\tb\"@x>",
        "<\"a\\\rb\"@x>",
        "<a\0b@x>"sv,
        "<a@x\0>"sv,
        "<a@x\0.y>"sv,
        "<\"a\0\"@x>"sv,
        "<a\x7F@x>",
        "<\"\x7F\"@x>",
        "<a@x\r\nRCPT TO:<z@y>>",
        "<a@x>\r\nDATA\r\n",
        "<a@x\nX: y>",
        "<(any@legit>",
        "<any@legit(a.attack>",
        "<@legit,@any:'any@attack>",
        "<\xC2\x85@x>",
        "<\xE2\x80\xA8@x>",
        "<a@\xE2\x80\xA8>",
        "<\xFF@x>",
        "<\xC0\xAF@x>",
        "<\xED\xA0\x80@x>",
    };
    for (const std::string_view text : table)
        EXPECT_FALSE(parse_path(text, {})) << printable(text);
}

TEST(Address, NullPathAndPostmasterOnlyWhereTheyBelong_S5321_04_S5321_17) {
    PathSyntax sender;
    sender.allow_null = true;
    EXPECT_TRUE(parse_path("<>", sender)->is_null());
    EXPECT_EQ(parse_path("<>", sender)->text(), "");
    EXPECT_FALSE(parse_path("", sender));

    PathSyntax recipient;
    recipient.allow_postmaster = true;
    const auto postmaster = parse_path("<PostMaster>", recipient);
    ASSERT_TRUE(postmaster);
    EXPECT_EQ(postmaster->text(), "PostMaster");
    EXPECT_EQ(postmaster->domain, "");
    EXPECT_FALSE(parse_path("<root>", recipient));
    EXPECT_FALSE(parse_path("<>", recipient));
    EXPECT_FALSE(parse_path("<\"v@victim\">", recipient));
}

TEST(Address, LimitsAreExactAndNothingIsTruncated_S5321_06) {
    const std::string label(60, 'd');
    const auto domain_of = [&](std::size_t size) {
        std::string domain = label;
        while (domain.size() + 1 < size)
            domain += "." + std::string(std::min<std::size_t>(60, size - domain.size() - 1), 'd');
        return domain;
    };
    EXPECT_TRUE(parse_address(std::string(64, 'l') + "@x.test"));
    EXPECT_FALSE(parse_address(std::string(65, 'l') + "@x.test"));
    EXPECT_TRUE(parse_path("<" + std::string(64, 'l') + "@" + domain_of(189) + ">", {})
    );  // 256 with its brackets
    EXPECT_FALSE(parse_path("<" + std::string(64, 'l') + "@" + domain_of(190) + ">", {}));  // 257
    EXPECT_TRUE(parse_address("a@" + domain_of(252)));
    EXPECT_FALSE(parse_address("a@" + domain_of(256)));
    EXPECT_TRUE(parse_address("a@" + std::string(63, 'd')));
    EXPECT_FALSE(parse_address("a@" + std::string(64, 'd')));
}

TEST(Address, Utf8NeedsPermission_EA_1_EA_2_EA_5) {
    PathSyntax ascii_only;
    ascii_only.allow_utf8 = false;
    EXPECT_FALSE(parse_path("<jörg@x.test>", ascii_only));
    EXPECT_FALSE(parse_path("<a@bücher.example>", ascii_only));
    // Decomposed and composed forms stay apart: octets of a local part are the receiver's business.
    EXPECT_NE(parse_address("jo\xCC\x88rg@x.test")->local, parse_address("j\xC3\xB6rg@x.test")->local);
    EXPECT_TRUE(parse_address("jörg@x.test")->local_needs_utf8());
    EXPECT_FALSE(parse_address("a@bücher.example")->local_needs_utf8());
    EXPECT_TRUE(parse_address("a@bücher.example")->needs_utf8());
    EXPECT_EQ(parse_address("a@bücher.example")->ascii_domain_text(), "a@xn--bcher-kva.example");
}

TEST(Address, RoutingDomainIsOnePerDestination_EA_6_EA_7) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"a@bücher.example", "xn--bcher-kva.example"},
        {"a@BÜCHER.example", "xn--bcher-kva.example"},
        {"a@xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"a@XN--BCHER-KVA.Example", "xn--bcher-kva.example"},
        {"a@faß.de", "xn--fa-hia.de"},
        {"a@Example.TEST", "example.test"},
        {"a@[192.0.2.1]", "[192.0.2.1]"},
        {"a@[ipv6:2001:DB8:0::1]", "[IPv6:2001:db8::1]"},
    };
    for (const auto& [text, domain] : table) {
        const auto address = parse_address(text);
        ASSERT_TRUE(address) << text << ": " << address.error().detail;
        EXPECT_EQ(address->routing_domain(), domain) << text;
    }
}

TEST(Address, BareFormHasNoBrackets) {
    EXPECT_FALSE(parse_address("<a@x.test>"));
    EXPECT_FALSE(parse_address(" a@x.test"));
    EXPECT_FALSE(parse_address("a@x.test "));
    EXPECT_FALSE(parse_address(""));
    PathSyntax either;
    either.require_brackets = false;
    EXPECT_EQ(*parse_path("<a@x.test>", either), *parse_path("a@x.test", either));
}

// Section 2.3 of the conformance list: parse(text()) gives the address back, and text() is free of control
// octets.
TEST(Address, EveryAcceptedAddressSurvivesARoundTrip) {
    Random random(7);
    constexpr std::string_view alphabet = "ab.\"\\@<> ()[]:;,\x01\t\r\n\x7F\xC3\xB6\xC2\x85-_%!1";
    std::size_t accepted = 0;
    for (int round = 0; round < 40000; ++round) {
        std::string text = "\"";
        const std::size_t size = random.below(9);
        for (std::size_t i = 0; i < size; ++i)
            text.push_back(alphabet[random.below(alphabet.size())]);
        text += random.chance(0.8) ? "\"@x.test" : "@x.test";
        if (random.chance(0.3)) text.erase(0, 1);
        const auto address = parse_address(text);
        if (!address) continue;
        ++accepted;
        const std::string again = address->text();
        EXPECT_EQ(parse_address(again), *address) << printable(text);
        EXPECT_EQ(printable(again).find("\\x0"), std::string::npos) << printable(again);
    }
    EXPECT_GT(accepted, 1000U);
}

TEST(Xtext, RoundTripAndStrictness_DS_01) {
    std::string all;
    for (int c = 0; c < 256; ++c)
        all.push_back(static_cast<char>(c));
    EXPECT_EQ(decode_xtext(encode_xtext(all)), all);
    EXPECT_EQ(encode_xtext("user+x@y=z"), "user+2Bx@y+3Dz");
    EXPECT_EQ(decode_xtext("user+2Bx@y"), "user+x@y");
    for (const char* bad : {"+ZZ", "+2b", "+2", "+", "a b", "a=b", "\x80", "a\n"}) {
        EXPECT_FALSE(decode_xtext(bad)) << bad;
    }
}

}  // namespace
}  // namespace sluice::mail
