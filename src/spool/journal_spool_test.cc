#include "spool/journal_spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <set>

#include "base/random.h"
#include "spool/id_source.h"
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
        ScheduleRecord schedule{
            ItemId{message->id, 1}, 3, instant_from_ms(5'000'000), true, "451 4.7.1 later"
        };
        ASSERT_TRUE(world.append(schedule));
        ASSERT_TRUE(world.append(HoldRecord{ItemId{message->id, 0}, true, "operator"}));
        ASSERT_TRUE(world.append(HoldRecord{ItemId{message->id, 1}, true, "operator", "t1:y"}));
        ASSERT_TRUE(world.append(HoldRecord{ItemId{message->id, 1}, false, "operator", "t1:x"}));
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
        EXPECT_EQ(a.changes, "");
        const ToldItem& b = world.told.at(ItemId{message->id, 1});
        EXPECT_THAT(b.pending, ElementsAre(1));
        EXPECT_EQ(b.item.attempts, 3);
        EXPECT_EQ(b.item.next, instant_from_ms(5'000'000));
        EXPECT_TRUE(b.item.delay_notified);
        EXPECT_EQ(b.last_reply, "451 4.7.1 later");
        EXPECT_FALSE(b.item.held);
        EXPECT_EQ(b.changes, "t1:x");
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
    for (std::uint64_t id = 2; id < 250; ++id) {
        ASSERT_TRUE(world.append(MessageRecord{test_message(id, 4000)}));
        ASSERT_TRUE(world.append(delivered(id)));
    }
    const Status status = world.spool->status();
    EXPECT_EQ(status.live_messages, 1u);
    EXPECT_LT(status.disk_bytes, 2 * status.live_bytes + 10 * options_.segment_bytes);
    EXPECT_GT(status.reclaimed_bytes, 500'000u);
    expect_same(**world.spool->load(MessageId{1}), *test_message(1, 4000));
    world.spool->close();
    OpenSpool again(*disk_, options_);
    EXPECT_EQ(again.told.size(), 1u);
}

// FM-22
TEST_F(JournalSpoolTest, ASecondInstanceIsRefusedAndToldWhoRuns) {
    const OpenSpool first(*disk_, options_);
    ASSERT_FALSE(first.error);
    const OpenSpool second(*disk_, options_);
    ASSERT_TRUE(second.error);
    EXPECT_EQ(second.error->code, Errc::locked);
    EXPECT_THAT(second.error->detail, testing::HasSubstr("pid " + std::to_string(::getpid())));
}

TEST_F(JournalSpoolTest, TheLockGoesWithTheInstance) {
    {
        const OpenSpool first(*disk_, options_);
    }
    const OpenSpool second(*disk_, options_);
    EXPECT_FALSE(second.error);
}

// Stops the writer inside a completion, so that a test knows what gathers meanwhile.
class Gate final : public CommitListener {
public:
    void committed(std::span<Committed>) override {
        std::unique_lock lock(mutex_);
        reached_ = true;
        changed_.notify_all();
        changed_.wait(lock, [&] { return open_; });
    }
    void wait_until_reached() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return reached_; });
    }
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool reached_ = false, open_ = false;
};

TEST_F(JournalSpoolTest, WhatGathersDuringOneSyncSharesTheNextAndOneCall) {
    OpenSpool world(*disk_, options_);
    Gate gate;
    world.spool->append({MessageRecord{test_message(1, 10)}}, &gate, 1);
    gate.wait_until_reached();
    for (std::uint64_t id = 2; id <= 21; ++id) {
        world.spool->append({MessageRecord{test_message(id, 10)}}, &world.listener, id);
    }
    EXPECT_GT(world.spool->status().waiting_bytes, 0u);
    gate.open();
    for (std::uint64_t id = 2; id <= 21; ++id)
        EXPECT_TRUE(world.listener.wait(id));
    EXPECT_EQ(world.listener.calls(), 1u);
    world.spool->close();
    EXPECT_EQ(world.spool->status().syncs, 2u);
    EXPECT_EQ(world.spool->status().waiting_bytes, 0u);
}

TEST_F(JournalSpoolTest, TooMuchWaitingStopsAcceptingUntilItIsSynced) {
    options_.queued_bytes_max = 10'000;
    OpenSpool world(*disk_, options_);
    Gate gate;
    world.spool->append({MessageRecord{test_message(1, 10)}}, &gate, 1);
    gate.wait_until_reached();
    EXPECT_TRUE(world.spool->accepting());
    world.spool->append({MessageRecord{test_message(2, 20'000)}}, &world.listener, 2);
    EXPECT_FALSE(world.spool->accepting());
    EXPECT_FALSE(world.spool->status().why_not.empty());
    gate.open();
    EXPECT_TRUE(world.listener.wait(2));
    EXPECT_TRUE(world.append(MessageRecord{test_message(3, 10)}));
    EXPECT_TRUE(world.spool->accepting());
}

TEST_F(JournalSpoolTest, CloseMakesEverythingThatWaitsDurable) {
    {
        OpenSpool world(*disk_, options_);
        for (std::uint64_t id = 1; id <= 300; ++id) {
            world.spool->append({MessageRecord{test_message(id, 300)}}, nullptr, 0);
        }
        world.spool->close();
    }
    OpenSpool again(*disk_, options_);
    EXPECT_EQ(again.told.size(), 300u);
    EXPECT_EQ(again.report.torn_bytes, 0u);
}

TEST_F(JournalSpoolTest, AMessageMayBeLargerThanASegment) {
    const auto message = test_message(1, 1 << 20);
    OpenSpool world(*disk_, options_);
    ASSERT_TRUE(world.append(MessageRecord{test_message(2, 10)}));
    ASSERT_TRUE(world.append(MessageRecord{message}));
    ASSERT_TRUE(world.append(MessageRecord{test_message(3, 10)}));
    expect_same(**world.spool->load(message->id), *message);
    world.spool->close();
    OpenSpool again(*disk_, options_);
    EXPECT_EQ(again.told.size(), 3u);
    expect_same(**again.spool->load(message->id), *message);
}

TEST_F(JournalSpoolTest, MoreMessagesThanAWriteTakesPiecesStillShareOneSync) {
    options_.segment_bytes = 16 << 20;
    OpenSpool world(*disk_, options_);
    Gate gate;
    world.spool->append({MessageRecord{test_message(1, 10)}}, &gate, 1);
    gate.wait_until_reached();
    constexpr std::uint64_t last = 1500;  // two pieces each: more than IOV_MAX
    for (std::uint64_t id = 2; id <= last; ++id) {
        world.spool->append({MessageRecord{test_message(id, 1100)}}, &world.listener, id);
    }
    gate.open();
    for (std::uint64_t id = 2; id <= last; ++id)
        ASSERT_TRUE(world.listener.wait(id));
    EXPECT_EQ(world.listener.calls(), 1u);
    for (std::uint64_t id = 2; id <= last; id += 97)
        expect_same(**world.spool->load(MessageId{id}), *test_message(id, 1100));
}

TEST_F(JournalSpoolTest, PoliciesAreKeptByKeyAndErasedByAnEmptyValue) {
    const auto policy = [](std::string key, std::string value) {
        return PolicyRecord{std::move(key), std::move(value)};
    };
    {
        OpenSpool world(*disk_, options_);
        ASSERT_TRUE(world.append({policy("a", "1"), policy("b", "2"), policy("c", "3")}));
        ASSERT_TRUE(world.append(policy("a", "4")));
        ASSERT_TRUE(world.append(MessageRecord{test_message(1, 10)}));  // keeps the first segment
        // Hot mail, some of which stays, makes the journal reclaim what held them.
        const auto pass_mail = [&](std::uint64_t from, std::uint64_t to) {
            for (std::uint64_t id = from; id < to; ++id) {
                ASSERT_TRUE(world.append(MessageRecord{test_message(id, 4000)}));
                if (id % 16 != 0) ASSERT_TRUE(world.append(delivered(id)));
            }
        };
        pass_mail(2, 150);
        ASSERT_TRUE(world.append(policy("b", "")));
        pass_mail(150, 300);
        EXPECT_GT(world.spool->status().rewritten_bytes, 0u);
    }
    OpenSpool again(*disk_, options_);
    ASSERT_EQ(again.report.policies.size(), 2u);
    EXPECT_EQ(again.report.policies[0].key, "a");
    EXPECT_EQ(again.report.policies[0].value, "4");
    EXPECT_EQ(again.report.policies[1].key, "c");
}

TEST_F(JournalSpoolTest, TheHighestIdAndTheLatestInstantOutliveTheirMessages) {
    for (int life = 0; life < 3; ++life) {
        OpenSpool world(*disk_, options_);
        if (life > 0) {
            EXPECT_EQ(world.report.last_id, MessageId{900});
            EXPECT_EQ(world.report.latest, instant_from_ms(2'000'000));
            continue;
        }
        ASSERT_TRUE(world.append(MessageRecord{test_message(900, 10)}));
        ASSERT_TRUE(world.append(delivered(900)));
    }
}

TEST_F(JournalSpoolTest, ReclaimedSegmentsAreWrittenAgain) {
    OpenSpool world(*disk_, options_);
    for (std::uint64_t id = 1; id < 200; ++id) {
        ASSERT_TRUE(world.append(MessageRecord{test_message(id, 4000)}));
        ASSERT_TRUE(world.append(delivered(id)));
    }
    EXPECT_GT(world.spool->status().reclaimed_bytes, 500'000u);
    EXPECT_LT(world.spool->status().disk_bytes, 8 * options_.segment_bytes);
}

// Appends and reports each durable message and outcome on `out`, until it is killed.
[[noreturn]] void write_until_killed(Disk& disk, const Options& options, int out, std::uint64_t id) {
    OpenSpool world(disk, options);
    const auto report = [&](char what) {
        char line[32];
        const int length =
            std::snprintf(line, sizeof line, "%c%llu\n", what, static_cast<unsigned long long>(id));
        if (::write(out, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
    };
    for (;; ++id) {
        if (!world.append(MessageRecord{test_message(id, 3000)})) ::_exit(1);
        report('+');
        if (id % 5 == 0) continue;
        if (!world.append(delivered(id))) ::_exit(1);
        report('-');
    }
}

// Kills the writer in mid-stream again and again. What it said was durable is, and nothing else came back.
TEST_F(JournalSpoolTest, SurvivesKillNine) {
    std::set<std::uint64_t> undecided;
    std::uint64_t next = 1;
    Random random(9);
    for (int round = 0; round < 15; ++round) {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            ::close(ends[0]);
            write_until_killed(*disk_, options_, ends[1], next);
        }
        ::close(ends[1]);
        FILE* const said = ::fdopen(ends[0], "r");
        char line[32];
        std::uint64_t last = next;
        for (std::uint64_t lines = 20 + random.below(80); std::fgets(line, sizeof line, said) != nullptr;
             --lines) {
            last = std::strtoull(line + 1, nullptr, 10);
            if (line[0] == '+')
                undecided.insert(last);
            else
                undecided.erase(last);
            if (lines == 1) ::kill(child, SIGKILL);
            if (lines == 0) lines = 1;
        }
        std::fclose(said);
        int ended = 0;
        ASSERT_EQ(::waitpid(child, &ended, 0), child);
        ASSERT_TRUE(WIFSIGNALED(ended));

        OpenSpool world(*disk_, options_);
        ASSERT_FALSE(world.error) << world.error->text();
        EXPECT_EQ(world.report.corrupt_batches, 0u);
        std::set<std::uint64_t> told;
        for (const auto& [item, about] : world.told)
            told.insert(item.message.value);
        // The last word may not have been spoken: the message after `last`, and the outcome of `last`.
        told.erase(last + 1);
        if (!told.contains(last)) undecided.erase(last);
        EXPECT_EQ(told, undecided);
        next = last + 2;
        ASSERT_TRUE(world.append(delivered(last + 1)));
    }
}

TEST_F(JournalSpoolTest, AppendLoadAndStatusMayBeCalledFromAnyThread) {
    OpenSpool world(*disk_, options_);
    constexpr std::uint64_t per_thread = 150;
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 3; ++t) {
        threads.emplace_back([&world, t] {
            Listener listener;
            for (std::uint64_t i = 0; i < per_thread; ++i) {
                const std::uint64_t id = t * per_thread + i + 1;
                world.spool->append({MessageRecord{test_message(id, 2000)}}, &listener, id);
                ASSERT_TRUE(listener.wait(id));
                const auto loaded = world.spool->load(MessageId{id});
                ASSERT_TRUE(loaded) << loaded.error().text();
                ASSERT_EQ((*loaded)->id, MessageId{id});
                world.spool->append({delivered(id)}, &listener, id + 100'000);
                ASSERT_TRUE(listener.wait(id + 100'000));
                ASSERT_LE(world.spool->status().live_messages, 3u);
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(world.spool->status().live_messages, 0u);
}

// Printed, not asserted: the budget is kept by bench/spool_bench.
TEST_F(JournalSpoolTest, RecoveryReadsIndexesAndTellsEveryItem) {
    options_.segment_bytes = 8 << 20;
    constexpr std::uint64_t count = 20'000;
    {
        OpenSpool world(*disk_, options_);
        for (std::uint64_t id = 1; id <= count; ++id) {
            world.spool->append({MessageRecord{test_message(id, 500)}}, nullptr, 0);
        }
    }
    const SystemClock clock;
    const Instant start = clock.now();
    OpenSpool again(*disk_, options_);
    std::printf(
        "recovered %zu items in %lld ms\n", again.told.size(),
        static_cast<long long>((clock.now() - start).count())
    );
    EXPECT_EQ(again.told.size(), count);
    EXPECT_EQ(again.report.messages, count);
}

TEST(IdSource, AscendsAboveTheJournalAndTheClock) {
    ManualClock clock(instant_from_ms(1000));
    const MessageId last{5000ull << 22 | 17};
    IdSource ahead(clock, last);
    EXPECT_EQ(ahead.next().value, last.value + 1);
    EXPECT_EQ(ahead.next().value, last.value + 2);
    clock.set(instant_from_ms(9000));
    EXPECT_EQ(ahead.next().value, 9000ull << 22);
    EXPECT_EQ(ahead.next().value, (9000ull << 22) + 1);
}

TEST(IdSource, NeverGivesAnIdTwiceToTwoThreads) {
    const SystemClock clock;
    IdSource ids(clock, MessageId{});
    std::vector<std::vector<MessageId>> taken(3);
    std::vector<std::thread> threads;
    for (auto& mine : taken) {
        threads.emplace_back([&ids, &mine] {
            for (int i = 0; i < 5000; ++i)
                mine.push_back(ids.next());
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    std::set<MessageId> all;
    for (const auto& mine : taken) {
        EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
        all.insert(mine.begin(), mine.end());
    }
    EXPECT_EQ(all.size(), 15'000u);
}

}  // namespace
}  // namespace sluice::spool
