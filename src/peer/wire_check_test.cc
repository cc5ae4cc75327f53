#include "peer/wire_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::peer {
namespace {

using Framing = WireCheck::Framing;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A client that has said EHLO to a server with these keywords.
struct Client {
    explicit Client(std::vector<std::string> keywords = {"PIPELINING", "SIZE", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"}) {
        check.command("EHLO client.test\r\n", 0);
        check.offered(keywords);
    }
    std::vector<std::string> complaints() const { return report.first(); }

    WireReport report;
    WireCheck check{report, 7, false};
};

std::vector<std::string> of_content(const std::string& octets, Framing framing, std::size_t piece) {
    Client client;
    for (std::size_t at = 0; at < octets.size(); at += piece) client.check.content(octets.substr(at, piece), framing);
    client.check.end_of_content(framing);
    return client.complaints();
}

TEST(WireCheck, WhatAGoodClientDoes) {
    Client client;
    client.check.command("MAIL FROM:<a@b.test> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8\r\n", 100);
    client.check.command("RCPT TO:<\"a> b\"@c.test> NOTIFY=NEVER ORCPT=rfc822;a@c.test\r\n", 50);
    client.check.command("rcpt to:<gr\xC3\xBC\xC3\x9F" "e@c.test>\r\n", 6);
    client.check.command("DATA\r\n", 0);
    client.check.content("Subject: x\r\n\r\n..\r\n..x\r\nend\r\n", Framing::dots);
    client.check.end_of_content(Framing::dots);
    client.check.command("MAIL FROM:<>\r\n", 20);
    client.check.command("BDAT 2 LAST\r\n", 2);
    client.check.content("\r\n", Framing::chunk);
    client.check.end_of_content(Framing::chunk);
    client.check.command("QUIT\r\n", 0);
    client.check.ended(0);
    EXPECT_THAT(client.complaints(), IsEmpty());
}

TEST(WireCheck, EveryBadCommandIsSeen) {
    const struct {
        std::string line;
        std::size_t behind;
        const char* complaint;
    } rows[] = {
        {"RSET\n", 0, "without CR LF"},
        {"RS\rET\r\n", 0, "CR, LF or NUL within"},
        {std::string("RSET\0\r\n", 7), 0, "CR, LF or NUL within"},
        {"RCPT TO:<" + std::string(1100, 'x') + "@c.test>\r\n", 0, "too long"},
        {"NOOP " + std::string(506, 'x') + "\r\n", 0, "too long"},
        {"Subject: SMUGGLED\r\n", 0, "no command"},
        {".\r\n", 0, "no command"},
        {"STARTTLS\r\n", 0, "a command that was not offered"},
        {"LHLO client.test\r\n", 0, "another protocol"},
        {"DATA\r\n", 1, "behind a command that ends a group"},
        {"EHLO client.test\r\n", 1, "behind a command that ends a group"},
        {"MAIL FROM:<a@b.test> AUTH=<>\r\n", 0, "a parameter that was not offered: AUTH=<>"},
        {"MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n", 0, "a parameter that was not offered: BODY=BINARYMIME"},
        {"RCPT TO:<a@b.test> SIZE=1\r\n", 0, "a parameter that was not offered: SIZE=1"},
        {"MAIL FROM:a@b.test\r\n", 0, "no path"},
        {"MAIL FROM:<\xC3\xBC@b.test>\r\n", 0, "without SMTPUTF8"},
        {"AUTH PLAIN x\r\n", 0, "not offered"},
    };
    for (const auto& row : rows) {
        Client client;
        client.check.command(row.line, row.behind);
        EXPECT_THAT(client.complaints(), testing::Contains(HasSubstr(row.complaint))) << row.line;
    }
}

TEST(WireCheck, WhatWasOfferedBeforeTlsCountsNoLonger) {
    Client client({"PIPELINING", "STARTTLS", "DSN", "AUTH PLAIN"});
    client.check.command("AUTH PLAIN AGEAYg==\r\n", 0);
    client.check.command("STARTTLS\r\n", 0);
    EXPECT_THAT(client.complaints(), IsEmpty());
    client.check.secured();
    client.check.command("MAIL FROM:<a@b.test>\r\n", 0);
    client.check.command("EHLO client.test\r\n", 0);
    client.check.offered({});
    client.check.command("MAIL FROM:<a@b.test> RET=FULL\r\n", 0);
    client.check.command("RCPT TO:<a@b.test>\r\n", 6);
    EXPECT_THAT(
        client.complaints(),
        ElementsAre(HasSubstr("before EHLO"), HasSubstr("RET=FULL"), HasSubstr("PIPELINING was not offered")));
}

TEST(WireCheck, ContentIsJudgedInEveryPieceAndAtEveryPlace) {
    const struct {
        std::string octets;
        const char* complaint;  // null: it is good
    } rows[] = {
        {"", nullptr},
        {"a\r\n..\r\nb\r\n", nullptr},
        {"a\nb\r\n", "bare"},
        {"a\rb\r\n", "bare"},
        {"a\r\r\n", "bare"},
        {"a\n", "bare"},
        {std::string("a\0b\r\n", 5), "NUL"},
        {".\n\r\n", "bare"},
        {".x\r\n", "not doubled"},
        {"a\r\n. \r\n", "not doubled"},
        {"a", "last line"},
        {std::string(998, 'x') + "\r\n." + "." + std::string(997, 'x') + "\r\n", nullptr},
        {std::string(999, 'x') + "\r\n", "998"},
        {".." + std::string(998, 'x') + "\r\n", "998"},
    };
    for (const auto& row : rows) {
        for (const std::size_t before : {0U, 40U, 61U, 62U, 63U, 64U, 65U, 130U}) {
            const std::string octets = before == 0 ? row.octets : std::string(before, 'y') + "\r\n" + row.octets;
            for (const std::size_t piece : {1U, 2U, 3U, 63U, 64U, 65U, 10'000U}) {
                const auto found = of_content(octets, Framing::dots, piece);
                if (row.complaint == nullptr) {
                    EXPECT_THAT(found, IsEmpty()) << row.octets << " after " << before << " by " << piece;
                } else {
                    EXPECT_THAT(found, testing::Contains(HasSubstr(row.complaint)))
                        << row.octets << " after " << before << " by " << piece;
                }
            }
        }
    }
}

TEST(WireCheck, ChunksHaveNoDotsToDouble) {
    EXPECT_THAT(of_content(".\r\n.x\r\n", Framing::chunk, 100), IsEmpty());
    EXPECT_THAT(of_content("a\nb\r\n", Framing::chunk, 100), ElementsAre(HasSubstr("bare")));
    Client binary({"CHUNKING", "BINARYMIME", "8BITMIME"});
    binary.check.command("MAIL FROM:<> BODY=BINARYMIME\r\n", 0);
    binary.check.content("a\nb", Framing::chunk);
    binary.check.end_of_content(Framing::chunk);
    EXPECT_THAT(binary.complaints(), IsEmpty());
}

TEST(WireCheck, NothingFollowsQuit) {
    Client client;
    client.check.command("QUIT\r\n", 6);
    client.check.ended(6);
    EXPECT_THAT(client.complaints(), testing::Contains("connection 7: octets behind QUIT"));
}

}  // namespace
}  // namespace sluice::peer
