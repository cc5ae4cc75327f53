#include "net/line_reader.h"

#include <gmock/gmock.h>

#include "net/net_test_support.h"
#include "net/pipe.h"

namespace sluice::net {
namespace {

constexpr std::size_t line_max = 64;

Task<> read_lines(
    async::Executor executor, std::string input, std::size_t step, std::vector<std::string>& lines
) {
    PipeOptions options;
    options.read_bytes_max = step;
    auto [left, right] = make_pipe(executor, options);
    EXPECT_TRUE(co_await left->write(input));
    co_await left->close();
    LineReader reader(*right);
    while (true) {
        const auto line = co_await reader.read_line(line_max);
        if (!line && line.error().code == Errc::too_large) {
            lines.emplace_back("too large");
            const auto skipped = co_await reader.skip_line();
            if (skipped) continue;
        }
        if (!line) break;
        lines.emplace_back(*line);
    }
}

TEST(LineReader, DoS_2_GivesTheSameLinesAtEveryFragmentation) {
    const std::string longest = std::string(line_max - 2, 'a') + "\r\n";
    const std::string too_long = std::string(line_max - 1, 'b') + "\r\n";
    const std::string flood = std::string(200'000, 'c') + "\r\n";
    const std::string input =
        "EHLO x\r\nbare\n\r\n\n" + longest + too_long + flood + "a\rb\r\n" + "unfinished";
    const std::vector<std::string> expected = {"EHLO x\r\n", "bare\n",    "\r\n",      "\n",
                                               longest,      "too large", "too large", "a\rb\r\n"};
    for (const std::size_t step :
         {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}, std::size_t{64}, SIZE_MAX}) {
        boost::asio::io_context loop;
        std::vector<std::string> lines;
        run_task(loop, read_lines(loop.get_executor(), input, step, lines));
        EXPECT_EQ(lines, expected) << step;
    }
}

Task<> pipelined(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    EXPECT_TRUE(co_await left->write("one\r\ntwo\r\nthr"));
    LineReader reader(*right);
    EXPECT_EQ(reader.capacity(), 0U);
    EXPECT_EQ(reader.take_line(), std::nullopt);
    const auto one = co_await reader.read_line(line_max);
    EXPECT_EQ(one, "one\r\n");
    EXPECT_EQ(reader.take_line(), "two\r\n");
    EXPECT_EQ(reader.take_line(), std::nullopt);
    EXPECT_EQ(reader.buffered(), "thr");
    reader.consume(1);
    EXPECT_TRUE(co_await left->write("ee\r\n"));
    const auto rest = co_await reader.read_line(line_max);
    EXPECT_EQ(rest, "hree\r\n");
}

TEST(LineReader, TakesBufferedLinesWithoutWaiting) {
    boost::asio::io_context loop;
    run_task(loop, pipelined(loop.get_executor()));
}

Task<> starttls(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    EXPECT_TRUE(co_await left->write("STARTTLS\r\nEHLO evil\r\nMAIL FR"));
    LineReader reader(*right);
    const auto line = co_await reader.read_line(line_max);
    EXPECT_EQ(line, "STARTTLS\r\n");
    EXPECT_EQ(reader.discard(), 18U);
    EXPECT_EQ(reader.buffered(), "");
    EXPECT_TRUE(co_await left->write("OM:<a>\r\n"));
    const auto next = co_await reader.read_line(line_max);
    EXPECT_EQ(next, "OM:<a>\r\n");
}

TEST(LineReader, TLS_I1_TLS_I2_ForgetsWhatCameBeforeTheHandshake) {
    boost::asio::io_context loop;
    run_task(loop, starttls(loop.get_executor()));
}

Task<> write_body_and_command(Stream& stream, std::size_t size) {
    const std::string body(size, 'x');
    EXPECT_TRUE(co_await stream.write("DATA\r\n"));
    EXPECT_TRUE(co_await stream.write(body));
    EXPECT_TRUE(co_await stream.write("QUIT\r\n"));
}

Task<> grow_and_shrink(async::Executor executor) {
    constexpr std::size_t body = 500'000;
    auto [left, right] = make_pipe(executor);
    LineReader reader(*right);
    async::TaskGroup group(executor);
    group.spawn(write_body_and_command(*left, body));
    const auto data = co_await reader.read_line(line_max);
    EXPECT_EQ(data, "DATA\r\n");
    EXPECT_LE(reader.capacity(), LineReader::line_buffer_bytes);

    std::size_t left_over = body;
    std::size_t capacity_max = 0;
    while (left_over > 0) {
        EXPECT_TRUE(co_await reader.fill());
        capacity_max = std::max(capacity_max, reader.capacity());
        const std::size_t taken = std::min(left_over, reader.buffered().size());
        reader.consume(taken);
        left_over -= taken;
    }
    EXPECT_EQ(capacity_max, LineReader::buffer_bytes_max);
    const auto quit = co_await reader.read_line(line_max);
    EXPECT_EQ(quit, "QUIT\r\n");
    co_await left->close();
    const auto end = co_await reader.read_line(line_max);
    EXPECT_FALSE(end);
    EXPECT_EQ(reader.capacity(), LineReader::line_buffer_bytes);
    co_await group.close();
}

TEST(LineReader, DoS_1_HoldsMuchWhileABodyFlowsAndLittleWhenIdle) {
    boost::asio::io_context loop;
    run_task(loop, grow_and_shrink(loop.get_executor()));
}

Task<> overfill(async::Executor executor) {
    auto [left, right] = make_pipe(executor);
    LineReader reader(*right);
    const std::string much(100'000, 'x');
    EXPECT_TRUE(co_await left->write(much));
    Result<> filled;
    while (filled)
        filled = co_await reader.fill();
    EXPECT_EQ(filled.error().code, Errc::too_large);
    EXPECT_EQ(reader.buffered().size(), LineReader::buffer_bytes_max);
}

TEST(LineReader, NeverHoldsMoreThanItsLimit) {
    boost::asio::io_context loop;
    run_task(loop, overfill(loop.get_executor()));
}

}  // namespace
}  // namespace sluice::net
