#include "control/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <optional>

#include "async/task_group.h"
#include "control/control_test_support.h"
#include "net/stream.h"

namespace sluice::control {
namespace {

using testing::StartsWith;

constexpr const char* token = "0123456789abcdef";

// A server on one listener, and a client on the same loop.
class Access : public testing::Test {
protected:
    Task<std::string> ask(std::string given) {
        const net::ConnectOptions options(net::Endpoint(net::IpAddress::parse("127.0.0.1").value(), port_));
        Result<net::StreamPtr> stream = co_await net::connect(options);
        if (!stream) co_return "no connection";
        std::string request = "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
        if (!given.empty()) request += "Authorization: Bearer " + given + "\r\n";
        request += "\r\n";
        const Result<> written = co_await (*stream)->write(request);
        std::string reply;
        for (std::array<char, 4096> octets{}; written;) {
            const Result<std::size_t> count = co_await (*stream)->read_some(octets);
            if (!count || *count == 0) break;
            reply.append(octets.data(), *count);
        }
        co_return reply.substr(0, 12);
    }
    Task<> note(std::string given, std::string& status) { status = co_await ask(std::move(given)); }

    std::string status_of(std::string given) {
        std::string status;
        async::TaskGroup group(shard_.executor());
        group.spawn(note(std::move(given), status));
        while (group.size() > 0) shard_.loop().run_one();
        return status;
    }
    void serve(const char* address) {
        Server::Options options;
        options.endpoints.push_back(net::Endpoint::parse(std::string(address) + ":0", 0).value());
        options.token = token;
        server_.emplace(shard_, backend_, log_, std::move(options));
        ASSERT_TRUE(server_->start());
        port_ = server_->endpoints().front().port;
    }
    void TearDown() override {
        async::TaskGroup group(shard_.executor());
        group.spawn(server_->close());
        while (group.size() > 0) shard_.loop().run_one();
    }

    async::Shard shard_{"test"};
    FakeBackend backend_;
    SilentLog log_;
    std::optional<Server> server_;
    std::uint16_t port_ = 0;
};

// The listener stays open when the settings lose their token; it must not become a door.
TEST_F(Access, BeyondLoopbackNobodyIsLetInWithoutAToken) {
    serve("0.0.0.0");
    EXPECT_THAT(status_of(token), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(status_of(""), StartsWith("HTTP/1.1 401"));
    server_->set_access("", "mx.test");
    EXPECT_THAT(status_of(""), StartsWith("HTTP/1.1 401"));
    EXPECT_THAT(status_of(token), StartsWith("HTTP/1.1 401"));
    server_->set_access("fedcba9876543210", "mx.test");
    EXPECT_THAT(status_of("fedcba9876543210"), StartsWith("HTTP/1.1 200"));
}

TEST_F(Access, OnLoopbackATokenIsWantedWhenThereIsOne) {
    serve("127.0.0.1");
    EXPECT_THAT(status_of(""), StartsWith("HTTP/1.1 401"));
    server_->set_access("", "mx.test");
    EXPECT_THAT(status_of(""), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace sluice::control
