#include "spool/ledger.h"

#include <gtest/gtest.h>

#include <deque>

#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

// Builds facts and keeps their texts alive.
class LedgerTest : public testing::Test {
protected:
    LedgerTest() {
        for (std::uint32_t segment = 1; segment <= 9; ++segment)
            ledger_.add_segment(segment, 1 << 20);
    }
    Fact fact(RecordType type, std::string body, std::uint64_t offset) {
        bodies_.push_back(std::move(body));
        return Fact{type, offset, 100, bodies_.back()};
    }
    Fact message(
        std::uint64_t id, std::uint64_t offset, std::vector<mail::ItemSpec> items = {{"d.test", {0}}}
    ) {
        std::string head;
        append_message_head(head, *test_message(id, 10, std::move(items)));
        return fact(RecordType::message, std::string(*summary_of(head)), offset);
    }
    Fact outcome(
        std::uint64_t id, std::uint64_t message_segment, std::vector<std::uint32_t> recipients = {0}
    ) {
        std::string body;
        append_outcome(body, delivered(id, 0, std::move(recipients)), message_segment);
        return fact(RecordType::outcome, body, 512);
    }
    Fact schedule(std::uint64_t id) {
        std::string body;
        append_schedule(body, {ItemId{MessageId{id}, 0}, 1, instant_from_ms(9), false, ""});
        return fact(RecordType::schedule, body, 1024);
    }
    Fact policy(std::string key, std::string value) {
        std::string body;
        append_policy(body, {std::move(key), std::move(value)});
        return fact(RecordType::policy, body, 2048);
    }
    void apply(std::uint32_t segment, const Fact& what) { ASSERT_TRUE(ledger_.apply(segment, what)); }

    Ledger ledger_;
    std::deque<std::string> bodies_;
};

TEST_F(LedgerTest, AnOutcomeMattersWhileTheSegmentOfItsMessageExists) {
    const Fact told = outcome(1, 1);
    apply(1, message(1, 512));
    apply(2, told);
    EXPECT_FALSE(ledger_.find(MessageId{1}));
    EXPECT_TRUE(ledger_.dead(1));
    EXPECT_FALSE(ledger_.dead(2));
    EXPECT_TRUE(ledger_.matters(2, told));
    ledger_.remove_segment(1);
    EXPECT_TRUE(ledger_.dead(2));
    EXPECT_FALSE(ledger_.matters(2, told));
}

TEST_F(LedgerTest, WhatMattersIsCountedAsLongAsItIs) {
    const auto deferred = [&](std::uint64_t id, std::size_t reply) {
        std::string body;
        append_schedule(body, {ItemId{MessageId{id}, 0}, 1, instant_from_ms(9), false, std::string(reply, 'r')});
        Fact fact = this->fact(RecordType::schedule, body, 1024);
        fact.length = static_cast<std::uint32_t>(fact.body.size());
        return fact;
    };
    apply(1, message(1, 512));
    apply(1, message(2, 1024));
    EXPECT_GT(ledger_.matter_bytes(1), 2u * 116) << "the records, and what the index says of them";
    apply(2, deferred(1, 450));
    apply(2, deferred(2, 50));
    EXPECT_NEAR(static_cast<double>(ledger_.matter_bytes(2)), 2 * (450 + 50), 200) << "records and index";
    apply(3, deferred(1, 10));
    EXPECT_GT(ledger_.matter_bytes(2), 0u);
    apply(3, deferred(2, 10));
    EXPECT_EQ(ledger_.matter_bytes(2), 0u);
    EXPECT_TRUE(ledger_.dead(2));
    apply(4, policy("key", std::string(5000, 'v')));
    EXPECT_GT(ledger_.matter_bytes(4), 5000u);
    apply(5, policy("key", "v"));
    EXPECT_EQ(ledger_.matter_bytes(4), 0u);
}

TEST_F(LedgerTest, AnOutcomeInTheSegmentOfItsMessageGoesWithIt) {
    apply(1, message(1, 512));
    apply(1, outcome(1, 1));
    EXPECT_TRUE(ledger_.dead(1));
}

// A crash may leave both the copy and the original. If the copy's segment went first, the original would come
// back.
TEST_F(LedgerTest, AnOutcomeMattersWhileAnOlderCopyOfItsMessageExists) {
    const Fact told = outcome(1, 5);
    apply(1, message(1, 512));
    apply(5, message(1, 4096));
    EXPECT_EQ(ledger_.find(MessageId{1}), (Place{5, 4096, 100}));
    EXPECT_EQ(ledger_.live_messages(), 1u);
    apply(6, told);
    ledger_.remove_segment(5);
    EXPECT_TRUE(ledger_.matters(6, told));
    EXPECT_FALSE(ledger_.dead(6));
    ledger_.remove_segment(1);
    EXPECT_TRUE(ledger_.dead(6));
}

// The copy in between went first.
TEST_F(LedgerTest, AnOutcomeMattersWhileACopyOfACopyExists) {
    const Fact told = outcome(1, 3);
    apply(1, message(1, 512));
    apply(2, message(1, 4096));
    apply(3, message(1, 8192));
    ledger_.remove_segment(2);
    apply(3, told);
    EXPECT_FALSE(ledger_.find(MessageId{1}));
    EXPECT_TRUE(ledger_.matters(3, told));
    EXPECT_FALSE(ledger_.dead(3));
    ledger_.remove_segment(1);
    EXPECT_TRUE(ledger_.dead(3));
}

TEST_F(LedgerTest, AnOutcomeThatNamesAGoneCopyStillMattersForTheOriginal) {
    const Fact told = outcome(1, 5);
    ledger_.remove_segment(5);
    apply(1, message(1, 512));
    apply(6, told);
    EXPECT_FALSE(ledger_.find(MessageId{1}));
    EXPECT_TRUE(ledger_.matters(6, told));
}

TEST_F(LedgerTest, ANoteBeforeTheCopyOfItsMessageCounts) {
    const Fact noted = schedule(1);
    apply(3, noted);
    apply(5, message(1, 512));
    ledger_.end_of_recovery();
    EXPECT_TRUE(ledger_.matters(3, noted));
    EXPECT_TRUE(ledger_.holds_state(3));
    apply(7, schedule(1));
    EXPECT_FALSE(ledger_.matters(3, noted));
    EXPECT_TRUE(ledger_.dead(3));
    apply(7, outcome(1, 5));
    EXPECT_FALSE(ledger_.holds_state(7));
}

TEST_F(LedgerTest, RecipientsAreDecidedOneByOneAndOnce) {
    apply(1, message(1, 512, {{"a.test", {0, 2}}, {"b.test", {1}}}));
    apply(1, outcome(1, 1, {2, 2, 77}));
    std::vector<std::uint32_t> pending;
    ledger_.pending(MessageId{1}, {0, 1, 2}, pending);
    EXPECT_EQ(pending, (std::vector<std::uint32_t>{0, 1}));
    EXPECT_EQ(ledger_.decided(MessageId{1}), (std::vector<std::uint32_t>{2}));
    apply(1, outcome(1, 1, {0}));
    EXPECT_TRUE(ledger_.find(MessageId{1}));
    apply(1, outcome(1, 1, {1}));
    EXPECT_FALSE(ledger_.find(MessageId{1}));
    EXPECT_EQ(ledger_.live_bytes(), 0u);
}

TEST_F(LedgerTest, AnErasureMattersWhileAnOlderValueMayExist) {
    const Fact erased = policy("k", "");
    apply(2, policy("k", "1"));
    apply(4, policy("k", "2"));
    EXPECT_FALSE(ledger_.holds_state(2));
    apply(6, erased);
    EXPECT_FALSE(ledger_.holds_state(4));
    EXPECT_TRUE(ledger_.matters(6, erased));
    for (const std::uint32_t segment : {2u, 3u, 4u, 5u}) {
        EXPECT_TRUE(ledger_.holds_state(6));
        ledger_.remove_segment(segment);
    }
    EXPECT_FALSE(ledger_.matters(6, erased));
    EXPECT_TRUE(ledger_.dead(6));
}

TEST_F(LedgerTest, AMessageForNobodyIsDoneAtOnce) {
    apply(1, message(1, 512, {}));
    EXPECT_FALSE(ledger_.find(MessageId{1}));
    EXPECT_TRUE(ledger_.dead(1));
}

TEST_F(LedgerTest, ARecordThatMakesNoSenseChangesNothing) {
    EXPECT_EQ(ledger_.apply(1, fact(RecordType::outcome, "x", 512)).error().code, Errc::corrupt);
    EXPECT_EQ(ledger_.apply(1, fact(RecordType::message, "", 512)).error().code, Errc::corrupt);
    EXPECT_TRUE(ledger_.dead(1));
}

}  // namespace
}  // namespace sluice::spool
