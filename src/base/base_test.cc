#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"
#include "base/slab.h"
#include "base/text.h"

namespace sluice {
namespace {

TEST(Crc32c, MatchesThePublishedVectors) {
    EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720 §B.4
    EXPECT_EQ(crc32c("6789", crc32c("12345")), crc32c("123456789"));
}

TEST(Ids, RoundTripAndSort) {
    const MessageId id{0xFEDCBA9876543210ULL};
    EXPECT_EQ(MessageId::parse(id.text()), id);
    EXPECT_LT(MessageId{1}.text(), MessageId{33}.text());
    EXPECT_EQ(MessageId::parse("zzzzzzzzzzzzz"), std::nullopt);  // more than 64 bits
    EXPECT_EQ(MessageId::parse("short"), std::nullopt);
    const ItemId item{id, 4};
    EXPECT_EQ(ItemId::parse(item.text()), item);
    EXPECT_EQ(ItemId::parse(id.text() + ".0"), std::nullopt);
}

TEST(Text, Base64IsStrict) {
    for (const char* text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
        EXPECT_EQ(base64_decode(base64_encode(text)), text);
    }
    for (const char* bad : {"Zg", "Zg=", "Z===", "Zg==Zg==", "Z*==", "=", "Zm9v\n"}) {
        EXPECT_EQ(base64_decode(bad), std::nullopt) << bad;
    }
}

TEST(Text, JsonEscapingKeepsOneLineAndValidUtf8) {
    std::string out;
    append_json_escaped(out, "a\"b\\c\r\n\x1b[31m \xFF \xC3\xA9 \x7F");
    EXPECT_EQ(out, "a\\\"b\\\\c\\u000d\\u000a\\u001b[31m \xEF\xBF\xBD \xC3\xA9 \\u007f");
}

TEST(Text, LOG_1_NothingTurnsOrBreaksALine) {
    std::string out;
    append_json_escaped(out, "\xC2\x85|\xE2\x80\xA8|\xE2\x80\xAE|\xE2\x81\xA6|\xE2\x80\xA6|\xC2\xA0");
    EXPECT_EQ(out, "\\u0085|\\u2028|\\u202e|\\u2066|\xE2\x80\xA6|\xC2\xA0");
    EXPECT_EQ(printable("\xE2\x80\xAE"), "\\xe2\\x80\\xae");
}

TEST(Text, PrintableHidesTerminalControls) {
    EXPECT_EQ(printable("a\x1b[2J\r\n\xC2\x9B" "b\xC3\xA9"), "a\\x1b[2J\\x0d\\x0a\\xc2\\x9bb\xC3\xA9");
}

TEST(Text, Utf8ValidityFollowsRfc3629) {
    EXPECT_TRUE(is_valid_utf8("b\xC3\xBC" "cher \xF0\x9F\x93\xA7"));
    for (const char* bad : {"\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\x80", "\xE2\x82"}) {
        EXPECT_FALSE(is_valid_utf8(bad));
    }
    EXPECT_EQ(with_valid_utf8("b\xC3\xBC" "cher"), "b\xC3\xBC" "cher");
    EXPECT_EQ(with_valid_utf8("a\xFC" "b\xE2\x82"), "a\xEF\xBF\xBD" "b\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Text, NumbersTakeTheWholeText) {
    EXPECT_EQ(parse_number<int>("42"), 42);
    for (const char* bad : {"", " 42", "42 ", "4x", "99999999999999999999"}) {
        EXPECT_EQ(parse_number<int>(bad), std::nullopt) << bad;
    }
    EXPECT_EQ(parse_number<unsigned>("-1"), std::nullopt);
}

TEST(Clock, DatesAreThoseOfTheRfcs) {
    EXPECT_EQ(rfc5322_date(1'795'000'000'123), "Wed, 18 Nov 2026 11:06:40 +0000");
    EXPECT_EQ(rfc3339(1'795'000'000'123), "2026-11-18T11:06:40.123Z");
}

TEST(Clock, SystemClockIsNeverBehindItsFloor) {
    const Instant floor = instant_from_ms(wall_clock_ms() + 3'600'000);
    SystemClock clock;
    clock.not_before(floor);
    EXPECT_GE(clock.now(), floor);
    clock.not_before(floor - Duration(1000));
    EXPECT_GE(clock.now(), floor);
}

Result<int> half(int number) {
    if (number % 2 != 0) return fail(Errc::bad_input, "odd");
    return number / 2;
}
Result<int> quarter(int number) {
    TRY(const int once, half(number));
    TRY(const int twice, half(once));
    return twice;
}

TEST(Result, TryReturnsTheFirstError) {
    EXPECT_EQ(quarter(8), 2);
    ASSERT_FALSE(quarter(6).has_value());
    EXPECT_EQ(quarter(6).error().text(), "bad_input: odd");
}

TEST(Random, RepeatsFromItsSeedAndStaysInBounds) {
    Random a(7), b(7);
    for (int i = 0; i < 1000; ++i) {
        EXPECT_EQ(a.below(10), b.below(10));
        const double unit = a.unit();
        EXPECT_EQ(unit, b.unit());
        EXPECT_LT(unit, 1.0);
    }
}

struct Numbered {
    using Key = std::uint64_t;
    std::uint64_t number = 0;
    Key key() const { return number; }
};

TEST(Registry, FindsEveryRowHoweverManyThereAre) {
    constexpr std::uint64_t rows = 100'000;
    Registry<Numbered> registry;
    for (std::uint64_t number = 0; number < rows; ++number) {
        const Index at = registry.add({number});
        ASSERT_EQ(registry.find(number), at);
    }
    for (std::uint64_t number = 0; number < rows; number += 2) registry.remove(registry.find(number));
    EXPECT_EQ(registry.size(), rows / 2);
    for (std::uint64_t number = 0; number < rows; ++number) {
        const Index at = registry.find(number);
        ASSERT_EQ(at == none, number % 2 == 0) << number;
        if (at != none) ASSERT_EQ(registry[at].number, number);
    }
}

}  // namespace
}  // namespace sluice
