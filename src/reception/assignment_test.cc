#include "reception/assignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/assignment.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::HasSubstr;

class Assignment : public testing::Test {
protected:
    Assignment() {
        bearer.submits = true;
        bearer.port = 587;
        bearer.auth_user = "alice@Acme.test";
        parts.envelope.recipients.push_back({{"b", "x.test"}, mail::notify_default, ""});
        parts.content = "X-Tenant: from header\r\nX-Class: urgent\r\nSubject: x\r\nX-Life: 2h\r\n\r\nbody\r\n";
    }
    void fields(std::string_view yaml) {
        Problems problems;
        settings.fields = policy::parse_assignments(yaml, "fields.yaml", problems);
        for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
        settings.kept_fields = settings.fields->kept;
    }
    mail::MessagePtr composed() {
        Parts copy = parts;
        auto message = compose(std::move(copy), bearer, MessageId{1}, Instant{}, settings);
        EXPECT_TRUE(message);
        return *message;
    }

    config::Settings settings = test_settings();
    Parts parts;
    Bearer bearer;
};

TEST_F(Assignment, TheFirstOriginThatSaysSomethingCounts) {
    fields("tenantid: [{header: X-None}, {header: X-Tenant}, {login: name}]\njobid: [{tenantid: {other: x}}, {login: domain}]\n"
           "transportid: {port: {587: submission}}\npriority: {header: X-Class, map: {urgent: 7}}\nlifetime: {header: X-Life}");
    const mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "from header");
    EXPECT_EQ(message->job, "acme.test");
    EXPECT_EQ(message->transport, "submission");
    EXPECT_EQ(message->priority, 7);
    EXPECT_EQ(message->lifetime, std::chrono::hours(2));
    EXPECT_THAT(message->content, HasSubstr("X-Tenant")) << "nobody asked to strip it";
}

TEST_F(Assignment, WhoMayNotRelayIsNotBelievedAndTheFieldGoesAllTheSame) {
    fields("tenantid: [{header: X-Tenant, strip: true}, {value: public}]\npriority: {header: X-Class, map: {urgent: 7}}\nkeep: [header.x-class]");
    bearer.submits = false;
    const mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "public");
    EXPECT_EQ(message->priority, 4);
    EXPECT_THAT(message->marks, IsEmpty());
    EXPECT_THAT(message->content, Not(HasSubstr("X-Tenant")));
    EXPECT_EQ(message->traits.header_size, message->content.find("body")) << "looked at again without it";
}

TEST_F(Assignment, TheBodyOfContentWithoutHeaderSaysNothingAndLosesNothing) {
    fields("tenantid: [{header: X-Tenant, strip: true}, {value: none}]");
    settings.connection.header_lines_max = 2;
    parts.content = "Dear all,\r\nX-Tenant: shop\r\nFrom: x\r\nFrom: y\r\n";
    bearer.strict_header = true;
    const mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "none");
    EXPECT_EQ(message->content, "\r\nDear all,\r\nX-Tenant: shop\r\nFrom: x\r\nFrom: y\r\n");
}

TEST_F(Assignment, WhatTheSenderSaysInSoManyWordsComesFirst) {
    fields("tenantid: {value: config}\njobid: {value: config}\npriority: {value: 1}\nlifetime: {value: 1d}");
    parts.tenant = "api";
    parts.priority = 6;
    parts.lifetime = std::chrono::seconds(5);
    mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "api");
    EXPECT_EQ(message->job, "config");
    EXPECT_EQ(message->priority, 6);
    EXPECT_EQ(message->lifetime.count(), 5);
    parts.priority.reset();
    parts.envelope.mt_priority = std::int8_t{-9};
    EXPECT_EQ(composed()->priority, 0);
    parts.envelope.mt_priority.reset();
    EXPECT_EQ(composed()->priority, 1);
}

TEST_F(Assignment, WhatMakesNoSenseSaysNothing) {
    fields("tenantid: [{header: X-Tenant}, {value: other}]\npriority: [{header: X-Class}, {value: 2}]\nlifetime: {header: X-Life}");
    parts.content = "X-Tenant: " + std::string(300, 't') + "\r\nX-Class: 8\r\nX-Life: -1\r\n\r\n";
    const mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "other");
    EXPECT_EQ(message->priority, 2);
    EXPECT_EQ(message->lifetime.count(), 0);
    parts.content = "X-Tenant: \xFF\xFE\r\nX-Class:\r\n\r\n";
    EXPECT_EQ(composed()->tenant, "other");
}

TEST_F(Assignment, NotesAndHeaderFieldsArePutAsideWhenSomebodyMayAskForThem) {
    fields("tenantid: {note: customer}\nkeep: [notes.stream, notes.deep, notes.count, header.subject, header.x-none]");
    parts.notes = R"({"customer":"acme","stream":"spring \"sale\"","deep":{"a":1},"count":17})";
    const mail::MessagePtr message = composed();
    EXPECT_EQ(message->tenant, "acme");
    const std::vector<mail::Mark> wanted{{"notes.stream", "spring \"sale\""}, {"notes.count", "17"}, {"header.subject", "x"}};
    EXPECT_EQ(message->marks, wanted);
    parts.notes = "not JSON";
    EXPECT_EQ(composed()->tenant, "");
}

TEST_F(Assignment, ALongTextIsCutBetweenCharacters) {
    fields("keep: [header.subject]");
    std::string subject = "a";
    for (int i = 0; i < 200; ++i) subject += "ü";
    parts.envelope.smtputf8 = true;
    parts.content = "Subject: " + subject + "\r\n\r\n";
    const std::string kept = composed()->marks.at(0).value;
    EXPECT_EQ(kept.size(), 255U);
    EXPECT_EQ(kept, subject.substr(0, 255));
}

TEST(MtPriority, NineteenBecomeEight) {
    EXPECT_EQ(priority_of(-9), 0);
    EXPECT_EQ(priority_of(-1), 3);
    EXPECT_EQ(priority_of(0), 4);
    EXPECT_EQ(priority_of(1), 5);
    EXPECT_EQ(priority_of(9), 7);
    for (std::int8_t i = -9; i < 9; ++i) EXPECT_LE(priority_of(i), priority_of(static_cast<std::int8_t>(i + 1)));
}

}  // namespace
}  // namespace sluice::reception
