// Failing operations, full disks and damaged bytes, on the fake disk.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "base/crc32c.h"
#include "base/random.h"
#include "spool/fake_disk.h"
#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* directory = "/spool";
constexpr const char* first_segment = "/spool/0000000001.seg";

Options fault_options() {
    Options options = small_options(directory);
    options.segment_bytes = 16 << 10;
    options.reserve_bytes = 8 << 10;
    return options;
}

// A bit of everything, in a fixed order; says what was acknowledged.
struct Story {
    std::set<std::uint64_t> accepted, refused, decided, maybe_decided;

    void tell(OpenSpool& world) {
        for (std::uint64_t id = 1; id <= 24; ++id) {
            const bool taken = world.append(MessageRecord{test_message(id, 1500)}).has_value();
            (taken ? accepted : refused).insert(id);
            EXPECT_EQ(world.spool->load(MessageId{id}).has_value(), taken) << id;
            if (id % 6 == 0 || !accepted.contains(id)) continue;
            (world.append(delivered(id)) ? decided : maybe_decided).insert(id);
        }
    }
    // Once a later batch is durable, what was refused is gone for good: its sequence is another batch's.
    void check(const Told& told) const {
        for (const std::uint64_t id : refused)
            EXPECT_FALSE(told.contains(ItemId{MessageId{id}, 0})) << "refused, and came back: " << id;
        for (const std::uint64_t id : accepted) {
            const bool there = told.contains(ItemId{MessageId{id}, 0});
            if (decided.contains(id))
                EXPECT_FALSE(there) << "came back: " << id;
            else if (!maybe_decided.contains(id))
                EXPECT_TRUE(there) << "lost: " << id;
        }
    }
};

class NthFailure : public testing::TestWithParam<int> {};

// FM-10, FM-11, FM-14, FM-15: whichever operation fails, and however, nothing acknowledged is lost, nothing that
// was refused or decided comes back; the spool goes on by itself.
TEST_P(NthFailure, LosesNothing) {
    for (std::uint64_t n = 1;; ++n) {
        SCOPED_TRACE("operation " + std::to_string(n) + " fails");
        FakeDisk disk(n);
        disk.fail_operation(n, GetParam());
        Story story;
        {
            OpenSpool world(disk, fault_options(), quick_tuning());
            if (!world.error) {
                story.tell(world);
                // One of two must succeed: only one operation fails.
                const bool first = world.append(MessageRecord{test_message(100, 100)}).has_value();
                const bool second = world.append(MessageRecord{test_message(101, 100)}).has_value();
                EXPECT_TRUE(first || second) << "does not go on";
            }
            if (n % 2 == 0) disk.cut_power_at(1);
        }
        const bool done = disk.operations() < n;
        disk.restart();
        OpenSpool again(disk, fault_options(), quick_tuning());
        ASSERT_FALSE(again.error) << again.error->text();
        EXPECT_EQ(again.report.corrupt_batches, 0u);
        story.check(again.told);
        for (const auto& [item, told] : again.told)
            EXPECT_TRUE(again.spool->load(item.message));
        if (done || HasFailure()) return;
    }
}
INSTANTIATE_TEST_SUITE_P(Errors, NthFailure, testing::Values(EIO, ENOSPC));

TEST(SyncFailure, IsNeverRetriedOnTheSameDataAndAcceptingStopsUntilTheDiskWorks) {
    FakeDisk disk;
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 100)}));
        disk.fail_syncs(true);
        const Result<> refused = world.append(MessageRecord{test_message(2, 100)});
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::disk_failed);
        EXPECT_FALSE(world.append(MessageRecord{test_message(3, 100)}));
        EXPECT_FALSE(world.spool->accepting());
        // Nobody waits for this one, so the spool itself must not forget it.
        world.spool->append({delivered(1)}, nullptr, 0);
        disk.fail_syncs(false);
        // The writer asks the disk again by itself.
        while (!world.spool->accepting())
            std::this_thread::yield();
        EXPECT_TRUE(world.append(MessageRecord{test_message(4, 100)}));
        EXPECT_EQ(world.spool->load(MessageId{1}).error().code, Errc::not_found);
        EXPECT_EQ(world.spool->load(MessageId{2}).error().code, Errc::not_found);
        EXPECT_GE(world.spool->status().sync_failures, 1u);
        disk.cut_power_at(1);
    }
    disk.restart();
    OpenSpool again(disk, fault_options(), quick_tuning());
    ASSERT_EQ(again.told.size(), 1u);
    EXPECT_EQ(again.told.begin()->first.message, MessageId{4});
}

// Waits until only the segment that is being written is left; false when that does not happen.
bool comes_down_to_one_segment(const OpenSpool& world) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (world.spool->status().segments > 1) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::yield();
    }
    return true;
}

// A name that cannot be taken away, or a directory that cannot be synced, is tried again.
TEST(Reclaiming, GoesOnWhicheverOperationFailed) {
    bool directory_failed = false;
    for (std::uint64_t n = 1;; ++n) {
        SCOPED_TRACE("operation " + std::to_string(n) + " fails");
        FakeDisk disk(n);
        OpenSpool world(disk, fault_options(), quick_tuning());
        const std::uint64_t before = disk.operations();
        disk.fail_operation(n, EIO);
        for (std::uint64_t id = 1; id <= 24; ++id) {
            if (world.append(MessageRecord{test_message(id, 1500)})) world.spool->append({delivered(id)}, nullptr, 0);
        }
        // So that the head is a segment behind all of these.
        ASSERT_TRUE(comes_down_to_one_segment(world)) << world.spool->status().last_problem;
        directory_failed |= world.spool->status().last_problem.starts_with("fsync /spool");
        const bool done = disk.operations() - before < n;
        world.spool.reset();
        disk.restart();
        OpenSpool again(disk, fault_options(), quick_tuning());
        EXPECT_THAT(again.told, IsEmpty());
        if (HasFailure()) return;
        if (done) break;
    }
    EXPECT_TRUE(directory_failed) << "no failure met the directory of a dropped segment";
}

TEST(Problems, AreToldOnceForEachFailure) {
    FakeDisk disk;
    std::mutex mutex;
    std::vector<std::string> told;
    Options options = fault_options();
    options.on_problem = [&](const std::string& sentence) {
        const std::lock_guard lock(mutex);
        told.push_back(sentence);
    };
    OpenSpool world(disk, options, quick_tuning());
    disk.fail_syncs(true);
    for (std::uint64_t id = 1; id <= 5; ++id)
        EXPECT_FALSE(world.append(MessageRecord{test_message(id, 100)}));
    disk.fail_syncs(false);
    while (!world.spool->accepting())
        std::this_thread::yield();
    world.spool->close();
    ASSERT_THAT(told, ElementsAre(HasSubstr("the journal cannot be written: fdatasync")));
}

TEST(FullDisk, RefusesMessagesRecordsOutcomesAndRecovers) {
    FakeDisk disk;
    const std::uint64_t capacity = 120 << 10;
    disk.set_capacity(capacity);
    OpenSpool world(disk, fault_options(), quick_tuning());
    std::vector<std::uint64_t> accepted;
    Result<> last;
    for (std::uint64_t id = 1; id < 200 && last; ++id) {
        last = world.append(MessageRecord{test_message(id, 1500)});
        if (last) accepted.push_back(id);
    }
    ASSERT_FALSE(last);
    EXPECT_EQ(last.error().code, Errc::disk_full);
    EXPECT_GT(accepted.size(), 40u);
    // The writer learns of it with its next look at the disk.
    EXPECT_FALSE(world.append(MessageRecord{test_message(500, 1500)}));
    EXPECT_FALSE(world.spool->accepting());
    EXPECT_FALSE(world.spool->status().why_not.empty());

    for (const std::uint64_t id : accepted)
        EXPECT_TRUE(world.append(delivered(id))) << id;
    while (!world.spool->accepting())
        std::this_thread::yield();
    EXPECT_TRUE(world.append(MessageRecord{test_message(501, 1500)}));
    world.spool->close();
    OpenSpool again(disk, fault_options(), quick_tuning());
    EXPECT_EQ(again.told.size(), 1u);
}

TEST(FullDisk, ADiskSmallerThanASegmentGetsASmallerSegment) {
    FakeDisk disk;
    disk.set_capacity(5 << 20);
    Options options = fault_options();
    options.segment_bytes = 8 << 20;
    OpenSpool world(disk, options, quick_tuning());
    EXPECT_TRUE(world.append(MessageRecord{test_message(1, 1500)}));
    EXPECT_EQ(disk.contents(first_segment).size(), 4u << 20);
}

TEST(FullDisk, LowSpaceStopsAcceptingBeforeItHurts) {
    FakeDisk disk;
    disk.set_capacity(100 << 10);
    Options options = fault_options();
    options.free_bytes_min = 95 << 10;
    const OpenSpool world(disk, options, quick_tuning());
    EXPECT_FALSE(world.spool->accepting());
    EXPECT_THAT(world.spool->status().why_not, HasSubstr("free"));
}

// FM-16: without it outcomes of a full disk would be known to the process alone.
TEST(FullDisk, NothingIsAcceptedWithoutTheReserve) {
    FakeDisk disk;
    disk.set_capacity(100 << 10);
    disk.overwrite("/other", std::string(95 << 10, 'x'));
    const OpenSpool world(disk, fault_options(), quick_tuning());
    ASSERT_FALSE(world.error);
    EXPECT_FALSE(world.spool->accepting());
    EXPECT_NE(world.spool->status().why_not, "");
    disk.overwrite("/other", std::string(40 << 10, 'x'));
    while (!world.spool->accepting())
        std::this_thread::yield();
    EXPECT_EQ(disk.contents("/spool/reserve.seg").size(), 8u << 10);
}

// The first segment as a crash leaves it: not sealed, three batches of one message.
std::string crashed_segment(FakeDisk& disk) {
    OpenSpool world(disk, fault_options(), quick_tuning());
    for (std::uint64_t id = 1; id <= 3; ++id)
        EXPECT_TRUE(world.append(MessageRecord{test_message(id, 700)}));
    disk.cut_power_at(1);
    world.spool.reset();
    disk.restart();
    return disk.contents(first_segment);
}

TEST(TornTail, AnUnfinishedLastBatchIsLeftOutAndTheRestStays) {
    FakeDisk disk;
    const std::string whole = crashed_segment(disk);
    const std::size_t third = whole.find("rcpt0", whole.find("sender3")) / 512 * 512;
    for (const std::size_t cut : {third + 100, third + 512, third + 900}) {
        FakeDisk torn;
        std::string bytes = whole;
        std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(cut), bytes.end(), '\0');
        torn.overwrite(first_segment, bytes);
        for (int start = 0; start < 3; ++start) {
            OpenSpool world(torn, fault_options(), quick_tuning());
            ASSERT_FALSE(world.error);
            EXPECT_EQ(world.told.size(), 2u);
            EXPECT_EQ(world.report.corrupt_batches, 0u);
            if (start == 0) EXPECT_GT(world.report.torn_bytes, 0u);
        }
    }
}

TEST(Damage, InTheMiddleIsQuarantinedAndWhatIsWholeStays) {
    FakeDisk disk;
    std::string bytes = crashed_segment(disk);
    bytes[bytes.find("sender2")] ^= 1;
    disk.overwrite(first_segment, bytes);
    OpenSpool world(disk, fault_options(), quick_tuning());
    ASSERT_FALSE(world.error);
    EXPECT_EQ(world.told.size(), 2u);
    EXPECT_FALSE(world.told.contains(ItemId{MessageId{2}, 0}));
    EXPECT_EQ(world.report.corrupt_batches, 1u);
    ASSERT_THAT(world.report.warnings, ElementsAre(HasSubstr("0000000001.seg: damaged batch at offset")));
    EXPECT_EQ(disk.contents("/spool/quarantine/0000000001.seg"), bytes);
}

// FM-13: any flipped bit is found; what is delivered is what was accepted.
TEST(Damage, AThousandFlippedBitsNeverAlterAMessageSilently) {
    FakeDisk disk;
    const std::string crashed = crashed_segment(disk);
    {
        const OpenSpool seals(disk, fault_options(), quick_tuning());
    }
    const std::string sealed = disk.contents(first_segment);
    Random random(13);
    int reported = 0;
    for (int variant = 0; variant < 1000; ++variant) {
        SCOPED_TRACE("variant " + std::to_string(variant));
        std::string bytes = variant % 2 == 0 ? crashed : sealed;
        // The tail of a crashed segment was never written.
        const std::size_t used = std::min<std::size_t>(bytes.size(), 512 + 3 * 1536);
        const std::size_t bit = random.below((variant % 2 == 0 ? used : bytes.size()) * 8);
        bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
        FakeDisk damaged;
        damaged.overwrite(first_segment, bytes);
        OpenSpool world(damaged, fault_options(), quick_tuning());
        ASSERT_FALSE(world.error) << world.error->text();
        std::size_t whole = 0;
        bool load_failed = false;
        for (std::uint64_t id = 1; id <= 3; ++id) {
            const auto loaded = world.spool->load(MessageId{id});
            if (loaded) {
                ++whole;
                expect_same(**loaded, *test_message(id, 700));
            } else {
                load_failed |= loaded.error().code == Errc::corrupt;
            }
        }
        const bool said = world.report.corrupt_batches > 0 || world.report.torn_bytes > 0 ||
                          !world.report.warnings.empty() || load_failed;
        reported += said ? 1 : 0;
        if (whole < 3) EXPECT_TRUE(said) << "a message vanished without a word, bit " << bit;
        if (HasFailure()) return;
    }
    EXPECT_GT(reported, 500);
}

TEST(Damage, OfAPlacedMessageIsReportedByLoadAndTheOthersGoOn) {
    FakeDisk disk;
    OpenSpool world(disk, fault_options(), quick_tuning());
    ASSERT_TRUE(world.append(MessageRecord{test_message(1, 700)}));
    ASSERT_TRUE(world.append(MessageRecord{test_message(2, 700)}));
    world.spool->close();
    std::string bytes = disk.contents(first_segment);
    bytes[bytes.find("bbbb") + 9] ^= 4;
    disk.overwrite(first_segment, bytes);

    OpenSpool again(disk, fault_options(), quick_tuning());
    EXPECT_EQ(again.told.size(), 2u);
    EXPECT_EQ(again.spool->load(MessageId{1}).error().code, Errc::corrupt);
    EXPECT_TRUE(again.spool->load(MessageId{2}));
    // The writer keeps the evidence.
    ASSERT_TRUE(again.append(delivered(2)));
    ASSERT_TRUE(again.append(delivered(1)));
    again.spool->close();
    EXPECT_GE(again.spool->status().problems, 1u);
    EXPECT_THAT(again.spool->status().last_problem, HasSubstr("0000000001.seg"));
    EXPECT_EQ(disk.contents("/spool/quarantine/0000000001.seg"), bytes);
}

// Nobody can read whom it is for, and yet an operator gets rid of it for good.
TEST(Damage, AnItemOfADamagedMessageCanBeRemoved) {
    FakeDisk disk;
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 700, {{"a.test", {0, 2}}, {"b.test", {1}}})}));
        ASSERT_TRUE(world.append(MessageRecord{test_message(2, 700)}));
        ASSERT_TRUE(world.append(delivered(1, 0, {2})));
    }
    std::string bytes = disk.contents(first_segment);
    bytes[bytes.find("bbbb") + 9] ^= 4;
    disk.overwrite(first_segment, bytes);
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        ASSERT_EQ(world.told.size(), 3u);
        ASSERT_EQ(world.spool->load(MessageId{1}).error().code, Errc::corrupt);
        ASSERT_TRUE(world.append(delivered(1, 0, {})));
        ASSERT_TRUE(world.append(delivered(1, 0, {}))) << "nobody is left: nothing to write";
        ASSERT_TRUE(world.append(delivered(9, 0, {}))) << "nobody knows it: nothing to write";
    }
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        EXPECT_FALSE(world.told.contains(ItemId{MessageId{1}, 0}));
        EXPECT_TRUE(world.told.contains(ItemId{MessageId{1}, 1}));
        ASSERT_TRUE(world.append(delivered(1, 1, {})));
        EXPECT_EQ(world.spool->load(MessageId{1}).error().code, Errc::not_found);
        EXPECT_EQ(world.spool->status().waiting_bytes, 0u);
    }
    OpenSpool again(disk, fault_options(), quick_tuning());
    EXPECT_EQ(again.told.size(), 1u);
}

// A file that the file system emptied is told from one that was never begun.
TEST(Damage, OfAWholeSegmentIsSeenByItsNeighbours) {
    FakeDisk disk;
    Options options = fault_options();
    {
        OpenSpool world(disk, options, quick_tuning());
        for (std::uint64_t id = 1; id <= 24; ++id)
            ASSERT_TRUE(world.append(MessageRecord{test_message(id, 1500)}));
    }
    disk.overwrite("/spool/0000000002.seg", "");
    OpenSpool again(disk, options, quick_tuning());
    ASSERT_FALSE(again.error);
    EXPECT_LT(again.told.size(), 24u);
    EXPECT_EQ(again.report.corrupt_batches, 24 - again.told.size());
    ASSERT_THAT(again.report.warnings, ElementsAre(HasSubstr("0000000002.seg: empty, but it held")));
    EXPECT_EQ(disk.contents("/spool/quarantine/0000000002.seg"), "");
}

TEST(Damage, AFileThatWasNeverBegunIsRemovedWithAWord) {
    FakeDisk disk;
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 100)}));
    }
    disk.overwrite("/spool/0000000002.seg", std::string(1024, '\0'));
    OpenSpool again(disk, fault_options(), quick_tuning());
    EXPECT_EQ(again.told.size(), 1u);
    EXPECT_EQ(again.report.corrupt_batches, 0u);
    EXPECT_THAT(again.report.warnings, ElementsAre("0000000002.seg: never begun, removed"));
}

TEST(Damage, AHeaderThatWasNeverFinishedIsNone) {
    FakeDisk disk;
    {
        OpenSpool world(disk, fault_options(), quick_tuning());
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 100)}));
    }
    disk.overwrite("/spool/0000000002.seg", std::string(1024, '\x5a'));
    OpenSpool again(disk, fault_options(), quick_tuning());
    EXPECT_EQ(again.told.size(), 1u);
    EXPECT_EQ(again.report.corrupt_batches, 0u);
    EXPECT_THAT(again.report.warnings, ElementsAre("0000000002.seg: unreadable, without a batch, removed"));
    EXPECT_EQ(disk.contents("/spool/quarantine/0000000002.seg"), std::string(1024, '\x5a'));
}

// FM-21: a journal of the future is refused and left alone.
TEST(Format, ANewerVersionIsRefusedCleanly) {
    FakeDisk disk;
    crashed_segment(disk);
    std::string bytes = disk.contents(first_segment);
    std::string sector = bytes.substr(0, sector_bytes);
    sector[8] = 2;  // the version
    sector.resize(sector_bytes - 4);
    const std::uint32_t crc = crc32c(sector);
    for (int i = 0; i < 4; ++i)
        sector.push_back(static_cast<char>(crc >> 8 * i));
    bytes.replace(0, sector_bytes, sector);
    disk.overwrite(first_segment, bytes);

    const OpenSpool world(disk, fault_options(), quick_tuning());
    ASSERT_TRUE(world.error);
    EXPECT_EQ(world.error->code, Errc::unsupported);
    EXPECT_THAT(world.error->detail, HasSubstr("0000000001.seg"));
    EXPECT_EQ(disk.contents(first_segment), bytes);
}

TEST(Recycling, RecordsOfAnEarlierLifeOfTheFileNeverCount) {
    FakeDisk disk;
    std::uint64_t id = 0;
    for (int life = 0; life < 12; ++life) {
        OpenSpool world(disk, fault_options(), quick_tuning());
        EXPECT_THAT(world.told, IsEmpty());
        for (int i = 0; i < 40; ++i) {
            ++id;
            ASSERT_TRUE(world.append(MessageRecord{test_message(id, 1500)}));
            ASSERT_TRUE(world.append(delivered(id)));
        }
        disk.cut_power_at(1);
        world.spool.reset();
        disk.restart();
    }
}

}  // namespace
}  // namespace sluice::spool
