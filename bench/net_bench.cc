#include <benchmark/benchmark.h>

#include <boost/asio/io_context.hpp>
#include <memory>

#include "async/signal.h"
#include "async/task_group.h"
#include "base/assert.h"
#include "net/line_reader.h"
#include "net/listener.h"
#include "net/stream.h"

// What one exchange of a dialogue costs: a line of 40 bytes goes over loopback TCP and comes back, read by a
// LineReader and under a deadline that is set anew each time, as in a session. Both ends share one thread, so
// the figure holds two sends and two receives with everything around them. Usage: net_bench [connections]
// [exchanges per connection]

namespace sluice::net {
namespace {

constexpr std::string_view line = "MAIL FROM:<somebody@example.test> X=12\r\n";
constexpr std::chrono::minutes deadline(5);

Task<> echo(StreamPtr stream) {
    LineReader reader(*stream);
    while (true) {
        stream->set_timeout(deadline);
        const auto received = co_await reader.read_line(1000);
        if (!received) break;
        const auto sent = co_await stream->write(*received);
        if (!sent) break;
    }
}

Task<> serve(Listener& listener, async::TaskGroup& group) {
    const Listener::OnAccept start = [&group](StreamPtr stream) { group.spawn(echo(std::move(stream))); };
    co_await listener.run(start);
}

Task<> talk(Endpoint where, int exchanges, int& running, async::Signal& all_done) {
    const ConnectOptions options(where);
    auto stream = co_await connect(options);
    ASSERT(stream);
    LineReader reader(**stream);
    for (int i = 0; i < exchanges; ++i) {
        (*stream)->set_timeout(deadline);
        const auto sent = co_await (*stream)->write(line);
        ASSERT(sent);
        const auto received = co_await reader.read_line(1000);
        ASSERT(received && *received == line);
    }
    co_await (*stream)->close();
    if (--running == 0) all_done.set();
}

Task<> run_all(async::Executor executor, Listener& listener, int connections, int exchanges) {
    async::TaskGroup servers(executor);
    async::TaskGroup clients(executor);
    async::Signal all_done(executor);
    int running = connections;
    servers.spawn(serve(listener, servers));
    for (int i = 0; i < connections; ++i)
        clients.spawn(talk(listener.local(), exchanges, running, all_done));
    co_await all_done.wait();
    co_await clients.close();
    co_await servers.close();
}

// One iteration is 20,000 exchanges spread over so many connections at once.
void exchange(benchmark::State& state) {
    constexpr int exchanges = 20'000;
    const int connections = static_cast<int>(state.range(0));
    for (auto iteration : state) {
        boost::asio::io_context loop(1);
        auto listener = Listener::open(loop.get_executor(), Endpoint(IpAddress::v4(0x7F000001), 0));
        ASSERT(listener);
        async::TaskGroup group(loop.get_executor());
        group.spawn(run_all(loop.get_executor(), **listener, connections, exchanges / connections));
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * exchanges);
    state.counters["per_exchange"] = benchmark::Counter(
        static_cast<double>(state.iterations()) * exchanges,
        benchmark::Counter::kIsRate | benchmark::Counter::kInvert
    );
}
BENCHMARK(exchange)->Arg(1)->Arg(50)->Arg(500)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice::net
