#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "async/signal.h"
#include "async/task_group.h"
#include "net/listener.h"
#include "net/socket.h"
#include "net/stream.h"

// What the tests of this folder share.

namespace sluice::net {

// Runs the task to its end on a fresh loop.
template <class Body>
void run_task(boost::asio::io_context& loop, Body body) {
    async::TaskGroup group(loop.get_executor());
    group.spawn(std::move(body));
    loop.restart();
    loop.run();
    ASSERT_EQ(group.size(), 0U);
}

inline Task<> run_listener(Listener& listener, StreamPtr& accepted, async::Signal& arrived) {
    const Listener::OnAccept keep = [&accepted, &arrived](StreamPtr stream) {
        accepted = std::move(stream);
        arrived.set();
    };
    co_await listener.run(keep);
}

struct StreamPair {
    StreamPtr client;
    StreamPtr server;
};

// Two ends of a real connection.
inline Task<StreamPair> open_pair(
    async::Executor executor, Endpoint where = Endpoint(IpAddress::v4(0x7F000001), 0)
) {
    auto listener = Listener::open(executor, where);
    StreamPair pair;
    if (!listener) {
        ADD_FAILURE() << listener.error().text();
        co_return pair;
    }
    async::Signal arrived(executor);
    async::TaskGroup group(executor);
    group.spawn(run_listener(**listener, pair.server, arrived));
    const ConnectOptions options((*listener)->local());
    auto client = co_await connect(options);
    if (client) pair.client = std::move(*client);
    if (!client) ADD_FAILURE() << client.error().text();
    co_await arrived.wait();
    (*listener)->stop();
    co_await group.close();
    co_return pair;
}

// Reads exactly `size` bytes, or what came before the stream failed.
inline Task<std::string> read_exactly(Stream& stream, std::size_t size) {
    std::string all(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const std::span<char> rest(all.data() + have, size - have);
        const auto got = co_await stream.read_some(rest);
        if (!got) break;
        have += *got;
    }
    all.resize(have);
    co_return all;
}

inline Task<Errc> read_error(Stream& stream) {
    char byte = 0;
    const auto got = co_await stream.read_some(std::span(&byte, 1));
    if (got) ADD_FAILURE() << "read a byte: " << int(byte);
    co_return got ? Errc::corrupt : got.error().code;
}

// A directory that goes with the test.
class TempDir {
public:
    TempDir() {
        std::string name = (std::filesystem::temp_directory_path() / "sluice-net-XXXXXX").string();
        path_ = ::mkdtemp(name.data());
    }
    ~TempDir() { std::filesystem::remove_all(path_); }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    std::string file(const std::string& name) const { return path_ + '/' + name; }

private:
    std::string path_;
};

// A listening socket whose backlog is full: the kernel drops further SYNs, as a dead host would.
struct FullBacklog {
    FullBacklog()
        : listener(std::move(*open_socket(AF_INET))), address(Endpoint(IpAddress::v4(0x7F000001), 0)) {
        EXPECT_EQ(::bind(listener.get(), address.get(), address.length()), 0);
        EXPECT_EQ(::getsockname(listener.get(), address.get(), address.length_out()), 0);
        EXPECT_EQ(::listen(listener.get(), 0), 0);
        for (int i = 0; i < 4; ++i) {
            waiting.push_back(std::move(*open_socket(AF_INET)));
            (void)::connect(waiting.back().get(), address.get(), address.length());
        }
    }
    Descriptor listener;
    SocketAddress address;
    std::vector<Descriptor> waiting;
};

}  // namespace sluice::net
