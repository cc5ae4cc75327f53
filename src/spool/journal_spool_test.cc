#include "spool/journal_spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

using testing::ElementsAre;

class JournalSpoolTest : public testing::Test {
protected:
    TemporaryDirectory directory_;
    std::unique_ptr<Disk> disk_ = make_system_disk();
    Options options_ = small_options(directory_.path());
};

TEST_F(JournalSpoolTest, AMessageComesBackAsItWasUntilItsLastRecipientIsDecided) {
    const std::vector<mail::ItemSpec> items = {{"a.test", {0, 2}}, {"b.test", {1}}};
    const auto message = test_message(7, 5000, items);
    {
        OpenSpool world(*disk_, options_);
        ASSERT_TRUE(world.append(MessageRecord{message}));
        const auto loaded = world.spool->load(message->id);
        ASSERT_TRUE(loaded) << loaded.error().text();
        expect_same(**loaded, *message);
        ASSERT_TRUE(world.append(delivered(7, 0, {2})));
        ScheduleRecord schedule{ItemId{message->id, 1}, 3, instant_from_ms(5'000'000), true, "451 4.7.1 later"};
        ASSERT_TRUE(world.append(schedule));
        ASSERT_TRUE(world.append(HoldRecord{ItemId{message->id, 0}, true, "operator"}));
    }
    {
        OpenSpool world(*disk_, options_);
        ASSERT_EQ(world.told.size(), 2u);
        const ToldItem& a = world.told.at(ItemId{message->id, 0});
        EXPECT_THAT(a.pending, ElementsAre(0));
        EXPECT_EQ(a.domain, "a.test");
        EXPECT_EQ(a.tenant, "tenant1");
        EXPECT_EQ(a.item.recipient_count, 2u);
        EXPECT_EQ(a.item.size, message->size());
        EXPECT_EQ(a.item.source_hash, source_hash(message->envelope, message->items[0]));
        EXPECT_EQ(a.item.arrival, message->arrival);
        EXPECT_EQ(a.item.next, message->arrival);
        EXPECT_EQ(a.item.priority, message->priority);
        EXPECT_TRUE(a.item.held);
        const ToldItem& b = world.told.at(ItemId{message->id, 1});
        EXPECT_THAT(b.pending, ElementsAre(1));
        EXPECT_EQ(b.item.attempts, 3);
        EXPECT_EQ(b.item.next, instant_from_ms(5'000'000));
        EXPECT_TRUE(b.item.delay_notified);
        EXPECT_EQ(b.last_reply, "451 4.7.1 later");
        EXPECT_FALSE(b.item.held);
        EXPECT_EQ(world.report.last_id, message->id);
        EXPECT_EQ(world.report.latest, instant_from_ms(2'000'000));
        EXPECT_THAT(world.report.warnings, ElementsAre());
        expect_same(**world.spool->load(message->id), *message);
        ASSERT_TRUE(world.append({delivered(7, 0, {0}), delivered(7, 1, {1})}));
        EXPECT_EQ(world.spool->load(message->id).error().code, Errc::not_found);
    }
    OpenSpool world(*disk_, options_);
    EXPECT_TRUE(world.told.empty());
    EXPECT_EQ(world.report.messages, 0u);
}

TEST_F(JournalSpoolTest, SpaceOfHotMailIsGivenBackAndColdMailStays) {
    OpenSpool world(*disk_, options_);
    ASSERT_TRUE(world.append(MessageRecord{test_message(1, 4000)}));
    for (std::uint64_t id = 2; id < 1000; ++id) {
        ASSERT_TRUE(world.append(MessageRecord{test_message(id, 4000)}));
        ASSERT_TRUE(world.append(delivered(id)));
    }
    const Status status = world.spool->status();
    EXPECT_EQ(status.live_messages, 1u);
    EXPECT_LT(status.disk_bytes, 2 * status.live_bytes + 10 * options_.segment_bytes);
    EXPECT_GT(status.reclaimed_bytes, 2'000'000u);
    expect_same(**world.spool->load(MessageId{1}), *test_message(1, 4000));
    world.spool->close();
    OpenSpool again(*disk_, options_);
    EXPECT_EQ(again.told.size(), 1u);
}

}  // namespace
}  // namespace sluice::spool
