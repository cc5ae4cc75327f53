// Sessions with plugins that answer as a test says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/text.h"
#include "net/pipe.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using What = Answer::What;

class FakeHooks final : public Hooks {
public:
    bool wants(Hook hook) const override { return answers.contains(hook); }
    Task<Answer> ask(Hook hook, const Occasion& occasion) override {
        asked.push_back(occasion);
        if (hook == Hook::content) content = *occasion.content;
        Answer answer = answers.at(hook);
        answer.more = answer.more && asked.size() < 2;
        co_return answer;
    }
    void tell(Hook hook, const Occasion& occasion) override {
        told.push_back(hook);
        if (occasion.transaction) told_envelopes.push_back(*occasion.transaction->envelope);
    }

    std::map<Hook, Answer> answers;
    std::vector<Occasion> asked;
    std::vector<Hook> told;
    std::vector<mail::Envelope> told_envelopes;
    std::string content;
};

Answer answer(What what, bool disconnect = false) {
    Answer answer;
    answer.what = what;
    answer.disconnect = disconnect;
    return answer;
}

constexpr const char* dialogue =
    "EHLO client.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n"
    "Subject: one\r\n\r\nbody\r\n.\r\nQUIT\r\n";

class SessionHooks : public testing::Test {
protected:
    // Everything that the session says to this.
    std::string talk(std::string script) {
        Surroundings around = world_.surroundings();
        around.hooks = &hooks_;
        auto [client, server] = net::make_pipe(world_.shard.executor());
        Session session(around, world_.census, test_rules(settings_), std::move(server), net::Endpoint(net::IpAddress::v4(0x7F000001), 25));
        std::string said;
        async::TaskGroup group(world_.shard.executor());
        group.spawn(session.run());
        group.spawn(converse(*client, std::move(script), said));
        world_.run(group);
        return said;
    }
    // The codes of its replies.
    std::string codes(std::string script = dialogue) {
        std::string found;
        const std::string said = talk(std::move(script));
        for (const std::string_view line : split(said, '\n')) {
            if (line.size() > 3 && line[3] == ' ') found.append(found.empty() ? "" : " ").append(line.substr(0, 3));
        }
        return found;
    }

    TestWorld world_;
    FakeHooks hooks_;
    config::Settings settings_ = test_settings();

private:
    static Task<> converse(net::Stream& stream, std::string script, std::string& said) {
        stream.set_timeout(std::chrono::seconds(20));
        co_await stream.write(script);
        std::array<char, 4096> octets;
        for (;;) {
            const Result<std::size_t> count = co_await stream.read_some(octets);
            if (!count) co_return;
            said.append(octets.data(), *count);
        }
    }
};

TEST_F(SessionHooks, WhatNobodyWantsToKnowIsNotAsked) {
    EXPECT_EQ(codes(), "220 250 250 250 354 250 221");
    EXPECT_THAT(hooks_.asked, IsEmpty());
    EXPECT_THAT(hooks_.told, IsEmpty());
}

TEST_F(SessionHooks, RefusalsHaveHarakasCodes) {
    struct Row {
        Hook hook;
        What what;
        bool disconnect;
        const char* expected;
    };
    const Row table[] = {
        {Hook::opening, What::deny, false, "554 554 554 554 554"},  // until the client quits
        {Hook::hello, What::deny, false, "220 550 503 503 503"},
        {Hook::hello, What::lost, false, "220 421"},
        {Hook::mail, What::deny, false, "220 250 550 503 503"},
        {Hook::mail, What::deny_soft, true, "220 250 450"},
        {Hook::mail, What::lost, false, "220 250 421"},
        {Hook::rcpt, What::deny, false, "220 250 250 550 503"},
        {Hook::rcpt, What::lost, false, "220 250 250 421"},
        {Hook::data, What::deny, false, "220 250 250 250 554"},
        {Hook::data, What::deny_soft, true, "220 250 250 250 451"},
        {Hook::content, What::deny, false, "220 250 250 250 354 550 221"},
        {Hook::content, What::deny_soft, true, "220 250 250 250 354 450"},
        {Hook::content, What::lost, false, "220 250 250 250 354 451 221"},
        {Hook::content, What::ok, false, "220 250 250 250 354 250 221"},
    };
    for (const Row& row : table) {
        hooks_.answers = {{row.hook, answer(row.what, row.disconnect)}};
        EXPECT_THAT(codes(), StartsWith(row.expected)) << static_cast<int>(row.hook) << " " << static_cast<int>(row.what);
        EXPECT_THAT(world_.acceptance.messages, IsEmpty());
        ASSERT_FALSE(hooks_.told.empty());
        EXPECT_EQ(hooks_.told.back(), Hook::left);
    }
}

TEST_F(SessionHooks, WhoWantsToLeaveIsLetGo) {
    for (const What what : {What::deny, What::deny_soft}) {
        Answer refusal = answer(what);
        refusal.text = {"stay"};
        hooks_.answers = {{Hook::quit, refusal}};
        EXPECT_THAT(talk("QUIT\r\n"), testing::EndsWith("221 2.0.0 stay\r\n"));
    }
}

TEST_F(SessionHooks, TheBannerMayBeTheLastWord) {
    for (const Answer& refusal : {answer(What::deny_soft, true), answer(What::lost)}) {
        hooks_.answers = {{Hook::opening, refusal}};
        EXPECT_EQ(codes(""), "421");
    }
    hooks_.answers = {{Hook::opening, answer(What::deny, true)}};
    EXPECT_EQ(codes(""), "554");
}

TEST_F(SessionHooks, WordsOfPluginsAreWhatTheClientReads) {
    Answer denial = answer(What::deny);
    denial.text = {"5.1.8 no such domain", "5.1.8 at all"};
    denial.code = 553;
    hooks_.answers = {{Hook::mail, denial}};
    EXPECT_THAT(talk(dialogue), HasSubstr("553-5.1.8 no such domain\r\n553 5.1.8 at all\r\n"));
    denial.code = 250;  // which is no refusal
    hooks_.answers = {{Hook::mail, denial}};
    EXPECT_THAT(talk(dialogue), HasSubstr("550-5.1.8 no such domain\r\n"));
    Answer welcome = answer(What::ok);
    welcome.text = {"go on"};
    hooks_.answers = {{Hook::mail, welcome}};
    EXPECT_THAT(talk(dialogue), HasSubstr("250 2.1.0 go on\r\n"));
}

TEST_F(SessionHooks, ARecipientThatOnlyAPluginTakesIsNeverRelayed) {
    settings_.relay.acl_allow = {"192.0.2.0/24"};
    hooks_.answers = {{Hook::rcpt, answer(What::go_on)}};
    EXPECT_EQ(codes(), "220 250 250 550 503 500 500 500 500 221");
    hooks_.answers = {{Hook::rcpt, answer(What::ok)}};
    EXPECT_EQ(codes(), "220 250 250 250 354 451 221") << "with nobody there to take the message";
    hooks_.answers[Hook::content] = answer(What::go_on);
    EXPECT_EQ(codes(), "220 250 250 250 354 451 221");
    EXPECT_THAT(world_.acceptance.messages, IsEmpty());
    EXPECT_FALSE(hooks_.asked.back().keeps);
    hooks_.answers[Hook::content].relaying = true;
    EXPECT_EQ(codes(), "220 250 250 250 354 250 221") << "a plugin lets the client relay";
    EXPECT_EQ(world_.acceptance.messages.size(), 1U);
}

TEST_F(SessionHooks, RelayingByAPluginsWord) {
    settings_.relay.acl_allow = {"192.0.2.0/24"};
    Answer friendly = answer(What::go_on);
    friendly.transaction_relaying = true;
    hooks_.answers = {{Hook::mail, friendly}};
    EXPECT_EQ(codes("EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nRSET\r\nQUIT\r\n"), "220 250 250 250 250 221");
    friendly = answer(What::go_on);
    friendly.relaying = true;
    hooks_.answers = {{Hook::opening, friendly}};
    EXPECT_EQ(codes(), "220 250 250 250 354 250 221");
    settings_ = test_settings();  // loopback may relay
    friendly.relaying = false;
    hooks_.answers = {{Hook::opening, friendly}};
    EXPECT_EQ(codes("EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nQUIT\r\n"), "220 250 250 550 221");
}

TEST_F(SessionHooks, AMessageBecomesWhatPluginsMakeOfIt) {
    Answer changed = answer(What::go_on);
    changed.changed = Answer::Changed::header;
    changed.octets = "X-New: yes\n\r\n";  // not even clean
    changed.mail_from = "<other@src.test>";
    changed.rcpt_to = {"<b@dst.test>", "<c@dst.test>"};
    changed.notes = R"({"campaign":"spring"})";
    hooks_.answers = {{Hook::content, changed}};
    EXPECT_EQ(codes(), "220 250 250 250 354 250 221");
    EXPECT_THAT(hooks_.content, StartsWith("Received: from client.test"));
    EXPECT_THAT(hooks_.content, testing::EndsWith("Subject: one\r\n\r\nbody\r\n"));
    ASSERT_EQ(world_.acceptance.messages.size(), 1U);
    const mail::Message& message = *world_.acceptance.messages.front();
    EXPECT_EQ(message.content, "X-New: yes\r\n\r\nbody\r\n");
    EXPECT_THAT(message.trace, testing::Not(HasSubstr("Received"))) << "it was in the content";
    EXPECT_EQ(message.envelope.reverse_path.text(), "other@src.test");
    EXPECT_EQ(message.envelope.recipients.size(), 2U);
    EXPECT_EQ(message.notes, R"({"campaign":"spring"})");
    EXPECT_THAT(hooks_.told, ElementsAre(Hook::queued, Hook::reset, Hook::left));
    ASSERT_EQ(hooks_.told_envelopes.size(), 2U);
    for (const mail::Envelope& told : hooks_.told_envelopes) {
        EXPECT_EQ(told.reverse_path.text(), "other@src.test");
        EXPECT_EQ(told.recipients.size(), 2U);
    }
}

TEST_F(SessionHooks, AnEnvelopeThatMakesNoSenseIsNotTaken) {
    for (const std::vector<std::string>& recipients : {std::vector<std::string>{}, {"<>"}, {"nobody"}, {"<a@b>\r\nX: y"}}) {
        Answer changed = answer(What::go_on);
        changed.rcpt_to = recipients;
        hooks_.answers = {{Hook::content, changed}};
        EXPECT_THAT(codes(), testing::MatchesRegex("220 250 250 250 354 (451|554) 221"));
    }
    EXPECT_THAT(world_.acceptance.messages, IsEmpty());
}

TEST_F(SessionHooks, ContentWithoutAHeaderStaysABody) {
    hooks_.answers = {{Hook::content, answer(What::go_on)}};
    talk("EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\nonly a body\r\n.\r\nQUIT\r\n");
    EXPECT_THAT(hooks_.content, testing::EndsWith("\r\n\r\nonly a body\r\n"));
    EXPECT_EQ(world_.acceptance.messages.back()->content, hooks_.content);
    talk("EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\nSubject: x\r\n.\r\nQUIT\r\n");
    EXPECT_THAT(hooks_.content, testing::EndsWith("Subject: x\r\n\r\n")) << "where plugins can add fields";
    talk("EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\nFrom evil\r\n\tforged\r\nX: y\r\n.\r\nQUIT\r\n");
    EXPECT_THAT(hooks_.content, testing::EndsWith("\r\n\r\nFrom evil\r\n\tforged\r\nX: y\r\n"));
}

TEST_F(SessionHooks, LimitsAreForWhatTheClientSentAndPluginsSeeNothingBeyondThem) {
    settings_.connection.header_lines_max = 2;
    settings_.connection.received_max = 1;
    hooks_.answers = {{Hook::content, answer(What::go_on)}};
    const std::string begin = "EHLO c\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n";
    const std::string end = "\r\n\r\nbody\r\n.\r\nQUIT\r\n";
    EXPECT_EQ(codes(begin + "Received: here\r\nB: c" + end), "220 250 250 250 354 250 221");
    EXPECT_EQ(world_.acceptance.messages.size(), 1U);
    hooks_.content.clear();
    EXPECT_EQ(codes(begin + "A: b\r\nB: c\r\n d" + end), "220 250 250 250 354 554 221");
    EXPECT_EQ(codes(begin + "Received: here\r\nReceived: there" + end), "220 250 250 250 354 554 221");
    EXPECT_EQ(hooks_.content, "") << "nobody was asked";
}

TEST_F(SessionHooks, UnknownCommandsAreForPlugins) {
    Answer own = answer(What::ok);
    own.more = true;
    own.said = {smtp::Reply(334, "", "VXNlcm5hbWU6")};
    hooks_.answers = {{Hook::command, own}};
    EXPECT_EQ(codes("EHLO c\r\nXOWN now\r\nNOOP\r\nQUIT\r\n"), "220 250 334 334 221") << "even what looks like ours";
    EXPECT_EQ(hooks_.asked[0].command, "XOWN now");
    EXPECT_EQ(hooks_.asked[1].command, "NOOP");
    hooks_.answers = {{Hook::command, answer(What::go_on)}};
    EXPECT_EQ(codes("EHLO c\r\nXOWN\r\nAUTH PLAIN\r\nQUIT\r\n"), "220 250 500 500 221");
}

TEST_F(SessionHooks, RefusalsOfPluginsAreErrorsOfTheClient) {
    settings_.connection.errors_max = 2;
    Answer own = answer(What::ok);
    own.said = {smtp::Reply(535, "5.7.8", "wrong password")};
    hooks_.answers = {{Hook::command, own}};
    EXPECT_EQ(codes("EHLO c\r\nXOWN 1\r\nXOWN 2\r\nXOWN 3\r\nQUIT\r\n"), "220 250 535 535 421");
}

TEST_F(SessionHooks, WhoIsOnlyToldHearsOfTheEnd) {
    hooks_.answers = {{Hook::rset, answer(What::go_on)}};
    EXPECT_EQ(codes("EHLO c\r\nRSET\r\nMAIL FROM:<a@src.test>\r\nRSET\r\nQUIT\r\n"), "220 250 250 250 250 221");
    EXPECT_THAT(hooks_.told, ElementsAre(Hook::rset, Hook::rset, Hook::reset, Hook::left));
}

}  // namespace
}  // namespace sluice::reception
