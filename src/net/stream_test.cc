#include "net/stream.h"

#include <gmock/gmock.h>

#include "net/net_test_support.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Task<> echo_both_ways(async::Executor executor) {
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

TEST(Stream, CarriesBytesBothWays) {
    boost::asio::io_context loop;
    run_task(loop, echo_both_ways(loop.get_executor()));
}

}  // namespace
}  // namespace sluice::net
