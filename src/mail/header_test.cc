#include "mail/header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "base/text.h"

namespace sluice::mail {
namespace {

using testing::ElementsAre;

std::vector<std::string> names_of(std::string_view content) {
    std::vector<std::string> names;
    HeaderReader reader(content);
    while (const auto field = reader.next())
        names.emplace_back(field->name);
    return names;
}

TEST(Header, ReadsFieldsAndStopsAtTheEmptyLine_F5322_03) {
    EXPECT_THAT(names_of("A: 1\r\nB : 2\r\n 3\r\n\t4\r\nC:\r\n\r\nD: 5\r\n"), ElementsAre("A", "B", "C"));
    EXPECT_THAT(names_of("A: 1\nB: 2\n\nC: 3\n"), ElementsAre("A", "B"));
    EXPECT_THAT(names_of("\r\nA: 1\r\n"), ElementsAre());
    EXPECT_THAT(names_of(""), ElementsAre());
    EXPECT_THAT(names_of("A: 1"), ElementsAre("A"));
    EXPECT_THAT(names_of("From someone Mon Jan 1\r\nA: 1\r\n"), ElementsAre("", "A"));
    EXPECT_THAT(names_of("no colon here\r\nA: 1\r\n"), ElementsAre("", "A"));
    EXPECT_THAT(names_of(" folded from nothing: x\r\nA: 1\r\n"), ElementsAre("", "A"));
    EXPECT_THAT(names_of(": nameless\r\nA: 1\r\n"), ElementsAre("", "A"));
}

TEST(Header, FindsAndUnfolds) {
    constexpr std::string_view content =
        "X: y\r\nSubject: a\r\n b\r\n\tc \r\nSUBJECT: second\r\n\r\nSubject: body\r\n";
    EXPECT_EQ(unfolded(find_field(content, "subject")->value), "a b\tc");
    EXPECT_EQ(find_field(content, "subject")->raw, "Subject: a\r\n b\r\n\tc \r\n");
    EXPECT_EQ(count_fields(content, "subject"), 2U);
    EXPECT_FALSE(find_field(content, "Sub"));
    EXPECT_EQ(header_section_size(content), content.size() - std::string_view("Subject: body\r\n").size());
    EXPECT_EQ(unfolded(" a\x01\r\n\x1B[31m "), "a  [31m");
}

TEST(Header, CountsReceivedForLoopDetection_S5321_12) {
    std::string content;
    for (int i = 0; i < 101; ++i)
        content += "Received: from a\r\n\tby b; now\r\n";
    EXPECT_EQ(count_fields(content + "\r\nReceived: not this\r\n", "Received"), 101U);
}

TEST(Header, RemovesReturnPathAndNothingElse_S5321_16) {
    std::string content =
        "A: 1\r\nReturn-Path: <x@y>\r\n\t(folded)\r\nB: 2\r\nreturn-path: z\r\n\r\nReturn-Path: body\r\n";
    EXPECT_TRUE(remove_fields(content, "Return-Path"));
    EXPECT_EQ(content, "A: 1\r\nB: 2\r\n\r\nReturn-Path: body\r\n");
    EXPECT_FALSE(remove_fields(content, "Return-Path"));
    EXPECT_EQ(content, "A: 1\r\nB: 2\r\n\r\nReturn-Path: body\r\n");
}

TEST(Received, SaysWithWhatByRfc3848And6531_S5321_11) {
    const auto word = [](bool extended, bool lmtp, bool tls, bool authenticated, bool utf8) {
        return ReceivedWith{extended, lmtp, tls, authenticated, utf8}.keyword();
    };
    EXPECT_EQ(word(false, false, false, false, false), "SMTP");
    EXPECT_EQ(word(true, false, false, false, false), "ESMTP");
    EXPECT_EQ(word(true, false, true, false, false), "ESMTPS");
    EXPECT_EQ(word(true, false, false, true, false), "ESMTPA");
    EXPECT_EQ(word(true, false, true, true, false), "ESMTPSA");
    EXPECT_EQ(word(true, false, true, true, true), "UTF8SMTPSA");
    EXPECT_EQ(word(true, false, false, false, true), "UTF8SMTP");
    EXPECT_EQ(word(true, true, false, false, false), "LMTP");
    EXPECT_EQ(word(true, true, true, true, true), "UTF8LMTPSA");
}

ReceivedTrace sample_trace() {
    ReceivedTrace trace;
    trace.helo = "client.test";
    trace.client_ip = "192.0.2.1";
    trace.rdns = "host.client.test";
    trace.by = "mx.test";
    trace.with = "ESMTPS";
    trace.id = "0123456789ABC";
    trace.tls = "TLSv1.3 TLS_AES_256_GCM_SHA384";
    trace.wall_ms = 1795172040000;
    return trace;
}

TEST(Received, TellsWhereTheMessageCameFrom_S5321_11) {
    ReceivedTrace trace = sample_trace();
    EXPECT_EQ(
        format_received(trace),
        "Received: from client.test (host.client.test [192.0.2.1])\r\n"
        "\tby mx.test (Sluice) with ESMTPS id 0123456789ABC\r\n"
        "\t(TLSv1.3 TLS_AES_256_GCM_SHA384);\r\n\t" +
            rfc5322_date(1795172040000) + "\r\n"
    );
    const Address only = *parse_address("b@bücher.example");
    trace.only_recipient = &only;
    trace.client_ip = "2001:db8::1";
    const std::string field = format_received(trace);
    EXPECT_THAT(field, testing::HasSubstr("\r\n\tfor <b@xn--bcher-kva.example>;\r\n"));
    EXPECT_THAT(field, testing::HasSubstr("[IPv6:2001:db8::1]"));
    EXPECT_THAT(rfc5322_date(1795172040000), testing::EndsWith("+0000"));
}

TEST(Received, HostileWordsCannotAddLinesOrComments_F5322_02) {
    const std::string hostile = "x\r\nBcc: z@y\r\n\r\n(((" + std::string(5000, 'a');
    ReceivedTrace trace = sample_trace();
    trace.helo = hostile;
    trace.rdns = hostile;
    trace.tls = hostile;
    const std::string field = format_received(trace);
    EXPECT_EQ(names_of(field + "\r\n"), std::vector<std::string>{"Received"});
    EXPECT_EQ(field.find("(("), std::string::npos);
    EXPECT_LE(scan_content(field).line_max, 998U);
    EXPECT_TRUE(is_clean_text(field));
}

TEST(Header, GeneratesDateAndMessageId_F5322_01) {
    EXPECT_EQ(format_date_field(1795172040000), "Date: " + rfc5322_date(1795172040000) + "\r\n");
    const MessageId id{12345};
    EXPECT_EQ(format_message_id_field(id, "mx.test"), "Message-ID: <" + id.text() + "@mx.test>\r\n");
}

TEST(Header, HugeHeadersTakeLinearTime_F5322_05_DoS_3) {
    std::string content;
    for (int i = 0; i < 200000; ++i)
        content += "X: y\r\n";
    content += "To: a@b.test\r\n";
    for (int i = 0; i < 100000; ++i)
        content += ",\r\n a@b.test";
    content += "\r\n\r\nbody\r\n";
    EXPECT_EQ(count_fields(content, "X"), 200000U);
    EXPECT_TRUE(remove_fields(content, "X"));
    EXPECT_EQ(count_fields(content, "To"), 1U);
}

TEST(Header, AnyOctetsAreReadWithoutHarmAndAddUp) {
    Random random(3);
    constexpr std::string_view alphabet("A:\r\n \t\0\xFF", 8);
    for (int round = 0; round < 5000; ++round) {
        std::string content;
        const std::size_t size = random.below(40);
        for (std::size_t i = 0; i < size; ++i)
            content.push_back(alphabet[random.below(alphabet.size())]);
        std::size_t sum = 0;
        HeaderReader reader(content);
        while (const auto field = reader.next())
            sum += field->raw.size();
        EXPECT_LE(sum, header_section_size(content));
    }
}

}  // namespace
}  // namespace sluice::mail
