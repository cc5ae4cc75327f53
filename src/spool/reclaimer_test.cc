#include "spool/reclaimer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spool/fake_disk.h"
#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

using testing::IsEmpty;

constexpr const char* directory = "/spool";

Options reclaiming_options() {
    Options options = small_options(directory);
    options.segment_bytes = 64 << 10;
    options.reserve_bytes = 32 << 10;
    return options;
}

// A spool whose writer is the test: what gathers, and when it is written, is known.
class TurnedSpool {
public:
    TurnedSpool(Disk& disk, const Options& options, Tuning tuning) {
        tuning.own_thread = false;
        auto opened = JournalSpool::open(disk, options, tuning, tell_into(told), report);
        if (!opened) ADD_FAILURE() << opened.error().text();
        else spool_ = std::move(*opened);
    }
    JournalSpool& spool() { return static_cast<JournalSpool&>(*spool_); }
    Result<> append(Batch batch) {
        spool().append(std::move(batch), &listener_, ++ticket_);
        spool().turn();
        return listener_.wait(ticket_);
    }
    Result<> append(Record record) {
        Batch batch;
        batch.push_back(std::move(record));
        return append(std::move(batch));
    }
    bool reclaims() { return spool().idle_time() == Duration(0); }

    Told told;
    RecoveryReport report;

private:
    Listener listener_;
    std::uint64_t ticket_ = 0;
    std::unique_ptr<Spool> spool_;
};

// Writes mail, of which a third stays, until some of it is being written again. Returns what stays.
std::vector<std::uint64_t> write_until_it_reclaims(TurnedSpool& world) {
    std::vector<std::uint64_t> stays;
    for (std::uint64_t id = 1; id < 1000 && !world.reclaims(); ++id) {
        Batch batch;
        batch.push_back(MessageRecord{test_message(id, 4000)});
        if (id % 3 == 0) stays.push_back(id);
        else batch.push_back(delivered(id));
        EXPECT_TRUE(world.append(std::move(batch)));
    }
    return stays;
}

ScheduleRecord scheduled(std::uint64_t id, std::string reply = "451 later") {
    return {ItemId{MessageId{id}, 0}, 1, instant_from_ms(3'000'000), false, std::move(reply)};
}

// How many records of each type stand in the newest segment.
std::map<RecordType, int> records_of_newest_segment(FakeDisk& disk) {
    std::uint32_t newest = 0;
    const auto names = disk.list(directory);
    for (const std::string& name : *names)
        newest = std::max(newest, parse_segment_name(name).value_or(0));
    const auto file = disk.open(std::string(directory) + "/" + segment_name(newest), OpenMode::read);
    ScanPlan plan;
    plan.segment = newest;
    plan.header = *read_segment_header(**file);
    std::map<RecordType, int> count;
    EXPECT_TRUE(scan_segment(**file, plan, [&](const Fact& fact, std::string_view) { ++count[fact.type]; }));
    return count;
}

// FM-14: what was being written again when the disk filled up leaves the reserve to what is new.
TEST(FullDisk, ReclaimingThatWasUnderWayLeavesTheReserveToOutcomes) {
    FakeDisk disk;
    Tuning tuning = quick_tuning();
    tuning.rewrite_bytes_max = 1;  // one record with each group
    tuning.spares_max = 0;
    TurnedSpool world(disk, reclaiming_options(), tuning);
    std::vector<std::uint64_t> stays = write_until_it_reclaims(world);
    // Hardly anything is left of the segment.
    ASSERT_TRUE(world.append(MessageRecord{test_message(5000, 48'000)}));
    stays.push_back(5000);
    ASSERT_TRUE(world.reclaims());
    ASSERT_GE(stays.size(), 20u);
    disk.set_capacity(1);
    for (std::size_t i = 0; i < 20; ++i)
        EXPECT_TRUE(world.append(scheduled(stays[i]))) << i;
    EXPECT_EQ(world.spool().status().why_not, "the disk is full; only outcomes are recorded");
    for (const std::uint64_t id : stays)
        EXPECT_TRUE(world.append(delivered(id))) << id;
    auto records = records_of_newest_segment(disk);
    EXPECT_EQ(records[RecordType::message], 0);
    EXPECT_GT(records[RecordType::outcome], 0);
    disk.cut_power_at(1);
    world.spool().close();
    disk.restart();
    disk.set_capacity(UINT64_MAX);
    OpenSpool again(disk, reclaiming_options());
    EXPECT_THAT(again.told, IsEmpty());
}

// One message that stays keeps a whole segment: into the reserve with it, and the segment takes what comes.
TEST(FullDisk, ASegmentInWhichHardlyAnythingMattersIsGivenBackAtOnce) {
    FakeDisk disk;
    Tuning tuning = quick_tuning();
    tuning.rewrite_bytes_max = 1;
    TurnedSpool world(disk, reclaiming_options(), tuning);
    std::uint64_t last = 0;
    disk.set_capacity(256 << 10);
    while (world.append(MessageRecord{test_message(last + 1, 4000)}))
        ++last;
    ASSERT_GT(last, 20u);
    std::size_t durable = 0;
    for (std::uint64_t id = 1; id <= last; ++id) {
        if (id % 13 != 5) durable += world.append(delivered(id)).has_value() ? 1 : 0;
    }
    EXPECT_EQ(durable, last - (last + 8) / 13);
    for (int turn = 0; turn < 10; ++turn)
        world.spool().turn();
    EXPECT_TRUE(world.spool().accepting()) << world.spool().status().why_not;
    EXPECT_GT(world.spool().status().rewritten_bytes, 0u);
    EXPECT_TRUE(world.append(MessageRecord{test_message(1000, 4000)}));
    expect_same(**world.spool().load(MessageId{5}), *test_message(5, 4000));
}

// False when it does not come to an end.
bool finishes(TurnedSpool& world) {
    for (int turn = 0; turn < 100; ++turn) {
        if (!world.reclaims()) return true;
        world.spool().turn();
    }
    return false;
}

// Of a list, replies take more room than the message; and an image of a plugin more than its schedule. Nothing of it is live mail, all of it matters.
TEST(Reclaiming, EndsWhereWhatIsKnownOfItemsIsLargerThanTheMail) {
    FakeDisk disk;
    std::vector<mail::ItemSpec> items;
    for (std::uint32_t i = 0; i < 100; ++i)
        items.push_back({"d" + std::to_string(i) + ".test", {i}});
    {
        TurnedSpool world(disk, reclaiming_options(), quick_tuning());
        for (std::uint64_t id = 1; id <= 4; ++id)
            ASSERT_TRUE(world.append(MessageRecord{test_message(id, 300, items)}));
        for (std::uint32_t i = 0; i < 400; i += 20) {
            Batch batch;
            for (std::uint32_t j = i; j < i + 20; ++j) {
                ScheduleRecord schedule = scheduled(1, std::string(450, 'r'));
                schedule.item = ItemId{MessageId{1 + j / 100}, j % 100};
                batch.push_back(std::move(schedule));
                if (j % 10 == 0)
                    batch.push_back(HoldRecord{ItemId{MessageId{1 + j / 100}, j % 100}, false, "x", std::string(3000, 'c')});
            }
            ASSERT_TRUE(world.append(std::move(batch)));
        }
        EXPECT_TRUE(finishes(world)) << world.spool().status().rewritten_bytes << " octets written again";
        EXPECT_LT(world.spool().status().rewritten_bytes, 100'000u);
        EXPECT_EQ(world.spool().status().waiting_bytes, 0u);
    }
    // What recovery counts is the same.
    TurnedSpool again(disk, reclaiming_options(), quick_tuning());
    EXPECT_TRUE(finishes(again)) << again.spool().status().rewritten_bytes << " octets written again";
    EXPECT_EQ(again.told.size(), 400u);
    EXPECT_EQ(again.told.at(ItemId{MessageId{4}, 99}).last_reply.size(), 450u);
}

// Nothing dies and nothing new comes, and yet most of what stands there does not matter any more.
TEST(Reclaiming, BeginsWhenMuchWasDecidedThoughNoSegmentDied) {
    FakeDisk disk;
    TurnedSpool world(disk, reclaiming_options(), quick_tuning());
    constexpr std::uint64_t last = 135;
    for (std::uint64_t id = 1; id <= last; ++id)
        ASSERT_TRUE(world.append(MessageRecord{test_message(id, 4000)}));
    const std::uint64_t segments = world.spool().status().segments;
    ASSERT_GE(segments, 10u);
    ASSERT_EQ(world.spool().status().rewritten_bytes, 0u);
    Batch batch;
    for (std::uint64_t id = 1; id <= last; ++id) {
        if (id % 6 != 0) batch.push_back(delivered(id));
    }
    ASSERT_TRUE(world.append(std::move(batch)));
    EXPECT_TRUE(finishes(world));
    EXPECT_LT(world.spool().status().segments, segments / 2 + 2);
    EXPECT_EQ(world.spool().status().live_messages, last / 6);
}

// Room for all of it may not come back for long; what there is takes what it can.
TEST(FullDisk, WhatWasCarriedGoesIntoWhateverRoomThereIs) {
    FakeDisk disk;
    disk.set_capacity(512 << 10);
    std::vector<std::string> problems;
    Options options = reclaiming_options();
    options.on_problem = [&](const std::string& sentence) { problems.push_back(sentence); };
    constexpr std::uint16_t count = 600;
    {
        TurnedSpool world(disk, options, quick_tuning());
        const auto turn = [&](int times) {
            for (int i = 0; i < times; ++i)
                world.spool().turn();
            return world.spool().status().waiting_bytes;
        };
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 100)}));
        disk.overwrite("/other", std::string(415 << 10, 'x'));  // all but the head and the reserve
        for (std::uint16_t attempt = 1; attempt <= count; ++attempt) {
            ScheduleRecord schedule = scheduled(1, std::string(450, 'r'));
            schedule.attempts = attempt;
            world.spool().append({schedule}, nullptr, 0);
        }
        const std::uint64_t all = world.spool().status().waiting_bytes;
        ASSERT_GT(all, 3 * options.segment_bytes);
        const std::uint64_t on_reserve = turn(40);
        EXPECT_LT(on_reserve, all);
        EXPECT_FALSE(world.spool().accepting());
        EXPECT_EQ(problems.size(), 2u) << "the disk is full, and the reserve: " << testing::PrintToString(problems);
        disk.overwrite("/other", std::string(350 << 10, 'x'));  // room for one segment
        const std::uint64_t with_a_segment = turn(40);
        EXPECT_LT(with_a_segment, on_reserve - options.segment_bytes / 4);
        disk.overwrite("/other", "");
        EXPECT_EQ(turn(40), 0u);
        EXPECT_TRUE(world.spool().accepting()) << world.spool().status().why_not;
    }
    TurnedSpool again(disk, options, quick_tuning());
    ASSERT_EQ(again.told.size(), 1u);
    EXPECT_EQ(again.told.begin()->second.item.attempts, count) << "not in their order";
}

TEST(FullDisk, WhatIsCarriedToTheEndIsNotLostWithoutAWord) {
    FakeDisk disk;
    std::vector<std::string> problems;
    Options options = reclaiming_options();
    options.on_problem = [&](const std::string& sentence) { problems.push_back(sentence); };
    TurnedSpool world(disk, options, quick_tuning());
    ASSERT_TRUE(world.append(MessageRecord{test_message(1, 100)}));
    disk.fail_syncs(true);
    world.spool().append({delivered(1)}, nullptr, 0);
    world.spool().append({scheduled(1)}, nullptr, 0);
    world.spool().turn();
    world.spool().close();
    ASSERT_FALSE(problems.empty());
    EXPECT_THAT(problems.back(), testing::StartsWith("2 batches could not be written before the journal was closed"));
}

TEST(FullDisk, RoomForAReserveAloneIsNoReasonToLeaveIt) {
    FakeDisk disk;
    disk.set_capacity(512 << 10);
    TurnedSpool world(disk, reclaiming_options(), quick_tuning());
    disk.overwrite("/other", std::string((512 - 96 - 40) << 10, 'x'));  // a segment takes 64, the reserve 32
    for (std::uint64_t id = 1; world.append(MessageRecord{test_message(id, 4000)}); ++id)
        ASSERT_LT(id, 20u);
    world.spool().turn();
    ASSERT_EQ(world.spool().status().why_not, "the disk is full; only outcomes are recorded");
    const std::uint64_t syncs = disk.syncs();
    for (int turn = 0; turn < 20; ++turn)
        world.spool().turn();
    EXPECT_EQ(disk.syncs(), syncs);
    EXPECT_TRUE(world.append(delivered(1)));
    disk.overwrite("/other", "");
    world.spool().turn();
    EXPECT_TRUE(world.spool().accepting()) << world.spool().status().why_not;
}

// The segment behind a used-up reserve is begun before the reserve has its index: the power may go in between.
TEST(FullDisk, APowerCutWhileTheReserveIsFollowedLosesNothing) {
    bool followed = false;
    for (std::uint64_t n = 1; !followed; ++n) {
        SCOPED_TRACE("no power from operation " + std::to_string(n));
        FakeDisk disk(n);
        disk.set_capacity(512 << 10);
        Options options = reclaiming_options();
        options.free_bytes_min = 1 << 30;  // so that the reserve is left only when it is used up
        std::map<std::uint64_t, int> attempts;  // as acknowledged
        std::uint64_t last = 0;
        {
            TurnedSpool world(disk, options, quick_tuning());
            disk.overwrite("/other", std::string((512 - 97) << 10, 'x'));
            while (world.append(MessageRecord{test_message(last + 1, 4000)}))
                attempts[++last] = 0;
            world.spool().turn();
            ASSERT_EQ(world.spool().status().why_not, "the disk is full; only outcomes are recorded");
            disk.overwrite("/other", std::string((512 - 97 - 70) << 10, 'x'));
            disk.cut_power_at(n);
            for (std::uint64_t round = 1; round <= 6; ++round) {
                for (std::uint64_t id = 1; id <= last; ++id) {
                    ScheduleRecord again = scheduled(id);
                    again.attempts = static_cast<std::uint16_t>(round);
                    if (world.append(again)) attempts[id] = static_cast<int>(round);
                }
            }
            followed = !disk.power_is_off();
            disk.cut_power_at(1);
        }
        disk.restart();
        disk.set_capacity(UINT64_MAX);
        TurnedSpool again(disk, reclaiming_options(), quick_tuning());
        EXPECT_EQ(again.report.corrupt_batches, 0u);
        ASSERT_EQ(again.told.size(), last);
        for (const auto& [item, told] : again.told) {
            EXPECT_GE(told.item.attempts, attempts[item.message.value]) << item.text();
            EXPECT_TRUE(again.spool().load(item.message));
        }
        if (HasFailure()) return;
        if (followed) EXPECT_GT(n, 6 * 2 * last + 5) << "nothing but writes and syncs: no segment was begun";
    }
}

}  // namespace
}  // namespace sluice::spool
