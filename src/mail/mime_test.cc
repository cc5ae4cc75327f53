#include "mail/mime.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "mail/header.h"

namespace sluice::mail {
namespace {

using namespace std::string_literals;

TEST(Mime, QuotedPrintableKeepsLinesShortAndBlanksVisible) {
    EXPECT_EQ(quoted_printable("a=b\r\nö \r\n\tx\r\n"), "a=3Db\r\n=C3=B6=20\r\n\tx\r\n");
    EXPECT_EQ(quoted_printable("a\0b\n"s), "a=00b=0A");
    const std::string encoded = quoted_printable(std::string(1000, 'x') + "\r\n");
    EXPECT_LE(scan_content(encoded).line_max, 76U);
    EXPECT_TRUE(encoded.ends_with("x\r\n"));
}

TEST(Mime, EncodedWordsOnlyWhereNeeded) {
    EXPECT_EQ(encoded_words("plain"), "plain");
    EXPECT_EQ(encoded_words("Zurück"), "=?utf-8?B?WnVyw7xjaw==?=");
    std::string umlauts;
    for (int i = 0; i < 100; ++i)
        umlauts += "ö";
    const std::string encoded = encoded_words(umlauts);
    for (const std::string_view word : split(encoded, ' ')) {
        EXPECT_LE(word.size(), 75U);
        const auto bytes = base64_decode(word.substr(10, word.size() - 12));
        ASSERT_TRUE(bytes);
        EXPECT_TRUE(is_valid_utf8(*bytes)) << "a character must not be split";
    }
}

TEST(Mime, FoldedFieldsStayOneField_F5322_02) {
    EXPECT_EQ(folded_field("A", "b c"), "A: b c\r\n");
    EXPECT_EQ(folded_field("A", ""), "A: \r\n");
    std::string value;
    for (int i = 0; i < 100; ++i)
        value += "word ";
    value += std::string(5000, 'x') + " end";
    const std::string field = folded_field("Subject", value);
    EXPECT_LE(scan_content(field).line_max, 998U);
    HeaderReader reader(field);
    EXPECT_EQ(reader.next()->raw.size(), field.size());
    std::string words_only;
    for (const char c : unfolded(find_field(field, "Subject")->value)) {
        if (c != ' ') words_only.push_back(c);
    }
    EXPECT_EQ(words_only.size(), 400U + 5000 + 3);
    EXPECT_EQ(field.find("\r\n \r\n"), std::string::npos);
}

TEST(Mime, OneLineIsOneLine) {
    EXPECT_EQ(one_line("a\r\nb\0c\tz \x7F"s, 100), "a b c z");
    EXPECT_EQ(one_line("\r\n", 100), "");
    EXPECT_EQ(one_line("\xFFx", 100), "?x");
    EXPECT_EQ(one_line("öööö", 6), "ö...");
    EXPECT_EQ(one_line(std::string(50, 'x'), 10), "xxxxxxx...");
}

TEST(Mime, EmbeddedUnicodeByRfc6533_DS_13) {
    EXPECT_EQ(embedded_unicode("jörg@x"), "j\\x{F6}rg@x");
    EXPECT_EQ(embedded_unicode("a+b=c\\ d"), "a\\x{2B}b\\x{3D}c\\x{5C}\\x{20}d");
    EXPECT_EQ(embedded_unicode("\xF0\x9F\x98\x80"), "\\x{1F600}");
    EXPECT_EQ(embedded_non_ascii("a+b ö"), "a+b \\x{F6}");
}

TEST(Mime, HtmlValuesAreText) {
    EXPECT_EQ(html_escaped("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
}

TEST(Mime, FilesOfAnyLineEnd) {
    EXPECT_EQ(with_crlf("a\nb\r\nc\rd"), "a\r\nb\r\nc\r\nd\r\n");
    EXPECT_EQ(with_crlf(""), "");
    EXPECT_TRUE(is_clean_text(with_crlf("\r\r\n\0\n"s)));
}

}  // namespace
}  // namespace sluice::mail
