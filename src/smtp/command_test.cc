#include "smtp/command.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace sluice::smtp {
namespace {

Extensions everything() {
    Extensions all;
    all.pipelining = all.size = all.eight_bit_mime = all.smtputf8 = all.chunking = all.binarymime = all.dsn =
        true;
    all.enhanced_codes = all.starttls = all.requiretls = true;
    all.size_max = 1000000;
    all.auth = {"PLAIN"};
    return all;
}
const Extensions all_offered = everything();
const CommandSyntax full{&all_offered, true};
const CommandSyntax bare{nullptr, false};

// "501 5.5.4": how a line is refused; "" if it is understood.
std::string refusal(std::string_view line, const CommandSyntax& syntax = full) {
    const auto command = parse_command(line, syntax);
    if (command) return {};
    EXPECT_FALSE(command.error().reply.text().empty()) << line;
    return std::to_string(command.error().reply.code) + " " + command.error().reply.enhanced->text();
}

TEST(Command, VerbsInAnyCaseAndBlanksAtTheEnd_S5321_17) {
    const std::pair<std::string_view, Verb> table[] = {
        {"DATA", Verb::data},     {"data ", Verb::data},        {"Rset", Verb::rset},
        {"QUIT\t", Verb::quit},   {"NOOP", Verb::noop},         {"NOOP any thing", Verb::noop},
        {"HELP", Verb::help},     {"HELP MAIL", Verb::help},    {"VRFY x", Verb::vrfy},
        {"EXPN x", Verb::expn},   {"STARTTLS", Verb::starttls}, {"helo x", Verb::helo},
        {"EHLO x", Verb::ehlo},   {"LHLO x", Verb::lhlo},       {"XCLIENT ADDR=1", Verb::unknown},
        {"DATAX", Verb::unknown}, {"", Verb::unknown},          {" DATA", Verb::unknown},
    };
    for (const auto& [line, verb] : table) {
        const auto command = parse_command(line, bare);
        ASSERT_TRUE(command) << line;
        EXPECT_EQ(command->verb, verb) << line;
    }
    EXPECT_EQ(parse_command("XCLIENT ADDR=1", bare)->as<Words>().text, "XCLIENT ADDR=1");
}

TEST(Command, HelloNeedsAName_S5321_01_S5321_18) {
    EXPECT_EQ(refusal("HELO"), "501 5.5.4");
    EXPECT_EQ(refusal("EHLO "), "501 5.5.4");
    EXPECT_EQ(refusal("EHLO [2001:db8::1]"), "501 5.5.4");
    EXPECT_EQ(refusal("EHLO a b"), "501 5.5.4");
    EXPECT_EQ(refusal("EHLO a\x01"), "501 5.5.4");
    EXPECT_EQ(refusal("EHLO " + std::string(256, 'a')), "501 5.5.4");
    for (const char* name : {"client.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "MY_PC", "bücher.example"}) {
        EXPECT_EQ(parse_command("EHLO " + std::string(name), bare)->as<Hello>().name, name);
    }
}

TEST(Command, ArgumentsWhereNoneBelong_TL_2) {
    for (const char* line : {"STARTTLS foo", "DATA x", "RSET x", "QUIT now", "VRFY", "EXPN"}) {
        EXPECT_EQ(refusal(line), "501 5.5.4") << line;
    }
}

TEST(Command, MailWithAllParameters) {
    const auto command = parse_command(
        "mail from:<a@b.test> SIZE=5000 body=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By AUTH=c+40d REQUIRETLS",
        full
    );
    ASSERT_TRUE(command) << command.error().reply.full_text();
    const auto& mail = command->as<MailFrom>();
    EXPECT_EQ(mail.reverse_path.text(), "a@b.test");
    EXPECT_EQ(mail.size, 5000U);
    EXPECT_EQ(mail.body, mail::BodyType::eight_bit_mime);
    EXPECT_EQ(mail.ret, mail::Return::headers);
    EXPECT_EQ(mail.envid, "x+2By");
    EXPECT_EQ(mail.auth, "c@d");
    EXPECT_TRUE(mail.smtputf8 && mail.requiretls);
}

TEST(Command, MailForms_S5321_04_AU_7) {
    EXPECT_TRUE(parse_command("MAIL FROM:<>", bare)->as<MailFrom>().reverse_path.is_null());
    EXPECT_EQ(parse_command("MAIL FROM: <a@b.test>", bare)->as<MailFrom>().reverse_path.text(), "a@b.test");
    EXPECT_EQ(
        parse_command("MAIL FROM:<\"a> b\"@x.test>  ", bare)->as<MailFrom>().reverse_path.local, "a> b"
    );
    EXPECT_EQ(parse_command("MAIL FROM:<> AUTH=<>", full)->as<MailFrom>().auth, "");
    EXPECT_EQ(
        parse_command("MAIL FROM:<> BODY=BINARYMIME", full)->as<MailFrom>().body, mail::BodyType::binary_mime
    );
    for (const char* line :
         {"MAIL", "MAIL <a@b.test>", "MAIL FROM", "MAIL TO:<a@b.test>", "MAIL FROM:<a@b.test>x"}) {
        EXPECT_EQ(refusal(line), "501 5.5.4") << line;
    }
    for (const char* line :
         {"MAIL FROM:a@b.test", "MAIL FROM:", "MAIL FROM:<a@b", "MAIL FROM:<a>", "MAIL FROM:<a b@c>"}) {
        EXPECT_EQ(refusal(line).substr(0, 3), "501") << line;
    }
    EXPECT_EQ(refusal("MAIL FROM:<@x:a@b>"), "501 5.1.7");
}

TEST(Command, RcptForms_S5321_04_S5321_17_DS_01) {
    EXPECT_EQ(refusal("RCPT TO:<>"), "501 5.1.3");
    EXPECT_EQ(refusal("RCPT TO:<a..b@x>"), "501 5.1.3");
    EXPECT_EQ(refusal("RCPT TO:v@victim"), "501 5.1.3");
    EXPECT_EQ(
        parse_command("RCPT TO:<POSTMASTER>", bare)->as<RcptTo>().recipient.address.local, "POSTMASTER"
    );
    const auto command =
        parse_command("RCPT TO:<Bob@x.test> NOTIFY=success,FAILURE ORCPT=rfc822;b+2Bc@x.test", full);
    ASSERT_TRUE(command) << command.error().reply.full_text();
    const auto& recipient = command->as<RcptTo>().recipient;
    EXPECT_EQ(recipient.address.local, "Bob");
    EXPECT_EQ(recipient.notify, mail::notify_success | mail::notify_failure);
    EXPECT_EQ(recipient.orcpt, "rfc822;b+2Bc@x.test");
    EXPECT_EQ(
        parse_command("RCPT TO:<a@x> NOTIFY=NEVER", full)->as<RcptTo>().recipient.notify, mail::notify_never
    );
    EXPECT_TRUE(parse_command("RCPT TO:<a@x> ORCPT=utf-8;j\\x{F6}rg@x", full));
    EXPECT_TRUE(parse_command("RCPT TO:<a@x> ORCPT=utf-8;jörg@x", full));
}

TEST(Command, NonAsciiAddresses_EA_1_EA_2) {
    EXPECT_EQ(refusal("MAIL FROM:<jörg@x.test>"), "553 5.6.7");
    EXPECT_EQ(refusal("MAIL FROM:<jörg@x.test> SMTPUTF8"), "");
    EXPECT_EQ(refusal("MAIL FROM:<\xFF@x.test> SMTPUTF8"), "501 5.1.7");
    EXPECT_EQ(refusal("MAIL FROM:<\xC0\xAF@x.test>"), "501 5.1.7");
    EXPECT_EQ(refusal("RCPT TO:<jörg@x.test>", bare), "553 5.6.7");
    EXPECT_EQ(refusal("RCPT TO:<jörg@x.test>"), "");
    EXPECT_EQ(refusal("RCPT TO:<a@xn---.test>"), "501 5.1.3");
}

TEST(Command, BdatKnowsWhenTheStreamIsLost_BD_1_BD_4) {
    EXPECT_EQ(parse_command("BDAT 5 LAST", full)->as<Bdat>().size, 5U);
    EXPECT_TRUE(parse_command("BDAT 0 last", full)->as<Bdat>().last);
    EXPECT_FALSE(parse_command("BDAT 86", full)->as<Bdat>().last);
    const std::pair<std::string_view, int> table[] = {
        {"BDAT", 501},
        {"BDAT -1", 501},
        {"BDAT 1e9", 501},
        {"BDAT 0x10", 501},
        {"BDAT 5 LASTING", 501},
        {"BDAT LAST", 501},
        {"BDAT 1000001 LAST", 552},
        {"BDAT 99999999999999999999999", 552},
    };
    for (const auto& [line, code] : table) {
        const auto command = parse_command(line, full);
        ASSERT_FALSE(command) << line;
        EXPECT_EQ(command.error().reply.code, code) << line;
        EXPECT_TRUE(command.error().payload_unknown) << line;
    }
}

TEST(Command, Auth_AU_3) {
    EXPECT_EQ(parse_command("auth plain", full)->as<Auth>().mechanism, "PLAIN");
    EXPECT_EQ(parse_command("AUTH PLAIN", full)->as<Auth>().initial, std::nullopt);
    EXPECT_EQ(parse_command("AUTH PLAIN =", full)->as<Auth>().initial, "");
    EXPECT_EQ(parse_command("AUTH SCRAM-SHA-256 Zg==", full)->as<Auth>().initial, "Zg==");
    EXPECT_EQ(refusal("AUTH PLAIN Zg"), "501 5.5.2");
    EXPECT_EQ(refusal("AUTH PLAIN Zg== Zg=="), "501 5.5.2");
    EXPECT_EQ(refusal("AUTH"), "501 5.5.4");
    EXPECT_EQ(refusal("AUTH <X>"), "501 5.5.4");
    EXPECT_EQ(refusal("AUTH " + std::string(21, 'A')), "501 5.5.4");
}

TEST(Command, StrayLineEndsAreNoPartOfACommand) {
    using namespace std::string_view_literals;
    for (const std::string_view line : {"NOOP a\rb"sv, "NOOP a\nb"sv, "NOOP a\0b"sv})
        EXPECT_EQ(refusal(line), "500 5.5.2");
}

}  // namespace
}  // namespace sluice::smtp
