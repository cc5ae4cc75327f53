#include <gtest/gtest.h>

#include "base/text.h"
#include "smtp/command.h"

namespace sluice::smtp {
namespace {

Extensions everything() {
    Extensions all;
    all.size = all.eight_bit_mime = all.smtputf8 = all.chunking = all.dsn = true;
    return all;
}

mail::Envelope sample() {
    mail::Envelope envelope;
    envelope.reverse_path = *mail::parse_address("a@bücher.example");
    envelope.ret = mail::Return::headers;
    envelope.envid = "x+2By";
    envelope.body = mail::BodyType::eight_bit_mime;
    mail::Recipient recipient;
    recipient.address = *mail::parse_address("\"b c\"@x.test");
    recipient.notify = mail::notify_success | mail::notify_delay;
    recipient.orcpt = "rfc822;b+2Bc@x.test";
    envelope.recipients.push_back(recipient);
    return envelope;
}

TEST(CommandFormat, ParametersGoOnlyToPeersThatKnowThem_DS_03_8B_3_EA_3) {
    const mail::Envelope envelope = sample();
    EXPECT_EQ(format_mail(envelope, 99, false, {}), "MAIL FROM:<a@xn--bcher-kva.example>\r\n");
    EXPECT_EQ(
        format_mail(envelope, 99, true, everything()),
        "MAIL FROM:<a@bücher.example> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By\r\n"
    );
    EXPECT_EQ(
        format_mail(envelope, 99, false, everything()),
        "MAIL FROM:<a@xn--bcher-kva.example> SIZE=99 BODY=8BITMIME RET=HDRS ENVID=x+2By\r\n"
    );
    const mail::Recipient& recipient = envelope.recipients.front();
    EXPECT_EQ(format_rcpt(recipient, false, {}), "RCPT TO:<\"b c\"@x.test>\r\n");
    EXPECT_EQ(
        format_rcpt(recipient, false, everything()),
        "RCPT TO:<\"b c\"@x.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@x.test\r\n"
    );
}

TEST(CommandFormat, APriorityGoesOnToWhoOffersIt) {
    mail::Envelope envelope;
    envelope.mt_priority = std::int8_t{-3};
    Extensions offered;
    EXPECT_EQ(format_mail(envelope, 1, false, offered), "MAIL FROM:<>\r\n");
    offered.mt_priority = true;
    EXPECT_EQ(format_mail(envelope, 1, false, offered), "MAIL FROM:<> MT-PRIORITY=-3\r\n");
    envelope.mt_priority.reset();
    EXPECT_EQ(format_mail(envelope, 1, false, offered), "MAIL FROM:<>\r\n");
}

TEST(CommandFormat, NullPathAndOthers) {
    EXPECT_EQ(format_mail({}, 1, false, {}), "MAIL FROM:<>\r\n");
    EXPECT_EQ(format_hello(Verb::ehlo, "mx.test"), "EHLO mx.test\r\n");
    EXPECT_EQ(format_bdat(5, true), "BDAT 5 LAST\r\n");
    EXPECT_EQ(format_bdat(0, false), "BDAT 0\r\n");
}

TEST(CommandFormat, ANameForEhloIsOneWord) {
    EXPECT_TRUE(is_hello_name("mx.test"));
    EXPECT_TRUE(is_hello_name("[IPv6:2001:db8::1]"));
    EXPECT_TRUE(is_hello_name(std::string(255, 'x')));
    for (const std::string& none : {std::string(), std::string("a b"), std::string("a\r\nRSET"), std::string("a\nb"), std::string("a\0b", 3),
                                    std::string("\x7F"), std::string("b\xC3\xBC"), std::string(256, 'x')}) {
        EXPECT_FALSE(is_hello_name(none)) << none;
    }
}

TEST(CommandFormat, WhatTheClientSaysTheServerUnderstands) {
    const mail::Envelope envelope = sample();
    const Extensions offered = everything();
    const CommandSyntax syntax{&offered, true};
    std::string line = format_mail(envelope, 99, true, offered);
    const auto mail = parse_command(std::string_view(line).substr(0, line.size() - 2), syntax);
    ASSERT_TRUE(mail);
    EXPECT_EQ(mail->as<MailFrom>().reverse_path, envelope.reverse_path);
    EXPECT_EQ(mail->as<MailFrom>().envid, envelope.envid);
    line = format_rcpt(envelope.recipients.front(), true, offered);
    const auto rcpt = parse_command(std::string_view(line).substr(0, line.size() - 2), syntax);
    ASSERT_TRUE(rcpt);
    EXPECT_EQ(rcpt->as<RcptTo>().recipient, envelope.recipients.front());
}

// All lines that come out of `bytes` fed in pieces, e.g. "line:NOOP too_long: unclean:a".
std::string lines_of(std::string_view bytes, std::size_t piece_size, std::size_t octets_max) {
    std::string out;
    CommandLines lines;
    while (!bytes.empty()) {
        std::string_view piece = bytes.substr(0, piece_size);
        bytes.remove_prefix(piece.size());
        while (const auto line = lines.next(piece, octets_max)) {
            constexpr std::string_view names[] = {"line:", "too_long:", "unclean:"};
            out.append(names[static_cast<std::size_t>(line->kind)]).append(printable(line->text)).append(" ");
        }
    }
    return out;
}

TEST(CommandLines, CutAtEveryReadSize_S5321_07_PL_2) {
    using namespace std::string_view_literals;
    const std::string longest = "NOOP " + std::string(505, 'x');
    const std::string too_long = "NOOP " + std::string(506, 'x');
    const std::string huge = "NOOP " + std::string(100000, 'x');
    const std::pair<std::string, std::string> table[] = {
        {"NOOP\r\nQUIT\r\n", "line:NOOP line:QUIT "},
        {"\r\n\r\n", "line: line: "},
        {"NOOP", ""},
        {longest + "\r\nQUIT\r\n", "line:" + longest + " line:QUIT "},
        {too_long + "\r\nQUIT\r\n", "too_long: line:QUIT "},
        {huge + "\r\nQUIT\r\n", "too_long: line:QUIT "},
        {huge + "\nMAIL FROM:<>\r\nQUIT\r\n", "too_long: line:QUIT "},
        {"NOOP\nQUIT\r\n", "unclean:NOOP line:QUIT "},
        {"NO\rOP\r\nQUIT\r\n", "unclean:NO" + printable("\r") + "OP line:QUIT "},
        {std::string("NO\0OP\r\n"sv), "unclean:NO" + printable("\0"sv) + "OP "},
        {"NOOP\r\r\n", "unclean:NOOP" + printable("\r") + " "},
    };
    for (const auto& [bytes, expected] : table) {
        for (const std::size_t size : {1UL, 2UL, 3UL, 7UL, 64UL, 1UL << 20}) {
            EXPECT_EQ(lines_of(bytes, size, 512), expected)
                << printable(bytes.substr(0, 80)) << " by " << size;
        }
    }
}

TEST(CommandLines, LimitGrowsWithTheExtensions_S5321_07) {
    EXPECT_EQ(command_line_max({}), 512U);
    EXPECT_GE(command_line_max(everything()), 512U + 26 + 10 + 500);
    Extensions with_auth;
    with_auth.auth = {"PLAIN"};
    EXPECT_EQ(command_line_max(with_auth), 12288U);
}

}  // namespace
}  // namespace sluice::smtp
