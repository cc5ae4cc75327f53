#include "mail/dsn_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "mail/header.h"

namespace sluice::mail {
namespace {

using testing::HasSubstr;
using testing::Not;

DsnRequest sample() {
    auto message = std::make_shared<Message>();
    message->envelope.reverse_path = *parse_address("sender@origin.test");
    message->content = "Subject: <b>A & B</b>\r\n\r\nbody\r\n";
    message->traits = scan_content(message->content);
    RecipientReport report;
    report.recipient.address = *parse_address("user@dest.test");
    report.diagnostic = "550 5.1.1 <No> such user";
    RecipientReport other;
    other.recipient.address = *parse_address("other@dest.test");
    DsnRequest request;
    request.original = message;
    request.reports = {report, other};
    request.reporting_mta = "mx.test";
    request.id = MessageId{4711};
    request.wall_ms = 1795172040000;
    request.pid = "99";
    return request;
}

std::string field(const DsnWords& words, std::string_view name) {
    std::string all;
    for (const auto& [own, value] : words.fields) {
        if (iequals(own, name)) all += value + "|";
    }
    return all;
}

// Defect A8: an instance without template files got notifications without From, To, Subject and text.
TEST(DsnText, WithoutTemplatesEverythingIsThere_A8) {
    const DsnWords words = dsn_words(sample(), "sender@origin.test", false);
    for (const char* name : {"Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted"}) {
        EXPECT_NE(field(words, name), "") << name;
    }
    EXPECT_THAT(words.text, HasSubstr("<user@dest.test>: 550 5.1.1 <No> such user\r\n<other@dest.test>\r\n"));
    EXPECT_EQ(words.html, "");
}

TEST(DsnText, HaraksVariables) {
    DsnRequest request = sample();
    request.templates.text =
        "From: Postmaster <postmaster@{me}>\n"
        "To: {to}\n"
        "Subject: failure\n"
        " notice for {recipients}\n"
        "X-Ids: {pid} {msgid} {from} {date} {other} {} {me\n"
        "Content-Type: text/evil\n"
        "\n"
        "me={me} subject={subject} reason={reason}\n{extended_reason}\n";
    const DsnWords words = dsn_words(request, "sender@origin.test", true);
    const std::string msgid = "<" + MessageId{4711}.text() + "@mx.test>";
    EXPECT_EQ(field(words, "From"), "Postmaster <postmaster@mx.test>|");
    EXPECT_EQ(field(words, "To"), "<sender@origin.test>|");
    EXPECT_EQ(field(words, "Subject"), "failure notice for <user@dest.test>, <other@dest.test>|");
    EXPECT_EQ(field(words, "X-Ids"), "99 " + msgid + " <> " + rfc5322_date(1795172040000) + " ? {} {me|");
    EXPECT_EQ(field(words, "Message-ID"), msgid + "|");
    EXPECT_EQ(field(words, "Content-Type"), "");
    EXPECT_THAT(
        words.text, HasSubstr("me=mx.test subject=<b>A & B</b> reason=Error: 550 5.1.1 <No> such user\r\n")
    );
    EXPECT_THAT(words.text, HasSubstr("<user@dest.test>: 550 5.1.1 <No> such user\r\n<other@dest.test>\r\n"));
    EXPECT_THAT(words.text, HasSubstr("too large"));
}

TEST(DsnText, ValuesInHtmlAreEscaped) {
    DsnRequest request = sample();
    request.templates.html = "<p>{subject}</p>{extended_reason}\n";
    const DsnWords words = dsn_words(request, "sender@origin.test", false);
    EXPECT_THAT(
        words.html,
        HasSubstr("<p>&lt;b&gt;A &amp; B&lt;/b&gt;</p>&lt;user@dest.test&gt;: 550 5.1.1 &lt;No&gt;")
    );
    EXPECT_THAT(words.html, Not(HasSubstr("<b>")));
}

TEST(DsnText, HtmlAndImageMakeNestedParts) {
    DsnRequest request = sample();
    request.templates.html = "<img src=\"cid:logo\">\n";
    request.templates.image =
        "Content-Type: image/png\nContent-ID: <logo>\nContent-Transfer-Encoding: base64\n\naGk=\n";
    std::string content = compose_dsn(request).content;
    EXPECT_TRUE(is_clean_text(content));
    const std::string stem = "=_sluice_" + MessageId{4711}.text();
    EXPECT_THAT(
        content,
        HasSubstr("--" + stem + "c\r\nContent-Type: multipart/related; type=\"multipart/alternative\";")
    );
    EXPECT_THAT(content, HasSubstr("--" + stem + "a\r\nContent-Type: multipart/alternative;"));
    EXPECT_THAT(content, HasSubstr("--" + stem + "b\r\nContent-Type: text/html; charset=us-ascii\r\n"));
    EXPECT_THAT(content, HasSubstr("--" + stem + "a\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\n"));

    request.templates.image = "not a part";
    content = compose_dsn(request).content;
    EXPECT_THAT(content, Not(HasSubstr("multipart/related")));
    EXPECT_THAT(content, HasSubstr("multipart/alternative"));
}

TEST(DsnText, ATemplateWithoutHeaderIsAllText) {
    DsnRequest request = sample();
    request.templates.text = "Dear sender\n\nNo.\n";
    const DsnWords words = dsn_words(request, "sender@origin.test", false);
    EXPECT_EQ(words.text, "Dear sender\r\n\r\nNo.\r\n");
    EXPECT_EQ(field(words, "Subject"), "Undelivered mail returned to sender|");
}

TEST(DsnText, TenThousandRecipientsAreNotAllSpelledOut) {
    DsnRequest request = sample();
    request.reports.resize(10000, request.reports.front());
    EXPECT_LT(dsn_words(request, "sender@origin.test", false).text.size(), 20000U);
}

}  // namespace
}  // namespace sluice::mail
