#include "reception/injection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Injection simple() {
    Injection injection;
    injection.reverse_path = "a@sender.test";
    injection.recipients = {"b@example.test"};
    injection.content = "From: a@sender.test\n\nhello\n";
    return injection;
}

struct Injected {
    mail::MessagePtr message;
    std::vector<FieldError> errors;
};

Injected inject(Injection injection, const config::Settings& settings = test_settings()) {
    TestWorld world;
    auto made = make_message(std::move(injection), settings, world.clock, world.ids);
    if (made) return {std::move(*made), {}};
    return {nullptr, made.error()};
}

std::vector<std::string> bad_fields(const Injected& injected) {
    std::vector<std::string> fields;
    for (const FieldError& error : injected.errors) fields.push_back(error.field);
    return fields;
}

TEST(Injection, MakesACompleteMessage) {
    const auto [message, errors] = inject(simple());
    ASSERT_TRUE(message) << errors.front().reason;
    EXPECT_EQ(message->content, "From: a@sender.test\r\n\r\nhello\r\n");
    EXPECT_THAT(message->trace, StartsWith("Received: "));
    EXPECT_THAT(message->trace, HasSubstr("Message-ID: <"));
    EXPECT_THAT(message->trace, HasSubstr("Date: "));
    EXPECT_EQ(message->origin, "http");
    ASSERT_EQ(message->items.size(), 1U);
    EXPECT_EQ(message->items.front().domain, "example.test");
    EXPECT_FALSE(message->envelope.smtputf8);
}

TEST(Injection, ReportsEveryBadFieldAtOnce) {
    Injection injection = simple();
    injection.reverse_path = "nobody";
    injection.recipients = {"good@example.test", "bad", "b@example.test>"};
    injection.content = "x\rY\r\n";
    injection.envid = "a\r\nb";
    injection.tenant = "t\n";
    injection.priority = 8;
    injection.notify = mail::notify_never | mail::notify_success;
    EXPECT_THAT(
        bad_fields(inject(injection)),
        ElementsAre("reverse_path", "envid", "recipients[1]", "recipients[2]", "notify", "priority", "tenant", "content"));
}

// Conformance 2.3: nothing that a caller sets may add a line to the wire.
TEST(Injection, RefusesAddressesThatCarryCommands) {
    for (const std::string address :
         {"a@x\r\nRCPT TO:<z@y>", "a@x>\r\nDATA\r\n", "a@x\nX: y", "a@x\rX",
          "\"a\r\nb\"@x", "a@x(comment)", "<a@x>", "a@x,b@y", "a@x;b@y", "a@[x]", "a@x@y", " a@x", "a@x ", "@x:b@y", "a@x:25"}) {
        Injection injection = simple();
        injection.recipients = {address};
        const Injected injected = inject(injection);
        EXPECT_THAT(bad_fields(injected), ElementsAre("recipients[0]")) << address;
    }
}

TEST(Injection, RefusesNulInAddressesAndContent) {
    Injection injection = simple();
    injection.recipients = {std::string("a@x\0", 4)};
    EXPECT_THAT(bad_fields(inject(injection)), ElementsAre("recipients[0]"));
    injection = simple();
    injection.content = std::string("S: x\n\n\0\n", 8);
    EXPECT_THAT(bad_fields(inject(injection)), ElementsAre("content"));
}

TEST(Injection, SMUG_I_StrayLineEndsAreRefusedOrNormalised) {
    for (const std::string sequence : {"\n.\r", "\n.\r\n", "\r.\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n"}) {
        Injection injection = simple();
        injection.content = "S: x\r\n\r\nhello" + sequence + "MAIL FROM:<smug@x>\r\n";
        EXPECT_THAT(bad_fields(inject(injection)), ElementsAre("content")) << testing::PrintToString(sequence);

        config::Settings settings = test_settings();
        settings.connection.strict_bare_eol = false;
        const Injected normalised = inject(injection, settings);
        ASSERT_TRUE(normalised.message);
        EXPECT_FALSE(normalised.message->traits.has_bare_eol);
    }
}

TEST(Injection, F5322_03_ContentWithoutHeaderStaysBody) {
    Injection injection = simple();
    injection.content = "no header here\n";
    const auto [message, errors] = inject(injection);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->content, "\r\nno header here\r\n");
}

TEST(Injection, S5321_12_ALoopIsAnErrorOfTheContent) {
    config::Settings settings = test_settings();
    settings.connection.received_max = 1;
    Injection injection = simple();
    injection.content = "Received: 1\nReceived: 2\n\nx\n";
    EXPECT_THAT(bad_fields(inject(injection, settings)), ElementsAre("content"));
}

TEST(Injection, KeepsToTheLimits) {
    config::Settings settings = test_settings();
    settings.connection.message_bytes_max = 100;
    settings.connection.recipients_max = 1;
    Injection injection = simple();
    injection.recipients = {"a@x.test", "b@x.test"};
    injection.content = std::string(101, 'x');
    EXPECT_THAT(bad_fields(inject(injection, settings)), ElementsAre("recipients", "content"));
    injection.recipients.clear();
    injection.content.clear();
    EXPECT_THAT(bad_fields(inject(injection, settings)), ElementsAre("recipients", "content"));
}

TEST(Injection, EA_1_SetsSmtputf8WhereItIsNeeded) {
    Injection injection = simple();
    injection.content = "Subject: gr\xC3\xBC\xC3\x9F\n\nx\n";
    EXPECT_TRUE(inject(injection).message->envelope.smtputf8);
    injection = simple();
    injection.recipients = {"\xC3\xBC@example.test"};
    EXPECT_TRUE(inject(injection).message->envelope.smtputf8);
    injection = simple();
    injection.content = "gr\xC3\xBC\xC3\x9F" "e\n";
    EXPECT_FALSE(inject(injection).message->envelope.smtputf8) << "all of it is body";
}

TEST(Injection, KeepsOptions) {
    Injection injection = simple();
    injection.reverse_path.clear();
    injection.recipients = {"b@example.test", "B@example.test", "b@EXAMPLE.test"};
    injection.envid = "a b";
    injection.notify = mail::notify_success;
    injection.priority = 7;
    injection.tenant = "shop";
    injection.notes = "{}";
    const auto [message, errors] = inject(injection);
    ASSERT_TRUE(message);
    EXPECT_TRUE(message->envelope.reverse_path.is_null());
    EXPECT_EQ(message->envelope.recipients.size(), 2U);
    EXPECT_EQ(message->envelope.recipients.front().notify, mail::notify_success);
    EXPECT_EQ(message->envelope.envid, "a+20b");
    EXPECT_EQ(message->priority, 7);
    EXPECT_EQ(message->tenant, "shop");
    EXPECT_EQ(message->notes, "{}");
}

}  // namespace
}  // namespace sluice::reception
