#include "net/socket_stream.h"

#include <gmock/gmock.h>
#include <malloc.h>
#include <sys/socket.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#include <sanitizer/allocator_interface.h>
#define SLUICE_SANITIZED 1
#endif
#endif

#include "async/blocking.h"
#include "net/net_test_support.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Task<> exchange(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    const std::array<std::string_view, 4> slices = {"MAIL ", "", "FROM:<>", "\r\n"};
    EXPECT_TRUE(co_await pair.client->write_all(slices));
    const std::string seen = co_await read_exactly(*pair.server, 14);
    EXPECT_EQ(seen, "MAIL FROM:<>\r\n");
    EXPECT_TRUE(co_await pair.server->write("250 ok\r\n"));
    const std::string reply = co_await read_exactly(*pair.client, 8);
    EXPECT_EQ(reply, "250 ok\r\n");
    EXPECT_EQ(pair.client->remote(), pair.server->local());
    EXPECT_EQ(pair.client->local(), pair.server->remote());
    EXPECT_EQ(pair.client->tls(), nullptr);
}

TEST(SocketStream, CarriesBytesBothWays) {
    boost::asio::io_context loop;
    run_task(loop, exchange(loop.get_executor()));
}

std::string pattern(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>(i * 7 + i / 251);
    return bytes;
}

Task<> write_in_pieces(Stream& stream, const std::string& bytes) {
    // More pieces than one system call takes, of odd sizes, empty ones among them.
    std::vector<std::string_view> slices;
    for (std::size_t at = 0, size = 0; at < bytes.size(); at += size, size = (size * 5 + 1) % 9973) {
        slices.push_back(std::string_view(bytes).substr(at, size));
    }
    EXPECT_TRUE(co_await stream.write_all(slices));
}

Task<> carry_much(async::Executor executor) {
    const std::string bytes = pattern(8'000'000);
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    group.spawn(write_in_pieces(*pair.client, bytes));
    const std::string seen = co_await read_exactly(*pair.server, bytes.size());
    EXPECT_TRUE(seen == bytes);
    co_await group.close();
}

TEST(SocketStream, CarriesMoreThanTheKernelBuffers) {
    boost::asio::io_context loop;
    run_task(loop, carry_much(loop.get_executor()));
}

Task<> expect_read_error(Stream& stream, Errc expected) {
    const Errc error = co_await read_error(stream);
    EXPECT_EQ(error, expected);
}

Task<> let_deadline_pass(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    const auto start = Clock::now();
    pair.client->set_deadline(start + 20ms);
    co_await expect_read_error(*pair.client, Errc::timed_out);
    EXPECT_GE(Clock::now() - start, 20ms);
    // After an error every later operation fails too.
    pair.client->set_timeout(1h);
    co_await expect_read_error(*pair.client, Errc::timed_out);
    const auto written = co_await pair.client->write("x");
    EXPECT_EQ(written.error().code, Errc::timed_out);
    EXPECT_TRUE(pair.client->idle_link_is_dead());
}

TEST(SocketStream, FailsWhenTheDeadlinePasses) {
    boost::asio::io_context loop;
    run_task(loop, let_deadline_pass(loop.get_executor()));
}

Task<> move_deadline(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    const auto start = Clock::now();
    pair.client->set_deadline(start + 10ms);
    group.spawn(expect_read_error(*pair.client, Errc::timed_out));
    co_await async::sleep_for(1ms);
    pair.client->set_deadline(start + 60ms);  // later than the timer
    while (group.size() > 0)
        co_await async::sleep_for(1ms);
    EXPECT_GE(Clock::now() - start, 60ms);

    pair.server->set_deadline(start + 1h);
    group.spawn(expect_read_error(*pair.server, Errc::timed_out));
    co_await async::sleep_for(1ms);
    pair.server->set_timeout(1ms);  // earlier than the timer
    while (group.size() > 0)
        co_await async::sleep_for(1ms);
    co_await group.close();
}

TEST(SocketStream, DeadlineMayMoveBothWaysWhileAnOperationWaits) {
    boost::asio::io_context loop;
    run_task(loop, move_deadline(loop.get_executor()));
}

Task<> revive(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    EXPECT_TRUE(co_await pair.server->write("x"));
    pair.client->set_timeout(5ms);
    const std::string first = co_await read_exactly(*pair.client, 1);
    co_await async::sleep_for(20ms);  // the deadline passes while nothing is under way
    pair.client->set_timeout(1h);
    EXPECT_TRUE(co_await pair.server->write("y"));
    const std::string second = co_await read_exactly(*pair.client, 1);
    EXPECT_EQ(first + second, "xy");
}

TEST(SocketStream, DeadlineThatPassedBetweenOperationsHarmsNobodyOnceMoved) {
    boost::asio::io_context loop;
    run_task(loop, revive(loop.get_executor()));
}

Task<> drip(Stream& stream) {
    while (co_await async::sleep_for(2ms)) {
        const auto written = co_await stream.write("x");
        if (!written) co_return;
    }
}

Task<> read_drops(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    group.spawn(drip(*pair.server));
    pair.client->set_timeout(30ms);
    const std::string seen = co_await read_exactly(*pair.client, 1000);
    EXPECT_LT(seen.size(), 100U);
    co_await expect_read_error(*pair.client, Errc::timed_out);
    co_await group.close();
}

TEST(SocketStream, DoS_1_DripFedReadsStillEndAtTheDeadline) {
    boost::asio::io_context loop;
    run_task(loop, read_drops(loop.get_executor()));
}

Task<> flood(Stream& stream) {
    const std::string much(64 * 1024, 'x');
    while (co_await stream.write(much)) {
    }
}

Task<> read_flood(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    group.spawn(flood(*pair.server));
    pair.client->set_timeout(50ms);
    std::array<char, 64> small{};
    Result<std::size_t> got = 0U;
    while (got)
        got = co_await pair.client->read_some(small);
    EXPECT_EQ(got.error().code, Errc::timed_out);
    co_await group.close();
}

TEST(SocketStream, PeerThatNeverPausesCannotOutrunTheDeadline) {
    boost::asio::io_context loop;
    run_task(loop, read_flood(loop.get_executor()));
}

Task<> write_to_nobody(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    pair.client->set_timeout(20ms);
    std::string much;
    much.resize(32'000'000, 'x');
    const auto written = co_await pair.client->write(much);
    EXPECT_EQ(written.error().code, Errc::timed_out);
}

TEST(SocketStream, DoS_6_PeerThatNeverReadsIsGivenUpAtTheDeadline) {
    boost::asio::io_context loop;
    run_task(loop, write_to_nobody(loop.get_executor()));
}

Task<> cancel_read(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    group.spawn(expect_read_error(*pair.client, Errc::cancelled));
    co_await async::sleep_for(1ms);
    co_await group.close();

    async::TaskGroup aborted(executor);
    aborted.spawn(expect_read_error(*pair.server, Errc::cancelled));
    co_await async::sleep_for(1ms);
    pair.server->abort();
    while (aborted.size() > 0)
        co_await async::sleep_for(1ms);
    const auto written = co_await pair.server->write("x");
    EXPECT_EQ(written.error().code, Errc::cancelled);
    co_await aborted.close();
}

TEST(SocketStream, CancellingTheTaskOrAbortingTheStreamEndsOperations) {
    boost::asio::io_context loop;
    run_task(loop, cancel_read(loop.get_executor()));
}

Task<> read_when_cancelled(Stream& stream) {
    co_await async::sleep_for(1h);
    co_await expect_read_error(stream, Errc::cancelled);
}

Task<> cancel_first(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    async::TaskGroup group(executor);
    group.spawn(read_when_cancelled(*pair.client));
    co_await async::sleep_for(1ms);
    co_await group.close();
}

TEST(SocketStream, CancelledTaskDoesNotBeginToWait) {
    boost::asio::io_context loop;
    run_task(loop, cancel_first(loop.get_executor()));
}

// A connection of which the test holds one end as a plain descriptor.
struct Plain {
    StreamPtr stream;
    Descriptor peer;
};
Plain open_plain(async::Executor executor) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    auto stream = SocketStream::adopt(executor, Descriptor(ends[0]), Endpoint("/peer"));
    EXPECT_TRUE(stream);
    return Plain{std::move(*stream), Descriptor(ends[1])};
}

Task<> half_close(async::Executor executor) {
    Plain plain = open_plain(executor);
    EXPECT_EQ(::send(plain.peer.get(), "QUIT", 4, 0), 4);
    EXPECT_EQ(::shutdown(plain.peer.get(), SHUT_WR), 0);
    const std::string quit = co_await read_exactly(*plain.stream, 4);
    EXPECT_EQ(quit, "QUIT");
    co_await expect_read_error(*plain.stream, Errc::link_closed);
    co_await expect_read_error(*plain.stream, Errc::link_closed);
    EXPECT_TRUE(plain.stream->idle_link_is_dead());
    // The peer has ended its own direction only.
    EXPECT_TRUE(co_await plain.stream->write("221 bye"));
    std::array<char, 16> into{};
    EXPECT_EQ(::recv(plain.peer.get(), into.data(), into.size(), 0), 7);
    co_await plain.stream->close();
    EXPECT_EQ(::recv(plain.peer.get(), into.data(), into.size(), 0), 0);
}

TEST(SocketStream, AnswersAPeerThatHasEndedItsDirection) {
    boost::asio::io_context loop;
    run_task(loop, half_close(loop.get_executor()));
}

Task<> write_to_gone_peer(async::Executor executor) {
    Plain plain = open_plain(executor);
    plain.peer = Descriptor();
    const auto written = co_await plain.stream->write("x");
    EXPECT_EQ(written.error().code, Errc::link_closed);
    co_await plain.stream->close();
}

TEST(SocketStream, WritingToAPeerThatIsGoneIsAnErrorNotASignal) {
    boost::asio::io_context loop;
    run_task(loop, write_to_gone_peer(loop.get_executor()));
}

Task<> look_at_idle(async::Executor executor) {
    Plain plain = open_plain(executor);
    EXPECT_FALSE(plain.stream->idle_link_is_dead());
    EXPECT_EQ(::send(plain.peer.get(), "421", 3, 0), 3);
    EXPECT_TRUE(plain.stream->idle_link_is_dead());
    const std::string seen = co_await read_exactly(*plain.stream, 3);
    EXPECT_EQ(seen, "421");
    EXPECT_FALSE(plain.stream->idle_link_is_dead());
    plain.peer = Descriptor();
    EXPECT_TRUE(plain.stream->idle_link_is_dead());
}

TEST(SocketStream, KnowsAnIdleLinkThatMustNotBeReused) {
    boost::asio::io_context loop;
    run_task(loop, look_at_idle(loop.get_executor()));
}

Task<> close_with_unread(async::Executor executor) {
    StreamPair pair = co_await open_pair(executor);
    EXPECT_TRUE(co_await pair.client->write("commands that nobody reads\r\n"));
    EXPECT_TRUE(co_await pair.server->write("421 too many errors\r\n"));
    co_await pair.server->close();
    const std::string reply = co_await read_exactly(*pair.client, 21);
    EXPECT_EQ(reply, "421 too many errors\r\n");
}

TEST(SocketStream, LastReplySurvivesClosingWithUnreadInput) {
    boost::asio::io_context loop;
    run_task(loop, close_with_unread(loop.get_executor()));
}

std::size_t allocated_bytes() {
#ifdef SLUICE_SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    return ::mallinfo2().uordblks;
#endif
}

Task<> wait_for_end(Stream& stream) {
    char byte = 0;
    const auto got = co_await stream.read_some(std::span(&byte, 1));
    EXPECT_EQ(got.error().code, Errc::cancelled);
}

Task<> hold_idle(async::Executor executor) {
    constexpr std::size_t count = 2000;
    std::vector<Plain> plains;
    plains.reserve(count);
    async::TaskGroup group(executor);
    const std::size_t before = allocated_bytes();
    for (std::size_t i = 0; i < count; ++i)
        plains.push_back(open_plain(executor));
    const std::size_t streams = allocated_bytes() - before;
    for (Plain& plain : plains) {
        plain.stream->set_timeout(1h);
        group.spawn(wait_for_end(*plain.stream));
    }
    co_await async::sleep_for(1ms);
    const std::size_t waiting = allocated_bytes() - before;
    testing::Test::RecordProperty("bytes_per_stream", static_cast<int>(streams / count));
    testing::Test::RecordProperty("bytes_per_waiting_task", static_cast<int>((waiting - streams) / count));
    EXPECT_LE(streams / count, 1024U);
    // With the operation, its coroutines, the task and the timer.
    EXPECT_LE(waiting / count, 2560U);
    co_await group.close();
}

TEST(SocketStream, DoS_1_TwoThousandIdleStreamsTakeLittleMemory) {
    boost::asio::io_context loop;
    run_task(loop, hold_idle(loop.get_executor()));
}

}  // namespace
}  // namespace sluice::net
