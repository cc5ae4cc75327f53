// What survives power cuts, failing disks and full disks, on the fake disk.

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "base/random.h"
#include "spool/fake_disk.h"
#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

constexpr const char* directory = "/spool";

Options model_options() {
    Options options = small_options(directory);
    options.segment_bytes = 16 << 10;
    options.reserve_bytes = 8 << 10;
    return options;
}

// `rewrite_bytes_max` 1: every copied record goes out in a group of its own.
Tuning model_tuning(std::uint64_t rewrite_bytes_max = 4 << 10) {
    Tuning tuning = quick_tuning();
    tuning.rewrite_bytes_max = rewrite_bytes_max;
    return tuning;
}

// What must be true of one recipient after a crash.
enum class Fate : std::uint8_t { undecided, maybe_decided, decided };

struct ModelMessage {
    mail::MessagePtr message;
    bool acknowledged = false;
    std::vector<Fate> fates;              // by recipient
    std::vector<std::int64_t> schedules;  // by item: the latest acknowledged next attempt; -1: none
    std::vector<std::int64_t> maybe_schedules;
    std::size_t told = 0;
};

// Drives a spool at random, keeps book of what was promised, and compares after each crash.
class Model {
public:
    explicit Model(std::uint64_t seed)
        : random_(seed), disk_(seed * 31 + 7), tuning_(model_tuning(seed % 2 == 0 ? 1 : 4 << 10)) {}

    void run(int lives) {
        for (int life = 0; life < lives; ++life) {
            OpenSpool world(disk_, model_options(), tuning_);
            ASSERT_FALSE(world.error) << world.error->text();
            EXPECT_EQ(world.report.corrupt_batches, 0u);
            check(world);
            if (testing::Test::HasFailure()) return;
            const bool crash = !random_.chance(0.2);
            if (crash) disk_.cut_power_at(1 + random_.below(400));
            const int steps = static_cast<int>(random_.below(150));
            for (int step = 0; step < steps; ++step)
                one_step(world);
            if (!crash) world.spool->close();
            disk_.cut_power_at(1);
            world.spool.reset();
            disk_.restart();
            maybe_crash_in_recovery();
        }
        OpenSpool world(disk_, model_options(), tuning_);
        ASSERT_FALSE(world.error);
        check(world);
    }

private:
    // Recovery itself may be killed at any point, several times.
    void maybe_crash_in_recovery() {
        while (random_.chance(0.4)) {
            disk_.cut_power_at(1 + random_.below(30));
            {
                const OpenSpool killed(disk_, model_options(), tuning_);
            }
            disk_.restart();
        }
    }

    void one_step(OpenSpool& world) {
        const std::uint64_t dice = random_.below(10);
        if (dice < 4 || messages_.empty())
            add_messages(world);
        else if (dice < 8)
            decide(world);
        else
            schedule(world);
    }

    void add_messages(OpenSpool& world) {
        Batch batch;
        std::vector<std::uint64_t> added;
        const std::uint64_t count = 1 + random_.below(3);
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t id = ++last_id_;
            ModelMessage entry;
            const bool simple = random_.chance(0.6);
            std::vector<mail::ItemSpec> items = {{"d.test", {0}}};
            if (!simple) items = {{"a.test", {0, 2}}, {"b.test", {1, 3}}};
            entry.message = test_message(id, random_.below(3000), items);
            entry.fates.assign(simple ? 1 : 4, Fate::undecided);
            entry.schedules.assign(items.size(), -1);
            entry.maybe_schedules.assign(items.size(), -1);
            batch.push_back(MessageRecord{entry.message});
            messages_[id] = std::move(entry);
            added.push_back(id);
        }
        const Result<> result = world.append(std::move(batch));
        batches_.push_back(added);
        for (const std::uint64_t id : added)
            messages_[id].acknowledged = result.has_value();
        if (!result) unsure_.insert(added.begin(), added.end());
    }

    std::uint64_t any_message() {
        auto at = messages_.begin();
        // Recent messages are decided soon, a few stay for long.
        const std::size_t recent =
            random_.chance(0.9) ? std::min<std::size_t>(messages_.size(), 20) : messages_.size();
        std::advance(at, static_cast<std::ptrdiff_t>(messages_.size() - recent + random_.below(recent)));
        return at->first;
    }

    void decide(OpenSpool& world) {
        const std::uint64_t id = any_message();
        ModelMessage& entry = messages_.at(id);
        if (!entry.acknowledged) return;
        const auto item = static_cast<std::uint32_t>(random_.below(entry.message->items.size()));
        std::vector<std::uint32_t> recipients;
        for (const std::uint32_t recipient : entry.message->items[item].recipients) {
            if (random_.chance(0.7) && entry.fates[recipient] != Fate::decided)
                recipients.push_back(recipient);
        }
        if (recipients.empty()) return;
        const Result<> result = world.append(delivered(id, item, recipients));
        for (const std::uint32_t recipient : recipients) {
            entry.fates[recipient] = result ? Fate::decided : Fate::maybe_decided;
        }
    }

    void schedule(OpenSpool& world) {
        const std::uint64_t id = any_message();
        ModelMessage& entry = messages_.at(id);
        if (!entry.acknowledged) return;
        const auto item = static_cast<std::uint32_t>(random_.below(entry.message->items.size()));
        const std::int64_t next = ++last_schedule_;
        ScheduleRecord record{ItemId{entry.message->id, item}, 2, instant_from_ms(next), false, "451 later"};
        entry.maybe_schedules[item] = next;
        if (world.append(record)) entry.schedules[item] = next;
    }

    void check(OpenSpool& world) {
        for (auto& [id, entry] : messages_)
            entry.told = 0;
        for (const auto& [item, told] : world.told)
            check_item(item, told);
        for (const auto& [id, entry] : messages_)
            check_message(world, id, entry);
        check_batches();
        settle(world);
    }

    void check_item(const ItemId& item, const ToldItem& told) {
        ASSERT_TRUE(messages_.contains(item.message.value)) << "never appended: " << item.text();
        ModelMessage& entry = messages_.at(item.message.value);
        entry.told += told.pending.size();
        for (const std::uint32_t recipient : told.pending) {
            EXPECT_NE(entry.fates[recipient], Fate::decided)
                << "came back: " << item.text() << " " << recipient;
        }
        const std::int64_t next = to_ms(told.item.next);
        const std::int64_t sure = entry.schedules[item.index];
        const std::int64_t maybe = entry.maybe_schedules[item.index];
        if (sure >= 0)
            EXPECT_TRUE(next == sure || next == maybe) << item.text() << " " << next << " " << sure;
    }

    void check_message(OpenSpool& world, std::uint64_t id, const ModelMessage& entry) {
        std::size_t at_least = 0;
        for (const Fate fate : entry.fates)
            at_least += fate == Fate::undecided ? 1 : 0;
        if (entry.acknowledged) EXPECT_GE(entry.told, at_least) << "lost: message " << id;
        if (entry.told == 0) return;
        const auto loaded = world.spool->load(entry.message->id);
        ASSERT_TRUE(loaded) << loaded.error().text();
        expect_same(**loaded, *entry.message);
    }

    // A batch nobody was told about is there whole or not at all.
    void check_batches() {
        for (const auto& batch : batches_) {
            std::set<bool> seen;
            for (const std::uint64_t id : batch) {
                if (unsure_.contains(id)) seen.insert(messages_.at(id).told > 0);
            }
            EXPECT_LE(seen.size(), 1u) << "torn batch at message " << batch.front();
        }
        batches_.clear();
        unsure_.clear();
    }

    // From now on the truth is what recovery said.
    void settle(OpenSpool& world) {
        for (auto entry = messages_.begin(); entry != messages_.end();) {
            ModelMessage& message = entry->second;
            message.acknowledged = message.told > 0;
            for (std::uint32_t i = 0; i < message.message->items.size(); ++i) {
                const ItemId item{message.message->id, i};
                const auto told = world.told.find(item);
                for (const std::uint32_t recipient : message.message->items[i].recipients) {
                    const bool pending =
                        told != world.told.end() &&
                        std::count(told->second.pending.begin(), told->second.pending.end(), recipient) == 1;
                    message.fates[recipient] = pending ? Fate::undecided : Fate::decided;
                }
                if (told != world.told.end() && told->second.item.attempts > 0) {
                    message.schedules[i] = message.maybe_schedules[i] = to_ms(told->second.item.next);
                }
            }
            // Once gone it must stay gone, so decided messages are kept in the book.
            ++entry;
        }
    }

    Random random_;
    FakeDisk disk_;
    Tuning tuning_;
    std::map<std::uint64_t, ModelMessage> messages_;
    std::vector<std::vector<std::uint64_t>> batches_;
    std::set<std::uint64_t> unsure_;
    std::uint64_t last_id_ = 0;
    std::int64_t last_schedule_ = 10'000'000;
};

// Acknowledged messages are recovered, decided recipients never come back, unacknowledged batches are there
// whole or not at all, schedules are kept: over crashes at random points, also in recovery and while space is
// reclaimed.
TEST(SpoolModel, PromisesHoldOverCrashes) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Model(seed).run(8);
        if (HasFailure()) return;
    }
}

// The process is killed with a batch that only the cache holds, recovery finds it and writes an index, and then the power
// fails: the index may not be on the disk without what it tells of.
TEST(PowerCut, AnIndexNeverSurvivesWithoutItsBatches) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        FakeDisk disk(seed);
        {
            OpenSpool first(disk, model_options(), model_tuning());
            ASSERT_TRUE(first.append(MessageRecord{test_message(1, 3000)}));
            disk.fail_syncs(true);
            EXPECT_FALSE(first.append(MessageRecord{test_message(2, 3000)}));
            disk.cut_power_at(1);
        }
        disk.restart_process();
        disk.fail_syncs(seed % 2 == 0);
        {
            const OpenSpool second(disk, model_options(), model_tuning());
            disk.cut_power_at(1);
        }
        disk.restart();
        const OpenSpool third(disk, model_options(), model_tuning());
        ASSERT_FALSE(third.error) << third.error->text();
        EXPECT_EQ(third.report.corrupt_batches, 0u);
        EXPECT_TRUE(third.told.contains(ItemId{MessageId{1}, 0}));
        for (const auto& [item, told] : third.told) {
            const auto message = third.spool->load(item.message);
            ASSERT_TRUE(message.has_value()) << message.error().text();
        }
    }
}

// Hot mail whose outcomes come a little later than itself: they keep one segment after the other alive, as
// long as the first one stays.
void let_mail_flow(OpenSpool& world, std::uint64_t& id) {
    constexpr std::uint64_t count = 150, late = 12;
    for (std::uint64_t i = 0; i < count + late; ++i) {
        if (i < count) ASSERT_TRUE(world.append(MessageRecord{test_message(id + 1 + i, 1500)}));
        if (i >= late) ASSERT_TRUE(world.append(delivered(id + 1 + i - late)));
    }
    id += count;
}

// Several schedules of one item in a segment that is emptied record by record: the last one wins, however
// often it and its message are copied.
TEST(Reclaiming, KeepsTheLatestScheduleAndHold) {
    FakeDisk disk;
    std::uint64_t id = 1;
    for (int life = 0; life < 5; ++life) {
        OpenSpool world(disk, model_options(), model_tuning(1));
        if (life > 0) {
            ASSERT_EQ(world.told.size(), 1u);
            const RecoveredItem& told = world.told.begin()->second.item;
            EXPECT_EQ(to_ms(told.next), 200 + life - 1);
            EXPECT_TRUE(told.held);
            EXPECT_EQ(world.told.begin()->second.changes, "changed");
        } else {
            ASSERT_TRUE(world.append(MessageRecord{test_message(1, 10)}));
        }
        const ItemId item{MessageId{1}, 0};
        for (const std::int64_t next : {100, 300, 200 + life}) {
            ASSERT_TRUE(world.append(ScheduleRecord{item, 2, instant_from_ms(next), false, "451"}));
            ASSERT_TRUE(world.append(HoldRecord{item, next != 300, "operator", next == 300 ? "" : "changed"}));
        }
        let_mail_flow(world, id);
        EXPECT_GT(world.spool->status().rewritten_bytes, 0u);
    }
}

}  // namespace
}  // namespace sluice::spool
