#include <gmock/gmock.h>

#include "async/blocking.h"
#include "net/net_test_support.h"
#include "net/socket.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;

Task<> expect_connect_error(ConnectOptions options, Errc expected) {
    const auto stream = co_await connect(options);
    EXPECT_FALSE(stream);
    if (stream) co_return;
    EXPECT_EQ(stream.error().code, expected) << stream.error().text();
    if (expected == Errc::cancelled || expected == Errc::bad_source) co_return;
    EXPECT_THAT(stream.error().detail, testing::HasSubstr(options.remote.text()));
}

// A port on which nobody listens: bound, so that nobody else takes it meanwhile.
struct ClosedPort {
    ClosedPort() : socket(std::move(*open_socket(AF_INET))), address(Endpoint(IpAddress::v4(0x7F000001), 0)) {
        EXPECT_EQ(::bind(socket.get(), address.get(), address.length()), 0);
        EXPECT_EQ(::getsockname(socket.get(), address.get(), address.length_out()), 0);
    }
    Descriptor socket;
    SocketAddress address;
};

TEST(Connect, NamesWhatWentWrong) {
    const TempDir directory;
    const ClosedPort closed;
    boost::asio::io_context loop;
    run_task(loop, expect_connect_error(ConnectOptions(closed.address.endpoint()), Errc::refused));
    run_task(loop, expect_connect_error(ConnectOptions(Endpoint(directory.file("none"))), Errc::refused));

    ConnectOptions foreign(closed.address.endpoint());
    foreign.bind = IpAddress::parse("203.0.113.1");
    run_task(loop, expect_connect_error(foreign, Errc::bad_source));
    foreign.bind = IpAddress::parse("::1");
    run_task(loop, expect_connect_error(foreign, Errc::bad_source));
}

TEST(Connect, MapsErrorNumbers) {
    const std::pair<int, Errc> rows[] = {
        {ECONNREFUSED, Errc::refused},    {ECONNRESET, Errc::refused},
        {ENETUNREACH, Errc::unreachable}, {EHOSTUNREACH, Errc::unreachable},
        {ETIMEDOUT, Errc::timed_out},     {EADDRNOTAVAIL, Errc::out_of_resources},
        {EMFILE, Errc::out_of_resources}, {ENOBUFS, Errc::out_of_resources},
        {EACCES, Errc::unreachable},      {EINVAL, Errc::bad_source},
    };
    for (const auto& [number, expected] : rows)
        EXPECT_EQ(connect_errc(number), expected) << number;
    EXPECT_EQ(bind_errc(EADDRNOTAVAIL), Errc::bad_source);
    EXPECT_EQ(bind_errc(EADDRINUSE), Errc::address_in_use);
    EXPECT_EQ(link_errc(ECONNRESET), Errc::link_closed);
}

TEST(Connect, GivesUpAtItsOwnDeadline) {
    const FullBacklog dead;
    boost::asio::io_context loop;
    ConnectOptions options(dead.address.endpoint());
    options.timeout = 30ms;
    run_task(loop, expect_connect_error(options, Errc::timed_out));
}

Task<> cancel_connecting(async::Executor executor, Endpoint remote) {
    async::TaskGroup group(executor);
    group.spawn(expect_connect_error(ConnectOptions(remote), Errc::cancelled));
    co_await async::sleep_for(1ms);
    co_await group.close();
}

TEST(Connect, CanBeCancelled) {
    const FullBacklog dead;
    boost::asio::io_context loop;
    run_task(loop, cancel_connecting(loop.get_executor(), dead.address.endpoint()));
}

Task<> connect_from(async::Executor executor, IpAddress source) {
    auto listener = Listener::open(executor, Endpoint(IpAddress::v4(0x7F000001), 0));
    StreamPtr accepted;
    async::Signal arrived(executor);
    async::TaskGroup group(executor);
    group.spawn(run_listener(**listener, accepted, arrived));
    ConnectOptions options((*listener)->local());
    options.bind = source;
    const auto client = co_await connect(options);
    EXPECT_TRUE(client) << client.error().text();
    co_await arrived.wait();
    EXPECT_EQ(accepted->remote().address, source);
    EXPECT_EQ((*client)->local().address, source);
    co_await group.close();
}

TEST(Connect, UsesTheSourceAddressAskedFor) {
    boost::asio::io_context loop;
    run_task(loop, connect_from(loop.get_executor(), IpAddress::v4(0x7F000002)));
}

}  // namespace
}  // namespace sluice::net
