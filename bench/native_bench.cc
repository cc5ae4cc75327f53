// What a native get_mx that answers at once costs the shard that asks, besides what asking nobody costs. The plugin is built
// from examples/static_routes.c; STATIC_ROUTES names the shared object (default: the one of this build).

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "async/task_group.h"
#include "plugin/no_resolver_test_support.h"
#include "plugin/plugin_hooks.h"

namespace sluice::plugin {
namespace {

constexpr int domains = 1'000;

class QuietLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return false; }
    void write(event::Level, std::string_view, std::string_view, std::string_view, std::initializer_list<event::Field>) override {}
};

// An instance with the example, and items for many domains.
struct Bench {
    Bench() {
        std::string name = (std::filesystem::temp_directory_path() / "sluice-bench-XXXXXX").string();
        settings.directory = ::mkdtemp(name.data());
        std::filesystem::create_directories(settings.directory + "/config");
        std::ofstream routes(settings.directory + "/config/static_routes");
        for (int i = 0; i < domains; ++i) {
            const std::string domain = "domain" + std::to_string(i) + ".example.test";
            routes << domain << " 192.0.2." << i % 250 + 1 << ":2525\n";
            auto message = std::make_shared<mail::Message>();
            message->id = MessageId{static_cast<std::uint64_t>(i + 1)};
            message->envelope.reverse_path = {"sender", "example.test"};
            message->envelope.recipients.push_back({{"recipient", domain}, 0, {}});
            message->items = {{domain, {0}}};
            message->content.assign(4'096, 'x');
            queue::Work& work = works.emplace_back();
            work.item = ItemId{message->id, 0};
            work.message = std::move(message);
        }
        routes.close();
        const char* plugin = std::getenv("STATIC_ROUTES");
        settings.native_plugins = {{"static_routes", "static_routes", plugin == nullptr ? STATIC_ROUTES : plugin, 1, 0}};
    }
    ~Bench() {
        std::error_code ignored;
        std::filesystem::remove_all(settings.directory, ignored);
    }

    config::Settings settings;
    std::vector<queue::Work> works;
};

// Hooks that nobody registered: what the courier's question costs by itself.
class Nobody final : public delivery::Hooks {
public:
    bool wants(delivery::Hook) const override { return true; }
    mail::MessagePtr edited(ItemId, mail::MessagePtr message) const override { return message; }
    Task<delivery::Before> before_attempt(const queue::Work&, mail::MessagePtr) override { co_return delivery::Before(); }
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing&) override { co_return delivery::AfterDeferral(); }
    Task<delivery::AfterBounce> bounce(const delivery::Hearing&) override { co_return delivery::AfterBounce(); }
    bool wants_notifications() const override { return false; }
    Task<mail::MessagePtr> notification(mail::MessagePtr message) override { co_return message; }
    void delivered(const delivery::Hearing&) override {}
    void record(ItemId, bool, spool::Batch&) override {}
    void ended(ItemId) override {}
};

Task<> ask(delivery::Hooks& hooks, const std::vector<queue::Work>& works, benchmark::State& state, bool& failed) {
    std::size_t next = 0;
    while (state.KeepRunning()) {
        const queue::Work& work = works[next++ % works.size()];
        const delivery::Before before = co_await hooks.before_attempt(work, work.message);
        failed |= before.what != delivery::Before::What::go;
    }
}

void run(benchmark::State& state, delivery::Hooks& hooks, async::Shard& shard, const Bench& bench) {
    bool failed = false;
    async::TaskGroup tasks(shard.executor());
    tasks.spawn(ask(hooks, bench.works, state, failed));
    while (tasks.size() > 0) shard.loop().run_one();
    if (failed) state.SkipWithError("a plugin did not name a route");
}

void nobody(benchmark::State& state) {
    const Bench bench;
    async::Shard shard("bench");
    Nobody hooks;
    run(state, hooks, shard, bench);
}

void get_mx(benchmark::State& state) {
    const Bench bench;
    QuietLog log;
    SystemClock clock;
    NoResolver resolver;
    dns::Router router(resolver, clock, std::make_shared<const config::Settings>(), {});
    Images images("image ");
    Images edits("edit ");
    NativeHost natives(bench.settings, log);
    if (const Result<> loaded = natives.load(); !loaded) return state.SkipWithError(loaded.error().detail.c_str());
    async::Shard shard("bench");
    PluginHooks hooks(shard.executor(), natives, nullptr, nullptr, images, edits, router, clock, log);
    run(state, hooks, shard, bench);
}

BENCHMARK(nobody);
BENCHMARK(get_mx);

}  // namespace
}  // namespace sluice::plugin
