#include "plugin/inbound_facts.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace sluice::plugin {
namespace {

using reception::Answer;
using reception::Hook;
using reception::Occasion;

boost::json::object asked(Hook hook, const Occasion& occasion) {
    return boost::json::parse("{" + inbound_question(hook, occasion) + "}").get_object();
}

Answer answered(std::string_view text, std::string octets = {}) {
    return inbound_answer(boost::json::parse(text).get_object(), std::move(octets));
}

TEST(InboundFacts, TellOnlyRecipientsThatAreNew) {
    mail::Envelope envelope;
    for (const char* local : {"one", "two", "three"}) {
        mail::Recipient recipient;
        recipient.address = {local, "dst.test"};
        envelope.recipients.push_back(recipient);
    }
    Occasion about;
    about.transaction.emplace().envelope = &envelope;
    about.transaction->known = 1;
    EXPECT_EQ(asked(Hook::data, about)["tx"].at("rcpt_to"), boost::json::parse(R"(["<two@dst.test>","<three@dst.test>"])"));
    EXPECT_EQ(asked(Hook::data, about)["tx"].at("mail_from"), "<>");
}

TEST(InboundFacts, AnyOctetsOfAClientAreValidJson) {
    Occasion about;
    about.visitor.helo = "a\xff\"\\";
    about.command = "X\xfe \x01";
    const auto message = asked(Hook::command, about);
    EXPECT_EQ(message.at("params").get_array().size(), 2U);
}

TEST(InboundFacts, TheHeaderGoesWithTheQuestionTheBodyDoesNot) {
    const std::string content = "Subject: \xff\r\n\r\nbody\r\n";
    Occasion about;
    about.content = &content;
    const auto message = asked(Hook::content, about);
    EXPECT_EQ(message.at("header"), "U3ViamVjdDog/w0KDQo=");
    EXPECT_EQ(message.at("size"), content.size());
    const std::string later = inbound_question(Hook::content, about, true);  // of a part that is not the first
    EXPECT_EQ(later.find("header"), std::string::npos) << later;
}

TEST(InboundFacts, AnswersThatMakeNoSenseAreNone) {
    for (const char* text : {"{}", R"({"what":1})", R"({"what":"perhaps"})", R"({"what":"lost"})"}) {
        EXPECT_EQ(answered(text).what, Answer::What::lost) << text;
    }
    // Half a header section would cut the body off.
    EXPECT_EQ(answered(R"({"what":"cont","changed":"header"})", "Subject: a\r\n").what, Answer::What::lost);
    EXPECT_EQ(answered(R"({"what":"cont","changed":"header"})", "Subject: a\r\n\r\n").what, Answer::What::go_on);
    const Answer odd = answered(
        R"({"what":"deny","code":99999,"text":[1,"two"],"said":[7,{"code":1},{"code":250}],"loop":{"code":250},"relaying":"yes"})");
    EXPECT_EQ(odd.code, 0);
    EXPECT_EQ(odd.text, std::vector<std::string>{"two"});
    EXPECT_EQ(odd.said.size(), 1U);
    EXPECT_FALSE(odd.loop);
    EXPECT_FALSE(odd.relaying) << "only true and false are a plugin's word";
}

}  // namespace
}  // namespace sluice::plugin
