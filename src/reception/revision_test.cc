#include "reception/revision.h"

#include <gtest/gtest.h>

namespace sluice::reception {
namespace {

mail::Message message() {
    mail::Message made;
    made.envelope.reverse_path = {"a", "src.test"};
    for (const char* local : {"one", "two"}) {
        mail::Recipient recipient;
        recipient.address = {local, "dst.test"};
        recipient.notify = mail::notify_failure;
        made.envelope.recipients.push_back(recipient);
    }
    made.items = mail::split_items(made.envelope.recipients, false);
    made.trace = "Received: now\r\n";
    made.content = "Subject: a\r\n\r\nbody\r\n";
    made.notes = "{}";
    return made;
}

TEST(Revision, ChangesOnlyWhatTheAnswerNames) {
    const auto same = revise(message(), Answer(), false);
    ASSERT_TRUE(same);
    EXPECT_EQ((*same)->trace + (*same)->content, "Received: now\r\nSubject: a\r\n\r\nbody\r\n");
    EXPECT_EQ((*same)->envelope, message().envelope);
}

TEST(Revision, ANewHeaderHoldsTheTrace) {
    Answer answer;
    answer.changed = Answer::Changed::header;
    answer.octets = "X-Signed: yes\r\nReceived: now\r\n\r\n";
    const auto revised = revise(message(), answer, false);
    ASSERT_TRUE(revised);
    EXPECT_EQ((*revised)->trace, "");
    EXPECT_EQ((*revised)->content, "X-Signed: yes\r\nReceived: now\r\n\r\nbody\r\n");
    EXPECT_EQ((*revised)->traits.header_size, answer.octets.size());
}

TEST(Revision, RecipientsThatStayKeepTheirParameters) {
    Answer answer;
    answer.rcpt_to = {"<two@dst.test>", "<two@dst.test>", "<new@other.test>"};
    answer.mail_from = "<>";
    const auto revised = revise(message(), answer, false);
    ASSERT_TRUE(revised);
    const auto& recipients = (*revised)->envelope.recipients;
    ASSERT_EQ(recipients.size(), 2U);
    EXPECT_EQ(recipients[0].notify, mail::notify_failure);
    EXPECT_EQ(recipients[1].notify, mail::notify_default);
    EXPECT_EQ((*revised)->items.size(), 2U);
    EXPECT_TRUE((*revised)->envelope.reverse_path.is_null());
}

TEST(Revision, RefusesAnEnvelopeThatMakesNoSense) {
    Answer answer;
    for (const std::vector<std::string>& recipients : {std::vector<std::string>{}, {"<>"}, {"x"}}) {
        answer.rcpt_to = recipients;
        EXPECT_FALSE(revise(message(), answer, false));
    }
}

}  // namespace
}  // namespace sluice::reception
