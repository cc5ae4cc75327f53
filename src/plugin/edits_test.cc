#include "plugin/edits.h"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

namespace sluice::plugin {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

mail::MessagePtr message_to(const std::vector<std::string>& recipients) {
    auto message = std::make_shared<mail::Message>();
    message->envelope.reverse_path = *mail::parse_address("from@here.test");
    for (const std::string& to : recipients) message->envelope.recipients.emplace_back().address = *mail::parse_address(to);
    message->content = "Subject: x\r\n\r\n";
    return message;
}

Editing read(const std::string& edits, const std::vector<std::uint32_t>& recipients) {
    const auto answer = boost::json::parse("{\"edits\":" + edits + "}");
    return editing_member(answer.get_object(), recipients);
}

TEST(Edits, AreReadAndAppliedToACopyOfTheMessage) {
    const Editing editing = read(
        R"({"mail_from":"<srs@us.test>","rcpt":[{"place":2,"to":"<new@there.test>"}],"removed":[{"place":0,"by":"p"}],)"
        R"("added":["<more@there.test>"],"by":"q"})",
        {0, 2});
    EXPECT_THAT(editing.problems, IsEmpty());
    EXPECT_TRUE(editing.removes(0));
    EXPECT_FALSE(editing.removes(2));
    EXPECT_THAT(editing.removed.at("p"), ElementsAre(0U));
    ASSERT_THAT(editing.added, SizeIs(1));
    EXPECT_EQ(editing.added[0].text(), "more@there.test");
    EXPECT_EQ(editing.added_by, "q");

    const mail::MessagePtr original = message_to({"a@there.test", "b@there.test", "c@there.test"});
    const mail::MessagePtr changed = editing.edit.applied(original);
    EXPECT_EQ(changed->envelope.reverse_path.text(), "srs@us.test");
    EXPECT_EQ(changed->envelope.recipients[1].address.text(), "b@there.test");
    EXPECT_EQ(changed->envelope.recipients[2].address.text(), "new@there.test");
    EXPECT_EQ(changed->content, original->content);
    EXPECT_EQ(original->envelope.reverse_path.text(), "from@here.test");
}

TEST(Edits, NothingChangedIsTheMessageItself) {
    const mail::MessagePtr original = message_to({"a@there.test"});
    EXPECT_EQ(Edit().applied(original), original);
    EXPECT_FALSE(read("{}", {0}).any());
    EXPECT_FALSE(editing_member({}, std::vector<std::uint32_t>{0}).any());
    EXPECT_FALSE(read("[1]", {0}).any());
}

TEST(Edits, WhatIsNoAddressOrNobodysPlaceIsLeftOutWithAWord) {
    const Editing editing = read(
        R"({"mail_from":"nobody","rcpt":[{"place":0,"to":"<two words@there.test>"},{"place":7,"to":"<a@there.test>"},{"place":-1,"to":"<a@b.test>"},3],)"
        R"("removed":[{"place":9,"by":"p"},{"place":"0"}],"added":["<>",7,"<good@there.test>"],"by":"q"})",
        {0});
    EXPECT_FALSE(editing.edit.any());
    EXPECT_THAT(editing.removed, IsEmpty());
    EXPECT_THAT(editing.added, SizeIs(1));
    EXPECT_THAT(editing.problems, SizeIs(8));
}

TEST(Edits, TooManyAdditionsAreCut) {
    std::string added = "[";
    for (std::size_t i = 0; i <= added_max; ++i) added += (i == 0 ? "\"<a@b.test>\"" : ",\"<a@b.test>\"");
    const Editing editing = read("{\"added\":" + added + "]}", {0});
    EXPECT_THAT(editing.added, SizeIs(added_max));
    EXPECT_THAT(editing.problems, SizeIs(1));
}

TEST(Edits, PartsTakeRecipientsAway) {
    const Editing editing = read(
        R"({"removed":[{"place":3,"by":"p"}],"parts":[)"
        R"({"places":[1,1,3,9],"by":"q","image":"{}","mail_from":"<verp@us.test>","rcpt":[{"place":1,"to":"<x@there.test>"}]},)"
        R"({"places":[1]},{"places":[3]},{"places":7},{},8,{"places":[2],"mail_from":"nobody"}]})",
        {0, 1, 2, 3});
    ASSERT_THAT(editing.parts, SizeIs(2));
    EXPECT_THAT(editing.parts[0].places, ElementsAre(1U));
    EXPECT_EQ(editing.parts[0].edit.reverse_path->text(), "verp@us.test");
    EXPECT_EQ(editing.parts[0].edit.recipients.at(1).text(), "x@there.test");
    EXPECT_EQ(editing.parts[0].by, "q");
    EXPECT_EQ(editing.parts[0].image, "{}");
    EXPECT_THAT(editing.parts[1].places, ElementsAre(2U));
    EXPECT_FALSE(editing.parts[1].edit.any());
    EXPECT_THAT(editing.problems, SizeIs(2)) << "place 9, and nobody";
    EXPECT_TRUE(editing.any());
    for (const std::uint32_t place : {1U, 2U, 3U}) EXPECT_TRUE(editing.removes(place)) << place;
    EXPECT_FALSE(editing.removes(0));
}

TEST(Edits, TheNullPathIsASenderAndNoRecipient) {
    const Editing editing = read(R"({"mail_from":"<>","rcpt":[{"place":0,"to":"<>"}]})", {0});
    ASSERT_TRUE(editing.edit.reverse_path.has_value());
    EXPECT_TRUE(editing.edit.reverse_path->is_null());
    EXPECT_THAT(editing.edit.recipients, IsEmpty());
}

TEST(Edits, SurviveTheJournalAndAddUp) {
    Edit edit = read(R"({"mail_from":"<srs@us.test>","rcpt":[{"place":1,"to":"<\"odd one\"@there.test>"}]})", {0, 1}).edit;
    edit.add(read(R"({"rcpt":[{"place":0,"to":"<new@there.test>"},{"place":1,"to":"<newer@there.test>"}]})", {0, 1}).edit);
    const Edit again = Edit::parse(edit.format());
    EXPECT_EQ(again.reverse_path->text(), "srs@us.test");
    EXPECT_EQ(again.recipients.at(0).text(), "new@there.test");
    EXPECT_EQ(again.recipients.at(1).text(), "newer@there.test");
    for (const char* odd : {"", "{", "[]", "{\"to\":{\"x\":\"<a@b.test>\",\"1\":7}}", "{\"from\":3}"}) EXPECT_FALSE(Edit::parse(odd).any()) << odd;
}

TEST(Edits, AddressesBeyondAsciiNeedSmtputf8) {
    const Editing editing = read(R"({"rcpt":[{"place":0,"to":"<grüße@there.test>"}]})", {0});
    EXPECT_TRUE(editing.edit.applied(message_to({"a@there.test"}))->envelope.smtputf8);
}

}  // namespace
}  // namespace sluice::plugin
