#include "smtp/data.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/text.h"
#include "mail/header.h"

namespace sluice::smtp {
namespace {

using namespace std::string_literals;

constexpr std::size_t read_sizes[] = {1, 2, 3, 7, 64, 65, 1 << 20};

struct Decoded {
    std::string content;
    std::string rest;  // what follows the end of data
    bool done = false;
    DataFault fault = DataFault::none;
    friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded decode(std::string_view wire, std::size_t piece_size, const DataLimits& limits = {}) {
    DataDecoder decoder(limits);
    Decoded result;
    while (!wire.empty() && !decoder.done()) {
        std::string_view piece = wire.substr(0, piece_size);
        const std::size_t given = piece.size();
        decoder.feed(piece, result.content);
        wire.remove_prefix(given - piece.size());
    }
    result.rest = wire;
    result.done = decoder.done();
    result.fault = decoder.fault();
    return result;
}

DataLimits normalising() {
    DataLimits limits;
    limits.bare_eol = BareEol::normalise;
    return limits;
}

TEST(DataDecoder, RemovesTheStuffingAndNothingElse_S5321_09_S5321_10) {
    const std::string line_998(998, 'x');
    const std::pair<std::string, std::string> table[] = {
        {".\r\n", ""},
        {"a\r\n.\r\n", "a\r\n"},
        {"..x\r\n.\r\n", ".x\r\n"},
        {".x\r\n.\r\n", "x\r\n"},
        {"..\r\n.\r\n", ".\r\n"},
        {"a\r\n..\r\n...\r\n.\r\n", "a\r\n.\r\n..\r\n"},
        {"\r\n\r\n.\r\n", "\r\n\r\n"},
        {"a.b\r\n.\r\n", "a.b\r\n"},
        {"a\r\n. \r\n.\t\r\n.\r\n", "a\r\n \r\n\t\r\n"},  // SMUG-I13
        {line_998 + "\r\n.\r\n", line_998 + "\r\n"},
        {std::string(5000, 'y') + "\r\n.\r\n", std::string(5000, 'y') + "\r\n"},
        {"\x85.\x85\r\n\xE2\x80\xA8.\xE2\x80\xA8\r\n.\r\n", "\x85.\x85\r\n\xE2\x80\xA8.\xE2\x80\xA8\r\n"
        },  // SMUG-I14
    };
    for (const auto& [wire, content] : table) {
        for (const std::size_t size : read_sizes) {
            EXPECT_EQ(decode(wire + "QUIT\r\n", size), (Decoded{content, "QUIT\r\n", true, DataFault::none}))
                << printable(wire.substr(0, 80)) << " by " << size;
        }
    }
}

struct Smuggling {
    std::string_view id;
    std::string sequence;
    DataFault fault;
    std::string normalised;  // what the content has in place of the sequence under `normalise`
};

const std::vector<Smuggling>& smuggling_table() {
    static const std::vector<Smuggling> table = {
        {"SMUG-I1", "\n.\n", DataFault::bare_eol, "\r\n.\r\n"},
        {"SMUG-I2", "\n.\r", DataFault::bare_eol, "\r\n. "},
        {"SMUG-I3", "\n.\r\n", DataFault::bare_eol, "\r\n.\r\n"},
        {"SMUG-I4", "\r.\n", DataFault::bare_eol, " .\r\n"},
        {"SMUG-I5", "\r.\r", DataFault::bare_eol, " . "},
        {"SMUG-I6", "\r.\r\n", DataFault::bare_eol, " .\r\n"},
        {"SMUG-I7", "\r\n.\n", DataFault::bare_eol, "\r\n.\r\n"},
        {"SMUG-I8", "\r\n.\r", DataFault::bare_eol, "\r\n. "},
        {"SMUG-I9", "\r\n\0.\r\n"s, DataFault::nul, "\r\n .\r\n"},
        {"SMUG-I10", "\r\n.\0\r\n"s, DataFault::nul, "\r\n \r\n"},
        {"SMUG-I11", "\r\n.\r\r\n", DataFault::bare_eol, "\r\n. \r\n"},
        {"SMUG-I12", "\r\r\n.\r\r\n", DataFault::bare_eol, " \r\n. \r\n"},
    };
    return table;
}

const std::string smuggled = "MAIL FROM:<smug@x>\r\nRCPT TO:<v@y>\r\nDATA\r\nSubject: SMUGGLED\r\n\r\nx\r\n";

// One message results from each vector, never two, at every way of cutting the bytes.
TEST(DataDecoder, SmugglingIsRefused_SMUG_I1_to_I12) {
    for (const Smuggling& row : smuggling_table()) {
        const std::string wire = "hello" + row.sequence + smuggled + ".\r\n";
        for (const std::size_t size : read_sizes) {
            EXPECT_EQ(decode(wire, size), (Decoded{"", "", true, row.fault})) << row.id << " by " << size;
        }
    }
}

TEST(DataDecoder, SmugglingIsMadeHarmless_SMUG_I1_to_I12) {
    for (const Smuggling& row : smuggling_table()) {
        const std::string wire = "hello" + row.sequence + smuggled + ".\r\n";
        const std::string content = "hello" + row.normalised + smuggled;
        for (const std::size_t size : read_sizes) {
            EXPECT_EQ(decode(wire, size, normalising()), (Decoded{content, "", true, DataFault::none}))
                << row.id << " by " << size;
        }
        EXPECT_TRUE(mail::is_clean_text(content)) << row.id;
    }
}

TEST(DataDecoder, SmugglingAtTheStartOfData_SMUG_I15) {
    for (const std::size_t size : read_sizes) {
        EXPECT_EQ(decode(".\n" + smuggled + ".\r\n", size), (Decoded{"", "", true, DataFault::bare_eol}));
        EXPECT_EQ(
            decode(".\n" + smuggled + ".\r\n", size, normalising()),
            (Decoded{".\r\n" + smuggled, "", true, DataFault::none})
        );
    }
}

TEST(DataDecoder, SmugglingAfterTheSizeLimit_SMUG_I16_SZ_4) {
    DataLimits limits;
    limits.size_max = 100;
    for (const BareEol policy : {BareEol::refuse, BareEol::normalise}) {
        limits.bare_eol = policy;
        for (const Smuggling& row : smuggling_table()) {
            const std::string wire = std::string(200, 'x') + row.sequence + smuggled + ".\r\nQUIT\r\n";
            for (const std::size_t size : read_sizes) {
                const Decoded result = decode(wire, size, limits);
                EXPECT_TRUE(result.done) << row.id;
                EXPECT_EQ(result.rest, "QUIT\r\n") << row.id;
                EXPECT_EQ(result.content, "") << row.id;
                EXPECT_EQ(result.fault, DataFault::too_large) << row.id;
            }
        }
    }
}

TEST(DataDecoder, LimitsAreExact_SZ_4) {
    DataLimits limits;
    limits.size_max = 300;
    limits.line_max = 98;
    std::string content;
    for (int i = 0; i < 3; ++i)
        content += std::string(98, 'x') + "\r\n";
    for (const std::size_t size : read_sizes) {
        EXPECT_EQ(decode(content + ".\r\n", size, limits).fault, DataFault::none) << size;
        EXPECT_EQ(decode("x" + content + ".\r\n", size, limits).fault, DataFault::line_too_long) << size;
        EXPECT_EQ(decode(content + "\r\n.\r\n", size, limits).fault, DataFault::too_large) << size;
        const Decoded in_sync = decode("x" + content + ".\r\nRSET\r\n", size, limits);
        EXPECT_TRUE(in_sync.done);
        EXPECT_EQ(in_sync.rest, "RSET\r\n");
    }
}

TEST(DataDecoder, TheTerminatorStraddlesEveryBufferBoundary) {
    for (const std::size_t boundary : {64UL, 4096UL, 8192UL, 16384UL, 65536UL}) {
        for (std::size_t size = boundary - 5; size <= boundary + 5; ++size) {
            std::string content;
            while (content.size() + 72 < size)
                content += std::string(68, 'a') + "\r\n";
            content += std::string(size - content.size() - 2, 'b') + "\r\n";
            for (const std::size_t piece : {boundary, boundary - 1, 5UL}) {
                EXPECT_EQ(
                    decode(content + ".\r\nQUIT\r\n", piece),
                    (Decoded{content, "QUIT\r\n", true, DataFault::none})
                );
            }
        }
    }
}

TEST(DataDecoder, AnyOctetsGiveTheSameAtEveryReadSize) {
    Random random(5);
    constexpr std::string_view alphabet("ab.\r\n\0", 6);
    for (int round = 0; round < 4000; ++round) {
        std::string wire;
        const std::size_t words = random.below(30);
        for (std::size_t i = 0; i < words; ++i) {
            if (random.chance(0.5)) wire += std::string(random.below(80), 'x') + "\r\n";
            if (random.chance(0.3)) wire += ".";
            if (random.chance(0.1)) wire.push_back(alphabet[random.below(alphabet.size())]);
        }
        DataLimits limits = random.chance(0.5) ? normalising() : DataLimits{};
        if (random.chance(0.2)) limits.line_max = 70;
        if (random.chance(0.2)) limits.size_max = 900;
        const Decoded expected = decode(wire, 1, limits);
        for (const std::size_t size : read_sizes)
            ASSERT_EQ(decode(wire, size, limits), expected) << printable(wire);
        if (expected.done && expected.fault == DataFault::none)
            EXPECT_TRUE(mail::is_clean_text(expected.content));
    }
}

std::string stuffed(std::string_view content) {
    std::vector<std::string_view> pieces;
    append_stuffed(pieces, content, mail::scan_content(content).has_leading_dot);
    std::string wire;
    for (const std::string_view piece : pieces)
        wire += piece;
    return wire.append(data_terminator(content));
}

TEST(Stuffing, WhatIsSentIsWhatIsRead_S5321_09_BD_2) {
    for (const std::string content :
         {"", ".\r\n", "..\r\n", "a\r\n.b\r\n", "a\r\n.\r\n.\r\n.c\r\n", "a\r\nb\r\n", "x\r\n\r\n.", ".a"}) {
        const std::string ended = content.empty() || content.ends_with("\r\n") ? content : content + "\r\n";
        EXPECT_EQ(decode(stuffed(content), 3), (Decoded{ended, "", true, DataFault::none}))
            << printable(content);
    }
    EXPECT_EQ(stuffed("a\r\n.\r\n"), "a\r\n..\r\n.\r\n");
    EXPECT_EQ(stuffed(".a"), "..a\r\n.\r\n");
}

TEST(Stuffing, ContentWithoutDotsIsNotCopied) {
    const std::string content = "a\r\nb\r\n";
    std::vector<std::string_view> pieces;
    append_stuffed(pieces, content, false);
    ASSERT_EQ(pieces.size(), 1U);
    EXPECT_EQ(pieces[0].data(), content.data());
}

TEST(ChunkReader, ChunksAreTakenVerbatim_BD_1_BD_2) {
    for (const std::size_t piece : read_sizes) {
        ChunkReader reader(1000);
        std::string out;
        std::string_view wire = "a\r\n.\r\nb\rNOOP\r\n";
        reader.begin(4, false);
        while (!reader.chunk_complete()) {
            std::string_view bytes = wire.substr(0, piece);
            const std::size_t given = bytes.size();
            reader.feed(bytes, out);
            wire.remove_prefix(given - bytes.size());
        }
        EXPECT_FALSE(reader.done());
        reader.begin(4, true);
        reader.feed(wire, out);
        EXPECT_TRUE(reader.done());
        EXPECT_EQ(out, "a\r\n.\r\nb\r");
        EXPECT_EQ(wire, "NOOP\r\n");
    }
    ChunkReader empty(10);
    empty.begin(0, true);
    EXPECT_TRUE(empty.done());
}

TEST(ChunkReader, StaysInSyncWhenItMustNotKeep_BD_3_SZ_4) {
    ChunkReader reader(5);
    std::string out;
    std::string_view wire = "123456NOOP\r\n";
    reader.begin(6, false);
    reader.feed(wire, out);
    EXPECT_EQ(wire, "NOOP\r\n");
    EXPECT_EQ(reader.fault(), DataFault::too_large);
    EXPECT_EQ(out, "");

    ChunkReader refused(0);
    refused.discard(out);
    wire = "123456NOOP\r\n";
    refused.begin(6, true);
    refused.feed(wire, out);
    EXPECT_EQ(wire, "NOOP\r\n");
    EXPECT_EQ(out, "");
    EXPECT_EQ(refused.fault(), DataFault::none);
}

TEST(SettleContent, SamePolicyAsForData_BD_9_BD_2) {
    const auto settle = [](std::string content, const DataLimits& limits, bool binary) {
        const DataFault fault = settle_content(content, limits, binary);
        return std::pair(fault, content);
    };
    EXPECT_EQ(settle("a\r\n.\r\nb\r\n", {}, false), std::pair(DataFault::none, "a\r\n.\r\nb\r\n"s));
    EXPECT_EQ(settle("a", {}, false), std::pair(DataFault::none, "a\r\n"s));
    EXPECT_EQ(settle("", {}, false), std::pair(DataFault::none, ""s));
    EXPECT_EQ(settle("a\nb\r\n", {}, false).first, DataFault::bare_eol);
    EXPECT_EQ(settle("a\0b\r\n"s, {}, false).first, DataFault::nul);
    EXPECT_EQ(settle("a\nb", normalising(), false), std::pair(DataFault::none, "a\r\nb\r\n"s));
    EXPECT_EQ(settle("a\nb\0\r\n"s, {}, true), std::pair(DataFault::none, "a\nb\0\r\n"s));
    DataLimits limits;
    limits.size_max = 3;
    EXPECT_EQ(settle("abcd", limits, false).first, DataFault::too_large);
    limits.size_max = 0;
    limits.line_max = 3;
    EXPECT_EQ(settle("abcd\r\n", limits, false).first, DataFault::line_too_long);
}

TEST(DataFault, EveryFaultHasItsReply) {
    EXPECT_EQ(reply_for(DataFault::too_large).full_text().substr(0, 9), "552 5.3.4");
    EXPECT_EQ(reply_for(DataFault::bare_eol).full_text().substr(0, 9), "554 5.5.2");
    EXPECT_EQ(reply_for(DataFault::nul).full_text().substr(0, 9), "554 5.5.2");
    EXPECT_EQ(reply_for(DataFault::line_too_long).full_text().substr(0, 9), "554 5.6.0");
}

}  // namespace
}  // namespace sluice::smtp
