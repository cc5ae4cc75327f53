#include "plugin/frames.h"

#include <gtest/gtest.h>

namespace sluice::plugin {
namespace {

TEST(Frames, ComeOutAsTheyWentInHoweverTheyAreCut) {
    std::string wire;
    append_frame(wire, FrameKind::messages, "[{}]");
    append_octets(wire, 7, "abc", true);
    append_frame(wire, FrameKind::messages, "");
    for (const std::size_t step : {1U, 2U, 3U, 7U, 64U}) {
        FrameReader reader;
        std::string seen;
        for (std::size_t at = 0; at < wire.size(); at += step) {
            reader.append(std::string_view(wire).substr(at, step));
            for (;;) {
                const auto frame = reader.next();
                ASSERT_TRUE(frame);
                if (!*frame) break;
                seen += std::to_string(static_cast<int>((*frame)->kind)) + ":";
                seen += (*frame)->payload;
                seen += "|";
            }
        }
        EXPECT_EQ(seen, std::string("1:[{}]|2:\x07\0\0\0\x01" "abc|1:|", 21)) << step;
    }
}

TEST(Frames, NonsenseIsRefused) {
    for (const std::string_view bytes : {std::string_view("\0\0\0\0\1", 5), std::string_view("\xff\xff\xff\xff\1", 5),
                                         std::string_view("\2\0\0\0\3x", 6)}) {
        FrameReader reader;
        reader.append(bytes);
        EXPECT_FALSE(reader.next());
    }
}

TEST(Frames, OctetsAreReadAsTheyWereWritten) {
    std::string frame;
    append_octets(frame, 0x80000007U, "abc", true);
    const auto piece = read_octets(std::string_view(frame).substr(5));
    ASSERT_TRUE(piece.has_value());
    EXPECT_EQ(piece->request, 0x80000007U);
    EXPECT_TRUE(piece->last);
    EXPECT_EQ(piece->octets, "abc");
    EXPECT_FALSE(read_octets("abcd").has_value());
}

}  // namespace
}  // namespace sluice::plugin
