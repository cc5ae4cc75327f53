#include "spool/record_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "spool/codec.h"
#include "spool/facts.h"
#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

using testing::ElementsAre;

TEST(Codec, NumbersRoundTripAndRunningPastTheEndIsSticky) {
    std::string out;
    Encoder encode(out);
    const std::vector<std::uint64_t> numbers = {0, 1, 127, 128, 16'383, 16'384, UINT32_MAX, UINT64_MAX};
    for (const std::uint64_t number : numbers)
        encode.number(number);
    encode.u16(0xABCD);
    encode.text("x");
    Decoder decode(out);
    for (const std::uint64_t number : numbers)
        EXPECT_EQ(decode.number(), number);
    EXPECT_EQ(decode.u16(), 0xABCD);
    EXPECT_EQ(decode.text(), "x");
    EXPECT_TRUE(decode.ok());
    EXPECT_EQ(decode.u8(), 0);
    EXPECT_FALSE(decode.ok());
    EXPECT_EQ(decode.text(), "");
}

TEST(Codec, AnOverlongNumberIsRefused) {
    Decoder decode("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    decode.number();
    EXPECT_FALSE(decode.ok());
}

std::string body_of(const mail::Message& message) {
    std::string body;
    append_message_head(body, message);
    return body + message.content;
}

TEST(RecordCodec, MessagesRoundTripWithEveryField) {
    mail::Message message = *test_message(9, 300, {{"a.test", {2, 0}}, {"[192.0.2.1]", {1}}});
    message.envelope.ret = mail::Return::headers;
    message.envelope.body = mail::BodyType::binary_mime;
    message.envelope.smtputf8 = true;
    message.traits = {true, true, true, true, 77, 998};
    const auto decoded = decode_message(body_of(message));
    ASSERT_TRUE(decoded) << decoded.error().text();
    expect_same(**decoded, message);
}

TEST(RecordCodec, ASummaryOfTheFirstVersionsIsRead) {
    const mail::Message message = *test_message(9, 10, {{"a.test", {0}}});
    mail::Message plain = message;
    plain.job.clear();
    plain.transport.clear();
    plain.marks.clear();
    plain.lifetime = {};
    plain.envelope.mt_priority.reset();
    const std::string body = body_of(plain);
    const std::string_view summary = *summary_of(body);
    // Job, transport, domain, lifetime, MT-PRIORITY and marks are what these did not write.
    const std::size_t added = 2 + 1 + sender_domain(plain.envelope).size() + 3;
    MessageSummary old;
    ASSERT_TRUE(decode_summary(summary.substr(0, summary.size() - added), old));
    EXPECT_EQ(old.tenant, message.tenant);
    EXPECT_EQ(old.items.size(), 1U);
    EXPECT_EQ(old.sender_domain, "");
    MessageSummary fresh;
    const std::string full = body_of(message);
    ASSERT_TRUE(decode_summary(*summary_of(full), fresh));
    EXPECT_EQ(fresh.job, "job9");
    EXPECT_EQ(fresh.marks.size(), 2U);
    ASSERT_TRUE(decode_summary(summary.substr(0, summary.size() - added), fresh)) << "the same place is filled again";
    EXPECT_EQ(fresh.job, "");
    EXPECT_TRUE(fresh.marks.empty());
    for (std::size_t cut = 1; cut < added; ++cut) EXPECT_FALSE(decode_summary(summary.substr(0, summary.size() - cut), old)) << cut;
}

TEST(RecordCodec, ANullReversePathAndAnEmptyMessageRoundTrip) {
    mail::Message message;
    message.id = MessageId{1};
    const auto decoded = decode_message(body_of(message));
    ASSERT_TRUE(decoded);
    expect_same(**decoded, message);
    EXPECT_TRUE((*decoded)->envelope.reverse_path.is_null());
}

TEST(RecordCodec, HoldsWithoutChangesAreAsTheyWere) {
    const auto body = [](const HoldRecord& record) {
        std::string out;
        append_hold(out, record);
        return out;
    };
    const std::string plain = body(HoldRecord{ItemId{MessageId{5}, 0}, true, "operator"});
    const std::string changed = body(HoldRecord{ItemId{MessageId{5}, 0}, true, "operator", "t1:x"});
    EXPECT_TRUE(changed.starts_with(plain));
    HoldView view;
    ASSERT_TRUE(decode_hold(changed, view));
    EXPECT_EQ(view.changes, "t1:x");
    ASSERT_TRUE(decode_hold(plain, view));
    EXPECT_EQ(view.changes, "");
    EXPECT_FALSE(decode_hold(changed.substr(0, changed.size() - 1), view));
}

TEST(RecordCodec, TheSummaryStandsForTheMessage) {
    const auto message = test_message(5, 40, {{"a.test", {0, 1}}});
    MessageSummary summary;
    const std::string body = body_of(*message);
    ASSERT_TRUE(decode_summary(*summary_of(body), summary));
    EXPECT_EQ(summary.id, message->id);
    EXPECT_EQ(summary.size, message->size());
    EXPECT_EQ(summary.tenant, message->tenant);
    ASSERT_EQ(summary.items.size(), 1u);
    EXPECT_THAT(summary.items[0].recipients, ElementsAre(0, 1));
    EXPECT_EQ(summary.items[0].source_hash, source_hash(message->envelope, message->items[0]));
}

TEST(RecordCodec, CutRecordsAreRefusedAtEveryLength) {
    const std::string body = body_of(*test_message(5, 40, {{"a.test", {0, 1}}}));
    for (std::size_t length = 0; length < body.size(); ++length) {
        EXPECT_FALSE(decode_message(std::string_view(body).substr(0, length))) << length;
    }
}

TEST(RecordCodec, TheReplyKeptForOperatorsIsBounded) {
    std::string body;
    append_schedule(body, {ItemId{MessageId{1}, 0}, 1, instant_from_ms(5), true, std::string(2000, 'x')});
    ScheduleView view;
    ASSERT_TRUE(decode_schedule(body, view));
    EXPECT_EQ(view.last_reply.size(), last_reply_bytes_max);
}

// The room for a group is reserved by these bounds before it is written.
TEST(RecordCodec, WeightIsAnUpperBound) {
    Random random(3);
    for (int i = 0; i < 200; ++i) {
        std::vector<std::uint32_t> recipients;
        for (std::uint32_t r = 0; r < random.below(50) + 1; ++r)
            recipients.push_back(r * 70'000 % 9999);
        const auto message = test_message(
            random.next(), random.below(100), {{std::string(random.below(200), 'd'), recipients}}
        );
        const std::string body = body_of(*message);
        const Weight weight = weigh(MessageRecord{message});
        EXPECT_LE(record_bytes(body.size()), weight.record);
        std::string index;
        const Fact fact{
            RecordType::message, 1ull << 40, static_cast<std::uint32_t>(body.size()), *summary_of(body)
        };
        append_fact(index, fact);
        EXPECT_LE(index.size(), weight.index);

        OutcomeRecord outcome = delivered(random.next(), 70'000, recipients);
        outcome.by = std::string(random.below(50), 'b');
        std::string outcome_body;
        append_outcome(outcome_body, outcome, UINT32_MAX);
        EXPECT_LE(record_bytes(outcome_body.size()), weigh(outcome).record);
    }
}

TEST(RecordCodec, SourceHashIsTheCrc32OfZlib) {
    mail::Envelope envelope;
    envelope.reverse_path = {"12345", "6789"};  // "12345@6789"
    EXPECT_EQ(source_hash(envelope, {"d", {}}), 0x83A81237U);
}

TEST(Facts, AnIndexThatMakesNoSenseIsNoticed) {
    std::string index;
    append_fact(index, {RecordType::hold, 512, 3, "abc"});
    FactReader good(index);
    const auto fact = good.next();
    ASSERT_TRUE(fact);
    EXPECT_EQ(fact->body, "abc");
    EXPECT_FALSE(good.next());
    EXPECT_TRUE(good.ok());
    FactReader cut(std::string_view(index).substr(0, index.size() - 1));
    EXPECT_FALSE(cut.next());
    EXPECT_FALSE(cut.ok());
}

}  // namespace
}  // namespace sluice::spool
