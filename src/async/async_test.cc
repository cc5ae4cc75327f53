#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "async/blocking.h"
#include "async/mailbox.h"
#include "async/shard.h"
#include "async/task_group.h"

namespace sluice::async {
namespace {

using ::testing::ElementsAre;

Task<> wait_then_count(Signal& signal, int& count) {
    co_await signal.wait();
    ++count;
}

TEST(Signal, RemembersASetThatCameFirst) {
    boost::asio::io_context loop;
    Signal signal(loop.get_executor());
    TaskGroup group(loop.get_executor());
    int count = 0;
    signal.set();
    group.spawn(wait_then_count(signal, count));
    loop.run();
    EXPECT_EQ(count, 1);
}

Task<> sleep_long(bool& finished, bool& slept) {
    slept = co_await sleep_for(std::chrono::hours(1));
    finished = true;
}
Task<> close_group(TaskGroup& group) { co_await group.close(); }

TEST(TaskGroup, CloseCancelsAndJoins) {
    boost::asio::io_context loop;
    TaskGroup group(loop.get_executor());
    TaskGroup outer(loop.get_executor());
    bool finished = false;
    bool slept = true;
    group.spawn(sleep_long(finished, slept));
    loop.poll();
    outer.spawn(close_group(group));
    loop.run();
    EXPECT_TRUE(finished);
    EXPECT_FALSE(slept);
    EXPECT_EQ(group.size(), 0U);
}

Task<> sleep_thrice(int& cut_short) {
    for (int i = 0; i < 3; ++i) {
        const bool slept = co_await sleep_for(std::chrono::hours(1));
        if (!slept) ++cut_short;
    }
}

TEST(TaskGroup, CancelledTaskGoesOnButWaitsNoMore) {
    boost::asio::io_context loop;
    TaskGroup group(loop.get_executor());
    TaskGroup outer(loop.get_executor());
    int cut_short = 0;
    group.spawn(sleep_thrice(cut_short));
    loop.poll();
    outer.spawn(close_group(group));
    loop.run();
    EXPECT_EQ(cut_short, 3);
}

TEST(TaskGroup, TaskCancelledBeforeItBeganEndsInItsOwnWay) {
    boost::asio::io_context loop;
    TaskGroup group(loop.get_executor());
    TaskGroup outer(loop.get_executor());
    int cut_short = 0;
    group.spawn(sleep_thrice(cut_short));
    outer.spawn(close_group(group));
    group.cancel();
    loop.run();
    EXPECT_EQ(cut_short, 3);
    EXPECT_EQ(group.size(), 0U);
}

TEST(Mailbox, DeliversEverythingFromManyThreadsInBatches) {
    Shard shard("test");
    std::atomic<int> sum = 0;
    std::promise<void> all;
    constexpr int per_thread = 10'000;
    Mailbox<int> box(shard.executor(), [&](std::vector<int>& values) {
        if ((sum += static_cast<int>(values.size())) == 4 * per_thread) all.set_value();
    });
    shard.start();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < per_thread; ++i) box.push(i);
        });
    }
    for (std::thread& thread : threads) thread.join();
    all.get_future().wait();
    shard.stop();
    EXPECT_EQ(sum, 4 * per_thread);
}

// Pushes of what nobody waits for come together, in order, with what somebody does wait for.
TEST(Mailbox, WhatNobodyWaitsForGathers) {
    Shard shard("test");
    std::vector<std::size_t> batches;
    std::vector<int> got;
    std::promise<void> first, all;
    Mailbox<int> box(shard.executor(), [&](std::vector<int>& values) {
        batches.push_back(values.size());
        got.insert(got.end(), values.begin(), values.end());
        if (got.size() == 1) first.set_value();
        if (got.back() == 4) all.set_value();
    }, std::chrono::hours(1));
    shard.start();
    box.push_unhurried(1);  // nothing gathers yet
    first.get_future().wait();
    std::promise<void> drained;
    shard.post([&] { drained.set_value(); });
    drained.get_future().wait();
    box.push_unhurried(2);
    box.push_unhurried(3);
    box.push(4);
    all.get_future().wait();
    shard.loop().stop();  // the timer would go on
    shard.stop();
    EXPECT_THAT(got, ElementsAre(1, 2, 3, 4));
    EXPECT_THAT(batches, ElementsAre(1, 3));
}

TEST(Mailbox, WhatGatheredComesWithoutAnotherPush) {
    Shard shard("test");
    std::vector<int> got;
    std::promise<void> all;
    Mailbox<int> box(shard.executor(), [&](std::vector<int>& values) {
        got.insert(got.end(), values.begin(), values.end());
        if (got.size() == 3) all.set_value();
    }, std::chrono::milliseconds(1));
    shard.start();
    for (const int value : {1, 2, 3}) box.push_unhurried(value);
    all.get_future().wait();
    shard.stop();
    EXPECT_THAT(got, ElementsAre(1, 2, 3));
}

Task<> add_on_worker(Workers& workers, Executor executor, int& result) {
    const auto work = [] { return 40 + 2; };
    result = co_await blocking(workers, executor, work);
}

TEST(Blocking, ResumesOnTheLoopWithTheResult) {
    Shard shard("test");
    TaskGroup group(shard.executor());
    Workers workers(1);  // ends before the loop that it posts to
    int result = 0;
    group.spawn(add_on_worker(workers, shard.executor(), result));
    shard.start();
    shard.stop();
    EXPECT_EQ(result, 42);
}

TEST(Workers, WithoutThreadsTheWorkIsDoneByHand) {
    Workers workers(0);
    int done = 0;
    workers.post([&] { ++done; });
    workers.post([&] { ++done; });
    EXPECT_EQ(done, 0);
    EXPECT_TRUE(workers.run_one());
    EXPECT_EQ(done, 1);
    workers.join();
    EXPECT_EQ(done, 2);
    EXPECT_FALSE(workers.run_one());
}

}  // namespace
}  // namespace sluice::async
