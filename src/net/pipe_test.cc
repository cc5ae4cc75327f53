#include "net/pipe.h"

#include <gmock/gmock.h>

#include "net/net_test_support.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Task<> fragments(async::Executor executor) {
    PipeOptions options;
    options.read_bytes_max = 3;
    auto [left, right] = make_pipe(executor, options);
    EXPECT_TRUE(co_await left->write("12345"));
    std::array<char, 8> into{};
    auto got = co_await right->read_some(into);
    EXPECT_EQ(got, 3U);
    got = co_await right->read_some(into);
    EXPECT_EQ(got, 2U);
    EXPECT_EQ(left->remote(), right->local());
}

TEST(Pipe, GivesNoMoreThanItWasToldTo) {
    boost::asio::io_context loop;
    run_task(loop, fragments(loop.get_executor()));
}

Task<> write_much(Stream& stream, std::size_t size, bool& done) {
    const std::string bytes(size, 'x');
    const auto written = co_await stream.write(bytes);
    EXPECT_TRUE(written);
    done = true;
}

Task<> back_pressure(async::Executor executor) {
    PipeOptions options;
    options.capacity_bytes = 10;
    auto [left, right] = make_pipe(executor, options);
    async::TaskGroup group(executor);
    bool done = false;
    group.spawn(write_much(*left, 1000, done));
    const std::string head = co_await read_exactly(*right, 500);
    EXPECT_EQ(head.size(), 500U);
    EXPECT_FALSE(done);
    const std::string tail = co_await read_exactly(*right, 500);
    EXPECT_EQ(tail.size(), 500U);
    co_await group.close();
    EXPECT_TRUE(done);
}

TEST(Pipe, WritersWaitForReaders) {
    boost::asio::io_context loop;
    run_task(loop, back_pressure(loop.get_executor()));
}

Task<> closing(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    EXPECT_FALSE(right->idle_link_is_dead());
    EXPECT_TRUE(co_await left->write("bye"));
    EXPECT_TRUE(right->idle_link_is_dead());
    co_await left->close();
    const std::string rest = co_await read_exactly(*right, 3);
    EXPECT_EQ(rest, "bye");
    const Errc error = co_await read_error(*right);
    EXPECT_EQ(error, Errc::link_closed);
    const auto written = co_await right->write("late");
    EXPECT_EQ(written.error().code, Errc::link_closed);
}

TEST(Pipe, WhatWasWrittenBeforeTheEndIsStillRead) {
    boost::asio::io_context loop;
    run_task(loop, closing(loop.get_executor()));
}

Task<> expect_read_error(Stream& stream, Errc expected) {
    const Errc error = co_await read_error(stream);
    EXPECT_EQ(error, expected);
}

Task<> deadlines(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    async::TaskGroup group(executor);
    group.spawn(expect_read_error(*left, Errc::timed_out));
    auto turn = boost::asio::post(executor, boost::asio::use_awaitable_t<async::Executor>());
    co_await std::move(turn);
    left->set_timeout(1ms);  // moved while the read is under way
    while (group.size() > 0) {
        auto again = boost::asio::post(executor, boost::asio::use_awaitable_t<async::Executor>());
        co_await std::move(again);
    }
    co_await group.close();
}

TEST(Pipe, HonoursTheDeadline) {
    boost::asio::io_context loop;
    run_task(loop, deadlines(loop.get_executor()));
}

Task<> cancelling(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    async::TaskGroup group(executor);
    group.spawn(expect_read_error(*left, Errc::cancelled));
    auto turn = boost::asio::post(executor, boost::asio::use_awaitable_t<async::Executor>());
    co_await std::move(turn);
    co_await group.close();
}

TEST(Pipe, CancelledTasksStopReading) {
    boost::asio::io_context loop;
    run_task(loop, cancelling(loop.get_executor()));
}

Task<> no_tls(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    const auto started = co_await left->start_tls_client(nullptr, "");
    EXPECT_EQ(started.error().code, Errc::unsupported);
}

TEST(Pipe, SpeaksNoTls) {
    boost::asio::io_context loop;
    run_task(loop, no_tls(loop.get_executor()));
}

}  // namespace
}  // namespace sluice::net
