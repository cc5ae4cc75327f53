#include "delivery/downgrade.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace sluice::delivery {
namespace {

const std::string umlauts = "gr\xC3\xBC\xC3\x9F" "e\r\n";
const std::string text_8bit =
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";

TEST(Downgrade, SevenBitContentStaysAsItIs) {
    const std::string plain = "Subject: x\r\n\r\nhello\r\n";
    EXPECT_EQ(to_seven_bit(plain), plain);
}

TEST(Downgrade, F8B_2_TextBecomesQuotedPrintable) {
    EXPECT_EQ(
        to_seven_bit(text_8bit + umlauts),
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n");
}

TEST(Downgrade, ContentWithoutMimeIsTextOfAnUnknownCharset) {
    EXPECT_EQ(
        to_seven_bit("Subject: x\r\n\r\n" + umlauts),
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n");
}

TEST(Downgrade, OtherPartsBecomeBase64) {
    const auto converted = to_seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xFF\xFE\r\n");
    ASSERT_TRUE(converted);
    EXPECT_TRUE(converted->ends_with("Content-Transfer-Encoding: base64\r\n\r\n" + base64_encode("\xFF\xFE\r\n") + "\r\n"));
}

TEST(Downgrade, F5322_07_BoundariesAndAsciiPartsStayAsTheyAre) {
    const std::string head = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b 1\"\r\n";
    const std::string ascii_part = "--b 1\r\nContent-Type: text/plain\r\n\r\nascii\r\n";
    const auto converted = to_seven_bit(
        head + "Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n" + ascii_part + "--b 1\r\n" + text_8bit + umlauts +
        "--b 1--\r\nepilogue\r\n");
    ASSERT_TRUE(converted);
    EXPECT_TRUE(is_ascii(*converted));
    EXPECT_TRUE(converted->starts_with(head + "Content-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n" + ascii_part));
    EXPECT_NE(converted->find("quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n--b 1--\r\nepilogue\r\n"), std::string::npos);
}

// One part of the type in a multipart, in what encoding it went out.
std::string part_of(std::string_view converted) {
    const std::size_t begin = converted.find("\r\n\r\n", converted.find("--b\r\n")) + 4;
    return std::string(converted.substr(begin, converted.find("\r\n--b", begin) - begin));
}

TEST(Downgrade, F5322_07_NoPartGainsOrLosesAnOctet) {
    const std::string head = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
    const std::string type = "Content-Type: application/json\r\n\r\n";
    for (const std::string& body :
         {umlauts + "{}", umlauts, umlauts + "\r\n", umlauts + " --b\r\n" + umlauts, std::string(57, '\xFF'), std::string(200, '\xFF')}) {
        for (const std::string& rest : {"--b--\r\n", "--b-- \r\nepilogue\r\n", "--b\t\r\n\r\nnext\r\n--b--\r\n"}) {
            const auto converted = to_seven_bit(head + type + body + "\r\n" + rest);
            ASSERT_TRUE(converted) << printable(body);
            EXPECT_TRUE(converted->ends_with("\r\n" + rest)) << printable(*converted);
            std::string encoded = part_of(*converted);
            std::erase_if(encoded, [](char c) { return c == '\r' || c == '\n'; });
            EXPECT_EQ(base64_decode(encoded), body) << printable(body);
        }
    }
    const auto text = to_seven_bit(head + "Content-Type: text/plain\r\n\r\n" + umlauts + "\r\n--b--\r\n");
    ASSERT_TRUE(text);
    EXPECT_EQ(part_of(*text), "gr=C3=BC=C3=9Fe\r\n");
    const auto open = to_seven_bit(head + type + umlauts);
    ASSERT_TRUE(open);
    EXPECT_TRUE(open->ends_with("base64\r\n\r\n" + base64_encode(umlauts) + "\r\n")) << "there is no delimiter that it could belong to";
}

TEST(Downgrade, F5322_07_PartsWithoutContentStayAsTheyAre) {
    for (const char* part : {"", "\r\n", "\r\n\r\n", "A: b\r\n", "A: b\r\n\r\n", "A: b\r\n\r\n\r\n"}) {
        const std::string around = std::string("--b\r\n") + part + "--b\r\n";
        const auto converted =
            to_seven_bit("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + around + "\r\n" + umlauts + "--b--\r\n");
        ASSERT_TRUE(converted);
        EXPECT_NE(converted->find("\r\n\r\n" + around), std::string::npos) << printable(*converted);
    }
}

TEST(Downgrade, AttachedMessagesAreConvertedInside) {
    const auto converted = to_seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text_8bit +
        umlauts);
    ASSERT_TRUE(converted);
    EXPECT_NE(converted->find("Content-Transfer-Encoding: 7bit\r\n\r\nMIME-Version"), std::string::npos);
    EXPECT_NE(converted->find("gr=C3=BC=C3=9Fe"), std::string::npos);
}

TEST(Downgrade, LongLinesAreBroken) {
    const auto converted = to_seven_bit(text_8bit + std::string(5'000, 'x') + "\r\n");
    ASSERT_TRUE(converted);
    EXPECT_NE(converted->find("quoted-printable"), std::string::npos);
}

TEST(Downgrade, F5322_07_WhatCannotBeDoneFaithfullyIsNotDone) {
    const std::vector<std::string> impossible{
        "Subject: gr\xC3\xBC\r\n\r\nx\r\n",
        "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xFF\r\n--b--\r\n",
        "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\n\xFF\r\n--b--\r\n",
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n\xFF\r\n",
        "Content-Type: multipart/mixed\r\n\r\n\xFF\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n\xFF\r\n--b\r\n\r\nx\r\n--b--\r\n",
    };
    for (const std::string& content : impossible) EXPECT_FALSE(to_seven_bit(content)) << printable(content);
}

}  // namespace
}  // namespace sluice::delivery
