#include <gtest/gtest.h>

#include "base/random.h"
#include "base/text.h"
#include "mail/header.h"

namespace sluice::mail {
namespace {

// The promise of ContentTraits, spelled out octet by octet.
ContentTraits slow_scan(std::string_view content) {
    ContentTraits traits;
    bool in_header = true;
    traits.header_size = static_cast<std::uint32_t>(content.size());
    std::size_t line_start = 0;
    const auto end_line = [&](std::size_t end) {
        traits.line_max = std::max(traits.line_max, static_cast<std::uint32_t>(end - line_start));
    };
    for (std::size_t i = 0; i < content.size(); ++i) {
        const bool high = static_cast<unsigned char>(content[i]) >= 0x80;
        traits.has_8bit |= high;
        traits.has_8bit_header |= high && in_header;
        traits.has_leading_dot |= content[i] == '.' && i == line_start;
        const bool after_cr = i > 0 && content[i - 1] == '\r';
        if (content[i] == '\r' && (i + 1 == content.size() || content[i + 1] != '\n'))
            traits.has_bare_eol = true;
        if (content[i] != '\n') continue;
        traits.has_bare_eol |= !after_cr;
        const std::size_t end = after_cr ? i - 1 : i;
        end_line(end);
        if (in_header && end == line_start) {
            in_header = false;
            traits.header_size = static_cast<std::uint32_t>(i + 1);
        }
        line_start = i + 1;
    }
    if (line_start < content.size()) end_line(content.size() - (content.ends_with('\r') ? 1 : 0));
    return traits;
}

TEST(ScanContent, KnowsWhatDeliveryNeeds) {
    const ContentTraits plain = scan_content("Subject: x\r\n\r\nhello\r\n");
    EXPECT_FALSE(plain.has_8bit || plain.has_8bit_header || plain.has_leading_dot || plain.has_bare_eol);
    EXPECT_EQ(plain.header_size, 14U);
    EXPECT_EQ(plain.line_max, 10U);
    EXPECT_TRUE(scan_content("A: b\r\n\r\nöl\r\n").has_8bit);
    EXPECT_FALSE(scan_content("A: b\r\n\r\nöl\r\n").has_8bit_header);
    EXPECT_TRUE(scan_content("A: öl\r\n\r\nx\r\n").has_8bit_header);
    EXPECT_TRUE(scan_content(".\r\n").has_leading_dot);
    EXPECT_TRUE(scan_content("a\r\n.b\r\n").has_leading_dot);
    EXPECT_FALSE(scan_content("a.b\r\n").has_leading_dot);
    EXPECT_TRUE(scan_content("a\nb\r\n").has_bare_eol);
    EXPECT_TRUE(scan_content("a\rb\r\n").has_bare_eol);
    EXPECT_TRUE(scan_content("a\r").has_bare_eol);
    EXPECT_EQ(scan_content("headers: only\r\n").header_size, 15U);
    EXPECT_EQ(scan_content(""), ContentTraits{});
}

TEST(ScanContent, AgreesWithTheDefinitionOnAnyOctetsAndAnyLength) {
    Random random(11);
    constexpr std::string_view alphabet("ab.\r\n\n\r\xC3", 8);
    for (int round = 0; round < 20000; ++round) {
        std::string content;
        const std::size_t size = random.below(200);
        for (std::size_t i = 0; i < size; ++i) {
            // Mostly long clean runs, so that all places within a block get their turn.
            if (random.chance(0.6)) {
                content.append(random.below(70), 'x').append("\r\n");
            } else {
                content.push_back(alphabet[random.below(alphabet.size())]);
            }
            if (content.size() > 300) break;
        }
        ASSERT_EQ(scan_content(content), slow_scan(content)) << printable(content);
    }
}

TEST(ScanContent, TraceCountsForAllButTheHeaderSize) {
    const ContentTraits content = scan_content("A: b\r\n\r\nx\r\n");
    const ContentTraits both = with_trace(content, "Received: by \xC3\xB6 x\r\n");
    EXPECT_TRUE(both.has_8bit && both.has_8bit_header);
    EXPECT_EQ(both.header_size, content.header_size);
    EXPECT_EQ(both.line_max, 17U);
}

TEST(CleanText, LeavesOnlyCrlfAsLineEnd_SMUG_O) {
    using namespace std::string_view_literals;
    const std::pair<std::string_view, std::string_view> table[] = {
        {"", ""},
        {"a", "a\r\n"},
        {"a\nb\r\n", "a\r\nb\r\n"},
        {"a\rb", "a b\r\n"},
        {"a\r\r\nb\r\n", "a \r\nb\r\n"},
        {"a\0b\r\n"sv, "a b\r\n"},
        {"a\n.\nb\n", "a\r\n.\r\nb\r\n"},
        {"a\r\n.\r\n", "a\r\n.\r\n"},
        {"\r", " \r\n"},
        {"\n\n", "\r\n\r\n"},
    };
    for (const auto& [text, clean] : table) {
        EXPECT_EQ(clean_text(text), clean) << printable(text);
        EXPECT_TRUE(is_clean_text(clean_text(text))) << printable(text);
        EXPECT_EQ(is_clean_text(text), text == clean) << printable(text);
    }
}

}  // namespace
}  // namespace sluice::mail
