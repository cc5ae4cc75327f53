#include "smtp/reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace sluice::smtp {
namespace {

using namespace std::string_view_literals;
using namespace std::string_literals;

constexpr std::size_t read_sizes[] = {1, 2, 3, 7, 64, 1 << 20};

// Feeds `bytes` in pieces; the first reply or error that comes out.
Result<std::optional<Reply>> read_reply(std::string_view bytes, std::size_t piece_size) {
    ReplyParser parser;
    while (!bytes.empty()) {
        std::string_view piece = bytes.substr(0, piece_size);
        bytes.remove_prefix(piece.size());
        auto reply = parser.feed(piece);
        if (!reply || *reply) return reply;
        EXPECT_TRUE(piece.empty());
    }
    return std::optional<Reply>();
}

struct GoodReply {
    std::string_view bytes;
    int code;
    std::string_view enhanced;
    std::vector<std::string> lines;
};

TEST(ReplyParser, UnderstandsWhatPeersSend_C5321_01_A14) {
    const std::string long_text(4096, 'x');
    const std::string long_line = "250 " + long_text + "\r\n";
    const GoodReply table[] = {
        {"250 ok\r\n", 250, "", {"ok"}},
        {"250\r\n", 250, "", {""}},
        {"250 \r\n", 250, "", {""}},
        {"550\n", 550, "", {""}},
        {"250-a\r\n250 b\r\n", 250, "", {"a", "b"}},
        {"250-a\r\n250-\r\n250\r\n", 250, "", {"a", "", ""}},
        {"250-a\n250 b\n", 250, "", {"a", "b"}},
        {"550 5.7.26 Unauthenticated\r\n", 550, "5.7.26", {"Unauthenticated"}},
        {"550-5.7.26 one\r\n550-5.7.26  two\r\n550 5.7.26\r\n", 550, "5.7.26", {"one", " two", ""}},
        {"550-5.7.1 one\r\n550 5.7.2 two\r\n", 550, "5.7.1", {"one", "5.7.2 two"}},
        {"250 2.1.5\r\n", 250, "2.1.5", {""}},
        {"550 5.7.999 x\r\n", 550, "5.7.999", {"x"}},
        {"550 5.7.1000 x\r\n", 550, "", {"5.7.1000 x"}},
        {"550 5.7 x\r\n", 550, "", {"5.7 x"}},
        {"550 5..1 x\r\n", 550, "", {"5..1 x"}},
        {"550 3.1.1 x\r\n", 550, "", {"3.1.1 x"}},
        {"550 5.1.1: x\r\n", 550, "", {"5.1.1: x"}},
        {"550 4.2.1 contradiction\r\n", 550, "4.2.1", {"contradiction"}},
        {"299 x\r\n", 299, "", {"x"}},
        {"599 x\r\n", 599, "", {"x"}},
        {"354 go\r\n", 354, "", {"go"}},
        {"250 \xFF\xC3\xB6\r\n", 250, "", {"\xFF\xC3\xB6"}},
        {long_line, 250, "", {long_text}},
    };
    for (const GoodReply& row : table) {
        for (const std::size_t size : read_sizes) {
            const auto reply = read_reply(row.bytes, size);
            ASSERT_TRUE(reply && *reply) << printable(row.bytes) << " by " << size;
            EXPECT_EQ((*reply)->code, row.code) << printable(row.bytes);
            EXPECT_EQ((*reply)->enhanced ? (*reply)->enhanced->text() : "", row.enhanced)
                << printable(row.bytes);
            EXPECT_EQ((*reply)->lines, row.lines) << printable(row.bytes);
        }
    }
}

TEST(ReplyParser, RefusesWhatIsNoReply_C5321_02_C5321_03) {
    const std::string_view table[] = {
        "250-x\r\n550 y\r\n", "2500 x\r\n", "25\r\n",     "abc\r\n",        "\r\n",         "\n",
        "2 0 x\r\n",          "250_x\r\n",  "150 x\r\n",  "199 x\r\n",      "600 x\r\n",    "000 x\r\n",
        "999 x\r\n",          " 250 x\r\n", "250\tx\r\n", "250-a\r\nb\r\n", "250\0x\r\n"sv,
    };
    for (const std::string_view bytes : table) {
        for (const std::size_t size : read_sizes) {
            const auto reply = read_reply(bytes, size);
            ASSERT_FALSE(reply) << printable(bytes) << " by " << size;
            EXPECT_EQ(reply.error().code, Errc::bad_reply);
        }
    }
    EXPECT_FALSE(*read_reply("250-no end\r\n", 3));
    EXPECT_FALSE(*read_reply("250 no end", 3));
}

TEST(ReplyParser, EndlessRepliesAreCapped_DoS_5) {
    std::string lines;
    for (int i = 0; i < 100; ++i)
        lines += "250-x\r\n";
    EXPECT_TRUE(read_reply(lines, 64));
    EXPECT_FALSE(read_reply(lines + "250 x\r\n", 64));
    const std::string line = "250 " + std::string(70000, 'x');
    EXPECT_FALSE(read_reply(line, 1000));
    EXPECT_FALSE(read_reply(line + "\r\n", 1 << 20));
}

TEST(ReplyParser, LeavesSurplusForTheNextReply_PL_3) {
    ReplyParser parser;
    std::string_view bytes = "250 a\r\n550 b\r\n25";
    EXPECT_EQ((*parser.feed(bytes))->code, 250);
    EXPECT_TRUE(parser.idle());
    EXPECT_EQ((*parser.feed(bytes))->code, 550);
    EXPECT_FALSE(*parser.feed(bytes));
    EXPECT_FALSE(parser.idle());
    bytes = "1 c\r\n";
    EXPECT_EQ((*parser.feed(bytes))->code, 251);
}

TEST(Reply, TheCodeDecides_ES_2) {
    EXPECT_TRUE(Reply(550, "4.2.1", "x").contradicts_itself());
    EXPECT_TRUE(Reply(550, "4.2.1", "x").permanent());
    EXPECT_FALSE(Reply(550, "5.2.1", "x").contradicts_itself());
    EXPECT_FALSE(Reply(550, "", "x").contradicts_itself());
    EXPECT_EQ(Reply(550, "5.1.1", "no").full_text(), "550 5.1.1 no");
    EXPECT_EQ(Reply(550, "", "").full_text(), "550");
}

TEST(Reply, FormatsTheEnhancedCodeOnEveryLine_ES_1) {
    Reply reply(550, "5.7.26", "one");
    reply.lines.emplace_back("two");
    EXPECT_EQ(format(reply), "550-5.7.26 one\r\n550 5.7.26 two\r\n");
    EXPECT_EQ(format(Reply(220, "", "mx.test ESMTP")), "220 mx.test ESMTP\r\n");
    EXPECT_EQ(format(Reply(250, "", "")), "250 \r\n");
}

TEST(Reply, TextCannotStartALineOfItsOwn) {
    const std::string bytes = format(Reply(550, "5.7.1", "x\r\n250 ok\0\x1B[31m"s));
    EXPECT_EQ(bytes, "550 5.7.1 x??250 ok??[31m\r\n");
}

TEST(Reply, LongTextIsWrappedBelow512Octets) {
    std::string text;
    for (int i = 0; i < 300; ++i)
        text += "word" + std::to_string(i) + " ";
    text += std::string(1200, 'y');
    for (int i = 0; i < 300; ++i)
        text += "\xC3\xB6";
    const std::string bytes = format(Reply(550, "5.7.1", text));
    for (const std::string_view line : split(bytes, '\n')) {
        EXPECT_LE(line.size() + 1, 512U);
        EXPECT_TRUE(is_valid_utf8(line));
    }
    std::string_view rest = bytes;
    ReplyParser parser;
    const auto again = parser.feed(rest);
    ASSERT_TRUE(again && *again);
    EXPECT_EQ((*again)->enhanced->text(), "5.7.1");
    EXPECT_GT((*again)->lines.size(), 4U);
}

}  // namespace
}  // namespace sluice::smtp
