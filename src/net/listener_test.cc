#include "net/listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <fstream>

#include "async/blocking.h"
#include "net/net_test_support.h"
#include "net/socket.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;

const IpAddress loopback = IpAddress::v4(0x7F000001);

Task<> expect_echo(async::Executor executor, Endpoint where) {
    StreamPair pair = co_await open_pair(executor, where);
    EXPECT_TRUE(co_await pair.client->write("x"));
    const std::string seen = co_await read_exactly(*pair.server, 1);
    EXPECT_EQ(seen, "x");
    if (!where.path.empty()) {
        EXPECT_EQ(pair.server->remote().text(), where.path);
        EXPECT_EQ(pair.client->remote().text(), where.path);
    }
}

TEST(Listener, AcceptsOnIpv6AndUnixSockets) {
    const TempDir directory;
    boost::asio::io_context loop;
    run_task(loop, expect_echo(loop.get_executor(), *Endpoint::parse("[::1]:0", 0)));
    run_task(loop, expect_echo(loop.get_executor(), Endpoint(directory.file("socket"))));
}

Task<> connect_by_v4(async::Executor executor, IpAddress& seen) {
    auto listener = Listener::open(executor, *Endpoint::parse("[::0]:0", 0));
    EXPECT_TRUE(listener);
    StreamPtr accepted;
    async::Signal arrived(executor);
    async::TaskGroup group(executor);
    group.spawn(run_listener(**listener, accepted, arrived));
    const ConnectOptions options(Endpoint(loopback, (*listener)->local().port));
    const auto client = co_await connect(options);
    EXPECT_TRUE(client);
    co_await arrived.wait();
    seen = accepted->remote().address;
    co_await group.close();
}

TEST(Listener, UnspecifiedIpv6ServesIpv4ClientsByTheirIpv4Address) {
    boost::asio::io_context loop;
    IpAddress seen;
    run_task(loop, connect_by_v4(loop.get_executor(), seen));
    EXPECT_EQ(seen, loopback);
}

TEST(Listener, SeveralShardsShareAPort) {
    boost::asio::io_context loop;
    const auto first = Listener::open(loop.get_executor(), Endpoint(loopback, 0));
    ASSERT_TRUE(first);
    EXPECT_NE((*first)->local().port, 0);
    EXPECT_TRUE(Listener::open(loop.get_executor(), (*first)->local()));
}

TEST(Listener, SaysWhyItCannotListen) {
    boost::asio::io_context loop;
    // A socket without SO_REUSEPORT holds the port for itself.
    const auto taken = open_socket(AF_INET);
    SocketAddress address(Endpoint(loopback, 0));
    ASSERT_EQ(::bind(taken->get(), address.get(), address.length()), 0);
    ASSERT_EQ(::getsockname(taken->get(), address.get(), address.length_out()), 0);
    ASSERT_EQ(::listen(taken->get(), 1), 0);
    const auto busy = Listener::open(loop.get_executor(), address.endpoint());
    ASSERT_FALSE(busy);
    EXPECT_EQ(busy.error().code, Errc::address_in_use);
    EXPECT_THAT(busy.error().detail, testing::HasSubstr(address.endpoint().text()));

    const auto foreign = Listener::open(loop.get_executor(), *Endpoint::parse("203.0.113.1:0", 0));
    ASSERT_FALSE(foreign);
    EXPECT_EQ(foreign.error().code, Errc::bad_source);
}

TEST(Listener, ReplacesOnlyTheUnixSocketOfADeadProcess) {
    const TempDir directory;
    boost::asio::io_context loop;
    const Endpoint where(directory.file("socket"));
    {
        // Closed without removing its file, as a killed process does.
        const auto dead = open_socket(AF_UNIX);
        const SocketAddress address(where);
        ASSERT_EQ(::bind(dead->get(), address.get(), address.length()), 0);
        ASSERT_EQ(::listen(dead->get(), 1), 0);
        EXPECT_EQ(Listener::open(loop.get_executor(), where).error().code, Errc::address_in_use);
    }
    auto listener = Listener::open(loop.get_executor(), where);
    ASSERT_TRUE(listener) << listener.error().text();
    struct stat found{};
    ASSERT_EQ(::stat(where.path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, 0600U);
    EXPECT_EQ(Listener::open(loop.get_executor(), where).error().code, Errc::address_in_use);
    (*listener)->stop();
    EXPECT_FALSE(std::filesystem::exists(where.path));

    std::ofstream(where.path) << "precious";
    EXPECT_EQ(Listener::open(loop.get_executor(), where).error().code, Errc::address_in_use);
    EXPECT_TRUE(std::filesystem::exists(where.path));
}

// Takes every descriptor that the process may open.
class AllDescriptors {
public:
    AllDescriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit few = before_;
        few.rlim_cur = 256;
        ::setrlimit(RLIMIT_NOFILE, &few);
        while (true) {
            Descriptor one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            if (!one.valid()) break;
            taken_.push_back(std::move(one));
        }
    }
    ~AllDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    void give_back() { taken_.clear(); }

private:
    rlimit before_{};
    std::vector<Descriptor> taken_;
};

double cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) * 1e-6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Task<> run_out_of_descriptors(async::Executor executor) {
    auto listener = Listener::open(executor, Endpoint(loopback, 0));
    StreamPtr accepted;
    async::Signal arrived(executor);
    async::TaskGroup group(executor);
    auto client = open_socket(AF_INET);
    const SocketAddress address((*listener)->local());
    AllDescriptors all;
    (void)::connect(client->get(), address.get(), address.length());
    const double before = cpu_seconds();
    group.spawn(run_listener(**listener, accepted, arrived));
    co_await async::sleep_for(250ms);  // time in which a listener that spins would burn a CPU
    EXPECT_EQ(accepted, nullptr);
    EXPECT_LT(cpu_seconds() - before, 0.1);
    const ConnectOptions options((*listener)->local());
    const auto refused = co_await connect(options);
    EXPECT_EQ(refused.error().code, Errc::out_of_resources);
    all.give_back();
    co_await arrived.wait();
    EXPECT_NE(accepted, nullptr);
    co_await group.close();
}

TEST(Listener, DoS_8_PausesWithoutSpinningWhenDescriptorsRunOut) {
    boost::asio::io_context loop;
    run_task(loop, run_out_of_descriptors(loop.get_executor()));
}

Task<> stop_running(async::Executor executor, bool by_cancel) {
    auto listener = Listener::open(executor, Endpoint(loopback, 0));
    StreamPtr accepted;
    async::Signal arrived(executor);
    async::TaskGroup group(executor);
    group.spawn(run_listener(**listener, accepted, arrived));
    co_await async::sleep_for(0ms);
    if (!by_cancel) (*listener)->stop();
    if (by_cancel) co_await group.close();
    while (group.size() > 0)
        co_await async::sleep_for(0ms);
    co_await group.close();
}

TEST(Listener, EndsWhenStoppedOrCancelled) {
    for (const bool by_cancel : {false, true}) {
        boost::asio::io_context loop;
        run_task(loop, stop_running(loop.get_executor(), by_cancel));
    }
}

}  // namespace
}  // namespace sluice::net
