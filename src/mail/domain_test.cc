#include "mail/domain.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "mail/address.h"

namespace sluice::mail {
namespace {

TEST(Domain, LiteralsHaveOneCanonicalForm_S5321_18) {
    EXPECT_EQ(canonical_literal("[192.0.2.1]"), "[192.0.2.1]");
    EXPECT_EQ(canonical_literal("[IPv6:2001:DB8:0:0::1]"), "[IPv6:2001:db8::1]");
    EXPECT_EQ(canonical_literal("[IPv6:::ffff:192.0.2.1]"), "[IPv6:::ffff:192.0.2.1]");
    using namespace std::string_view_literals;
    for (const std::string_view bad :
         {"[]"sv, "[192.0.2]"sv, "[192.0.2.01]"sv, "[192.0.2.1"sv, "192.0.2.1"sv, "[2001:db8::1]"sv,
          "[IPv6:]"sv, "[IPv6:fe80::1%eth0]"sv, "[ 192.0.2.1]"sv, "[192.0.2.1\0]"sv, "[x:y]"sv}) {
        EXPECT_FALSE(canonical_literal(bad)) << printable(bad);
    }
}

TEST(Domain, NormalisesForQueueAndDns_EA_6_EA_7) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"Example.TEST", "example.test"},
        {"example.test.", "example.test"},
        {"BÜCHER.example", "xn--bcher-kva.example"},
        {"bu\xCC\x88"
         "cher.example",
         "xn--bcher-kva.example"},
        {"faß.de", "xn--fa-hia.de"},
        {"_dmarc.x.test", "_dmarc.x.test"},
        {"localhost", "localhost"},
        {"[IPv6:2001:DB8::1]", "[IPv6:2001:db8::1]"},
    };
    for (const auto& [text, name] : table) {
        const auto result = normalise_domain(text);
        ASSERT_TRUE(result) << text << ": " << result.error().detail;
        EXPECT_EQ(*result, name) << text;
        EXPECT_EQ(normalise_domain(*result), *result) << text;
    }
}

TEST(Domain, RefusesWhatDnsMustNeverBeAsked_EA_8) {
    using namespace std::string_view_literals;
    const std::string long_label = std::string(64, 'a') + ".test";
    const std::string long_u_label = std::string(60, 'a') + "ü.test";
    const std::string long_name = std::string(254, 'a');
    for (const std::string_view bad :
         {""sv,
          "."sv,
          "a..b"sv,
          ".a"sv,
          "xn---"sv,
          "xn--a"sv,
          "xn--"sv,
          "-a.test"sv,
          "a-.test"sv,
          "a b"sv,
          "a\0b"sv,
          "a/b"sv,
          "a:25"sv,
          "a@b"sv,
          "\xFF.test"sv,
          "[1.2.3]"sv,
          std::string_view(long_label),
          std::string_view(long_u_label),
          std::string_view(long_name),
          "..."sv,
          "a.test.."sv}) {
        EXPECT_FALSE(normalise_domain(bad)) << printable(bad);
    }
}

TEST(Domain, ForeignFullStopsDoNotMakeAnotherDomain_EA_8) {
    EXPECT_FALSE(
        parse_address("a@b\xE3\x80\x82"
                      "c")
    );
    EXPECT_FALSE(
        parse_address("a@b\xEF\xBC\x8E"
                      "c")
    );
}

}  // namespace
}  // namespace sluice::mail
