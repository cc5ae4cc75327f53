// What reception costs per message: a client that pipelines, in memory. Includes the client's side and the pipe, so the
// figure is an upper bound; the budget of reception is 12 µs for 4 KiB.

#include <benchmark/benchmark.h>

#include "mail/header.h"
#include "net/pipe.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

class QuietLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return false; }
    void write(event::Level, std::string_view, std::string_view, std::string_view,
               std::initializer_list<event::Field>) override {}
};

// Forgets what it accepts, so that memory is as in service.
class Sink final : public Acceptance {
public:
    Task<Result<>> accept(mail::MessagePtr) override { co_return Result<>(); }
    std::optional<std::string> refusal() const override { return std::nullopt; }
    std::optional<std::string> no_room_after(std::uint64_t) const override { return std::nullopt; }
};

// Reads until `marker` has come `count` times.
Task<> hear(net::Stream& stream, char marker, int count) {
    std::array<char, 4096> octets;
    while (count > 0) {
        const Result<std::size_t> size = co_await stream.read_some(octets);
        if (!size) co_return;
        count -= static_cast<int>(std::count(octets.data(), octets.data() + *size, marker));
    }
}

std::string content_of(std::size_t size) {
    std::string content =
        "From: <sender@origin.test>\r\nTo: <user@dest.test>\r\nSubject: A subject\r\n"
        "Date: Fri, 20 Nov 2026 10:54:00 +0000\r\nMessage-ID: <1@origin.test>\r\n\r\n";
    while (content.size() + 78 <= size) content += std::string(76, 'x') + "\r\n";
    return content + ".\r\n";
}

Task<> converse(net::StreamPtr stream, benchmark::State& state) {
    const std::string group =
        "MAIL FROM:<sender@origin.test> SIZE=4096\r\nRCPT TO:<user@dest.test>\r\nDATA\r\n";
    const std::string content = content_of(static_cast<std::size_t>(state.range(0)));
    co_await hear(*stream, '\n', 1);
    co_await stream->write("EHLO client.test\r\n");
    co_await hear(*stream, '\n', 9);
    for (auto _ : state) {
        co_await stream->write(group);
        co_await hear(*stream, '\n', 3);
        co_await stream->write(content);
        co_await hear(*stream, '\n', 1);
    }
    co_await stream->close();
}

void receive(benchmark::State& state) {
    TestWorld world;
    QuietLog log;
    Sink sink;
    const Surroundings around{world.shard, world.clock, world.ids, sink, world.recorder, log, &world.census};
    auto [client_end, server_end] = net::make_pipe(world.shard.executor());
    const net::Endpoint listener(net::IpAddress::v4(0x7F000001), 25);
    Session session(around, world.census, test_rules(test_settings()), std::move(server_end), listener);
    async::TaskGroup group(world.shard.executor());
    group.spawn(session.run());
    group.spawn(converse(std::move(client_end), state));
    world.run(group);
}
BENCHMARK(receive)->Arg(4096)->Arg(65536);

}  // namespace
}  // namespace sluice::reception
