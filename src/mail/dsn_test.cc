#include "mail/dsn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/text.h"
#include "mail/header.h"

namespace sluice::mail {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::int64_t now_ms = 1795172040000;

Message sample_message() {
    Message message;
    message.id = MessageId{42};
    message.arrival = instant_from_ms(now_ms - 60000);
    message.envelope.reverse_path = *parse_address("sender@origin.test");
    message.trace = "Received: by mx.test; now\r\n";
    message.content =
        "From: a@b.test\r\nSubject: The subject\r\nMessage-ID: <m1@origin.test>\r\n\r\nThe body.\r\n";
    return message;
}

RecipientReport sample_report(std::string_view address = "user@dest.test") {
    RecipientReport report;
    report.recipient.address = *parse_address(address);
    report.remote_mta = "mx.dest.test";
    report.diagnostic = "550 5.1.1 No such user";
    report.last_attempt_ms = now_ms;
    return report;
}

DsnRequest request_for(Message message, std::vector<RecipientReport> reports) {
    message.traits = with_trace(scan_content(message.content), message.trace);
    DsnRequest request;
    request.original = std::make_shared<const Message>(std::move(message));
    request.reports = std::move(reports);
    request.reporting_mta = "mx.test";
    request.id = MessageId{4711};
    request.wall_ms = now_ms;
    request.arrival_wall_ms = now_ms - 60000;
    request.full_size_max = 10000;
    request.pid = "99";
    return request;
}

std::string field_of(std::string_view content, std::string_view name) {
    const auto field = find_field(content, name);
    return field ? unfolded(field->value) : "(none)";
}

// The entities between the boundaries of a multipart, each with its own header.
std::vector<std::string> parts_of(std::string_view entity) {
    const std::string type = field_of(entity, "Content-Type");
    const std::size_t at = type.find("boundary=\"");
    EXPECT_NE(at, std::string::npos) << type;
    const std::string boundary = type.substr(at + 10, type.find('"', at + 10) - at - 10);
    const std::string opening = "--" + boundary + "\r\n";
    const std::string closing = "--" + boundary + "--\r\n";
    EXPECT_TRUE(entity.ends_with(closing));
    std::vector<std::string> parts;
    std::string_view rest = entity.substr(header_section_size(entity));
    rest.remove_suffix(closing.size());
    while (rest.starts_with(opening)) {
        rest.remove_prefix(opening.size());
        const std::size_t end = std::min(rest.find(opening), rest.size());
        EXPECT_EQ(rest.substr(end - 2, 2), "\r\n");  // belongs to the boundary
        parts.emplace_back(rest.substr(0, end - 2));
        rest.remove_prefix(end);
    }
    EXPECT_TRUE(rest.empty());
    return parts;
}

std::string body_of(std::string_view entity) {
    return std::string(entity.substr(header_section_size(entity)));
}

// The groups of fields of a delivery-status part: first the message's, then one per recipient.
std::vector<std::string> groups_of(std::string_view status_part) {
    std::vector<std::string> groups;
    std::string rest = body_of(status_part);
    while (!rest.empty()) {
        const std::size_t size = header_section_size(rest);
        groups.push_back(rest.substr(0, size));
        rest.erase(0, size);
    }
    return groups;
}

TEST(Dsn, HasTheThreePartsOfAReport_DS_05_DS_10) {
    const Dsn dsn = compose_dsn(request_for(sample_message(), {sample_report()}));
    EXPECT_TRUE(dsn.envelope.reverse_path.is_null());
    ASSERT_EQ(dsn.envelope.recipients.size(), 1U);
    EXPECT_EQ(dsn.envelope.recipients[0].address.text(), "sender@origin.test");
    EXPECT_EQ(dsn.envelope.recipients[0].notify, notify_default);

    EXPECT_TRUE(is_clean_text(dsn.content));
    EXPECT_TRUE(is_ascii(dsn.content));
    EXPECT_EQ(field_of(dsn.content, "From"), "Mail Delivery System <MAILER-DAEMON@mx.test>");
    EXPECT_EQ(field_of(dsn.content, "To"), "<sender@origin.test>");
    EXPECT_EQ(field_of(dsn.content, "Subject"), "Undelivered mail returned to sender");
    EXPECT_EQ(field_of(dsn.content, "Auto-Submitted"), "auto-replied");
    EXPECT_EQ(field_of(dsn.content, "Message-ID"), "<" + MessageId{4711}.text() + "@mx.test>");
    EXPECT_EQ(field_of(dsn.content, "Date"), rfc5322_date(now_ms));
    EXPECT_EQ(field_of(dsn.content, "References"), "<m1@origin.test>");
    EXPECT_EQ(field_of(dsn.content, "MIME-Version"), "1.0");
    EXPECT_THAT(
        field_of(dsn.content, "Content-Type"), StartsWith("multipart/report; report-type=delivery-status;")
    );

    const auto parts = parts_of(dsn.content);
    ASSERT_EQ(parts.size(), 3U);
    EXPECT_EQ(field_of(parts[0], "Content-Type"), "text/plain; charset=us-ascii");
    EXPECT_THAT(body_of(parts[0]), HasSubstr("<user@dest.test>: 550 5.1.1 No such user"));
    EXPECT_THAT(body_of(parts[0]), HasSubstr("Subject: The subject"));
    EXPECT_EQ(field_of(parts[1], "Content-Type"), "message/delivery-status");
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "text/rfc822-headers");
    EXPECT_THAT(body_of(parts[2]), StartsWith("Received: by mx.test"));
    EXPECT_THAT(body_of(parts[2]), Not(HasSubstr("The body.")));
}

TEST(Dsn, StatusFieldsAreComplete_DS_06_A7) {
    Message message = sample_message();
    message.envelope.envid = "env+2B1";
    RecipientReport failed = sample_report();
    failed.recipient.orcpt = "rfc822;user+2Btag@first.test";
    RecipientReport local = sample_report("other@dest.test");
    local.remote_mta.clear();
    local.diagnostic.clear();
    local.last_attempt_ms.reset();
    local.status = "5.4.6";
    local.reason = "The route leads back to this host";
    RecipientReport nothing;
    nothing.recipient.address = *parse_address("third@dest.test");
    const Dsn dsn = compose_dsn(request_for(message, {failed, local, nothing}));
    const auto groups = groups_of(parts_of(dsn.content)[1]);
    ASSERT_EQ(groups.size(), 4U);
    EXPECT_EQ(field_of(groups[0], "Reporting-MTA"), "dns; mx.test");
    EXPECT_EQ(field_of(groups[0], "Arrival-Date"), rfc5322_date(now_ms - 60000));
    EXPECT_EQ(field_of(groups[0], "Original-Envelope-Id"), "env+1");
    EXPECT_EQ(field_of(groups[1], "Final-Recipient"), "rfc822; user@dest.test");
    EXPECT_EQ(field_of(groups[1], "Original-Recipient"), "rfc822; user+tag@first.test");
    EXPECT_EQ(field_of(groups[1], "Action"), "failed");
    EXPECT_EQ(field_of(groups[1], "Status"), "5.1.1");
    EXPECT_EQ(field_of(groups[1], "Remote-MTA"), "dns; mx.dest.test");
    EXPECT_EQ(field_of(groups[1], "Diagnostic-Code"), "smtp; 550 5.1.1 No such user");
    EXPECT_EQ(field_of(groups[1], "Last-Attempt-Date"), rfc5322_date(now_ms));
    EXPECT_EQ(field_of(groups[1], "Will-Retry-Until"), "(none)");
    EXPECT_EQ(field_of(groups[2], "Status"), "5.4.6");
    EXPECT_EQ(field_of(groups[2], "Diagnostic-Code"), "(none)");
    EXPECT_EQ(field_of(groups[2], "Original-Recipient"), "(none)");
    EXPECT_EQ(field_of(groups[3], "Action"), "failed");
    EXPECT_EQ(field_of(groups[3], "Status"), "5.0.0");
    EXPECT_EQ(
        field_of(
            groups_of(parts_of(compose_dsn(request_for(sample_message(), {nothing})).content)[1])[0],
            "Original-Envelope-Id"
        ),
        "(none)"
    );
}

TEST(Dsn, StatusFollowsPeerAndAction_DS_07) {
    struct Row {
        DsnAction action;
        std::string status;
        std::string diagnostic;
        std::string expected;
    };
    const Row table[] = {
        {DsnAction::failed, "", "550 5.7.26 no", "5.7.26"},
        {DsnAction::failed, "", "550 no", "5.0.0"},
        {DsnAction::failed, "", "550", "5.0.0"},
        {DsnAction::failed, "", "550-5.1.1 No such user\r\n550 5.1.1 here", "5.1.1"},
        {DsnAction::failed, "", "550 4.2.1 contradiction", "5.2.1"},
        {DsnAction::failed, "4.4.7", "451 4.7.1 greylisted", "4.4.7"},
        {DsnAction::failed, "5.1.2", "", "5.1.2"},
        {DsnAction::failed, "", "550 5.7.1000 no", "5.0.0"},
        {DsnAction::failed, "junk", "", "5.0.0"},
        {DsnAction::delayed, "", "451 4.7.1 greylisted", "4.7.1"},
        {DsnAction::delayed, "", "", "4.0.0"},
        {DsnAction::relayed, "", "250 2.1.5 ok", "2.1.5"},
        {DsnAction::relayed, "", "250 ok", "2.0.0"},
        {DsnAction::delivered, "", "", "2.0.0"},
        {DsnAction::expanded, "", "", "2.0.0"},
    };
    for (const Row& row : table) {
        RecipientReport report;
        report.action = row.action;
        report.status = row.status;
        report.diagnostic = row.diagnostic;
        EXPECT_EQ(dsn_status(report), row.expected) << row.status << " / " << row.diagnostic;
    }
}

TEST(Dsn, WhoIsTold_DS_02_DS_03_DS_04_AU_S2) {
    Envelope envelope;
    Recipient recipient;
    EXPECT_FALSE(deserves_dsn(envelope, recipient, DsnAction::failed, true)) << "null reverse-path";
    envelope.reverse_path = *parse_address("a@b.test");
    const auto told = [&](int notify, DsnAction action, bool report_delays) {
        recipient.notify = static_cast<std::uint8_t>(notify);
        return deserves_dsn(envelope, recipient, action, report_delays);
    };
    EXPECT_TRUE(told(notify_default, DsnAction::failed, false));
    EXPECT_FALSE(told(notify_default, DsnAction::delayed, false));
    EXPECT_TRUE(told(notify_default, DsnAction::delayed, true));
    EXPECT_FALSE(told(notify_default, DsnAction::relayed, true));
    EXPECT_FALSE(told(notify_never, DsnAction::failed, true));
    EXPECT_FALSE(told(notify_never, DsnAction::delayed, true));
    EXPECT_TRUE(told(notify_failure, DsnAction::failed, false));
    EXPECT_FALSE(told(notify_failure, DsnAction::delayed, true));
    EXPECT_FALSE(told(notify_success, DsnAction::failed, true));
    EXPECT_TRUE(told(notify_delay, DsnAction::delayed, false));
    EXPECT_TRUE(told(notify_success, DsnAction::relayed, false));
    EXPECT_TRUE(told(notify_success | notify_failure, DsnAction::delivered, false));
    EXPECT_TRUE(told(notify_success, DsnAction::expanded, false));
}

TEST(Dsn, ReturnsTheMessageOnlyWhenAskedAndSmall_DS_05_DS_12) {
    Message message = sample_message();
    message.envelope.ret = Return::full;
    DsnRequest request = request_for(message, {sample_report()});
    auto parts = parts_of(compose_dsn(request).content);
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "message/rfc822");
    EXPECT_EQ(body_of(parts[2]), message.trace + message.content);

    request.full_size_max = message.size() - 1;
    parts = parts_of(compose_dsn(request).content);
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "text/rfc822-headers");
    EXPECT_THAT(body_of(parts[0]), HasSubstr("too large to be returned"));

    request = request_for(message, {sample_report()});
    request.reports[0].action = DsnAction::delayed;
    request.reports[0].will_retry_until_ms = now_ms + 1000;
    const Dsn delayed = compose_dsn(request);
    parts = parts_of(delayed.content);
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "text/rfc822-headers");
    EXPECT_EQ(field_of(delayed.content, "Subject"), "Delayed mail, still being retried");
    EXPECT_EQ(field_of(groups_of(parts[1])[1], "Will-Retry-Until"), rfc5322_date(now_ms + 1000));
    EXPECT_THAT(body_of(parts[0]), Not(HasSubstr("too large")));

    message.content += "bare\rCR\r\n";
    EXPECT_EQ(
        field_of(parts_of(compose_dsn(request_for(message, {sample_report()})).content)[2], "Content-Type"),
        "text/rfc822-headers"
    );
}

TEST(Dsn, HostileTextAddsNothing_DS_08) {
    const std::string hostile[] = {
        "550 5.1.1 x\r\nFinal-Recipient: rfc822; victim@x.test\r\n\r\nAction: delivered",
        "550 x\n\n--=_sluice_" + MessageId{4711}.text() + "c--\n",
        "550 \0\x01\x1B[31m\xFF\xFE"s,
        "550 Gr\xC3\xBC\xC3\x9F"
        "e; \xE2\x80\xA8 x"s,
        "550 " + std::string(10000, 'x'),
        "550 " + std::string(10000, '\xF6'),
        std::string("\r\n\r\n.\r\nQUIT\r\n"),
    };
    for (const std::string& text : hostile) {
        Message message = sample_message();
        message.envelope.envid = "x+0D+0AInjected:+20y";
        message.content = "Subject: " + text + "\r\n\r\nbody\r\n";
        RecipientReport report = sample_report();
        report.diagnostic = report.reason = report.remote_mta = text;
        report.recipient.orcpt = "rfc822;a+0D+0AInjected:+20y";
        DsnRequest request = request_for(message, {report});
        request.reporting_mta = "mx.test\r\nInjected: y";
        request.templates.text =
            "Subject: {reason} {subject}\nFrom: x{me}\n\n{extended_reason}\n{nonsense} {reason}\n";
        const Dsn dsn = compose_dsn(request);
        ASSERT_TRUE(is_clean_text(dsn.content)) << printable(text);
        EXPECT_TRUE(is_ascii(dsn.content)) << printable(text);
        EXPECT_LE(scan_content(dsn.content).line_max, 998U);
        EXPECT_EQ(count_fields(dsn.content, "Injected"), 0U);
        EXPECT_EQ(count_fields(dsn.content, "Subject"), 1U);
        const auto parts = parts_of(dsn.content);
        ASSERT_EQ(parts.size(), 3U) << printable(text);
        const auto groups = groups_of(parts[1]);
        ASSERT_EQ(groups.size(), 2U) << printable(text);
        EXPECT_EQ(count_fields(groups[0], "Injected") + count_fields(groups[1], "Injected"), 0U);
        EXPECT_EQ(count_fields(groups[1], "Final-Recipient"), 1U);
        EXPECT_EQ(field_of(groups[1], "Final-Recipient"), "rfc822; user@dest.test");
        EXPECT_EQ(field_of(groups[1], "Action"), "failed");
    }
}

TEST(Dsn, PureAsciiForAsciiSenders_DS_13) {
    Message message = sample_message();
    message.envelope.smtputf8 = true;
    message.content = "Subject: Grüße\r\n\r\nbody\r\n";
    RecipientReport report = sample_report("jörg@bücher.example");
    report.diagnostic = "550 5.1.1 Unbekannter Empfänger";
    Dsn dsn = compose_dsn(request_for(message, {report}));
    EXPECT_TRUE(is_ascii(dsn.content));
    EXPECT_FALSE(dsn.envelope.smtputf8);
    auto parts = parts_of(dsn.content);
    EXPECT_EQ(field_of(groups_of(parts[1])[1], "Final-Recipient"), "utf-8; j\\x{F6}rg@b\\x{FC}cher.example");
    EXPECT_EQ(
        field_of(groups_of(parts[1])[1], "Diagnostic-Code"), "smtp; 550 5.1.1 Unbekannter Empf\\x{E4}nger"
    );
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "message/global-headers");
    EXPECT_EQ(field_of(parts[2], "Content-Transfer-Encoding"), "quoted-printable");
    EXPECT_EQ(field_of(parts[0], "Content-Type"), "text/plain; charset=utf-8");

    message.envelope.ret = Return::full;
    dsn = compose_dsn(request_for(message, {report}));
    EXPECT_TRUE(is_ascii(dsn.content));
    EXPECT_EQ(field_of(parts_of(dsn.content)[2], "Content-Type"), "message/global");
}

TEST(Dsn, Utf8FormsForSendersWhoNeedThem_DS_13) {
    Message message = sample_message();
    message.envelope.smtputf8 = true;
    message.envelope.reverse_path = *parse_address("sénder@bücher.example");
    message.content = "Subject: Grüße\r\n\r\nbody\r\n";
    const Dsn dsn = compose_dsn(request_for(message, {sample_report("jörg@bücher.example")}));
    EXPECT_TRUE(dsn.envelope.smtputf8);
    EXPECT_EQ(dsn.envelope.body, BodyType::eight_bit_mime);
    EXPECT_EQ(field_of(dsn.content, "To"), "<sénder@bücher.example>");
    const auto parts = parts_of(dsn.content);
    EXPECT_EQ(field_of(parts[1], "Content-Type"), "message/global-delivery-status");
    EXPECT_EQ(field_of(groups_of(parts[1])[1], "Final-Recipient"), "utf-8; jörg@bücher.example");
    EXPECT_EQ(field_of(parts[2], "Content-Type"), "message/global-headers");
    EXPECT_THAT(body_of(parts[2]), HasSubstr("Subject: Grüße\r\n"));
}

TEST(Dsn, EightBitBodiesNeedEightBitMimeOnly_8B_1) {
    Message message = sample_message();
    message.envelope.ret = Return::full;
    message.content += "Grüße\r\n";
    const Dsn dsn = compose_dsn(request_for(message, {sample_report()}));
    EXPECT_FALSE(dsn.envelope.smtputf8);
    EXPECT_EQ(dsn.envelope.body, BodyType::eight_bit_mime);
    EXPECT_EQ(field_of(dsn.content, "Content-Transfer-Encoding"), "8bit");
    EXPECT_FALSE(scan_content(dsn.content).has_8bit_header);
}

TEST(Dsn, TheOriginalMayContainOurBoundary) {
    Message message = sample_message();
    message.envelope.ret = Return::full;
    const std::string boundary = "=_sluice_" + MessageId{4711}.text() + "c";
    message.content += "--" + boundary + "\r\n--" + boundary + "_1--\r\n";
    const auto parts = parts_of(compose_dsn(request_for(message, {sample_report()})).content);
    ASSERT_EQ(parts.size(), 3U);
    EXPECT_EQ(body_of(parts[2]), message.trace + message.content);
}

TEST(Dsn, SuccessIsReportedOnRequest_DS_03) {
    RecipientReport report = sample_report();
    report.action = DsnAction::relayed;
    report.diagnostic = "250 2.0.0 accepted";
    const Dsn dsn = compose_dsn(request_for(sample_message(), {report, report}));
    EXPECT_EQ(field_of(dsn.content, "Subject"), "Mail delivery report");
    const auto groups = groups_of(parts_of(dsn.content)[1]);
    ASSERT_EQ(groups.size(), 3U);
    EXPECT_EQ(field_of(groups[1], "Action"), "relayed");
    EXPECT_EQ(field_of(groups[1], "Status"), "2.0.0");
}

}  // namespace
}  // namespace sluice::mail
