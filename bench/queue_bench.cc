// What a decision of the queue core costs, and what a queued item and a bucket weigh.

#include <benchmark/benchmark.h>
#include <malloc.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "queue/buckets.h"
#include "queue/core.h"

namespace sluice::queue {
namespace {

double heap_bytes() {
    const struct mallinfo2 heap = mallinfo2();
    return static_cast<double>(heap.uordblks + heap.hblkhd);
}

// A core, and peers that take everything at once.
class Load {
public:
    Load(const Options& options, std::uint32_t domains) : core(options) {
        for (std::uint32_t i = 0; i < domains; ++i) names.push_back("domain" + std::to_string(i) + ".example.test");
    }
    Admit mail(std::uint32_t domain) {
        Admit admit;
        admit.id = ItemId{MessageId{++last}, 0};
        admit.domain = names[domain];
        admit.arrival = admit.due = now;
        admit.size = 4'096;
        return admit;
    }
    Admit later_mail(std::uint32_t domain) {
        Admit admit = mail(domain);
        admit.due = now + Duration(1'000 + static_cast<std::int64_t>(random.below(86'400'000)));
        return admit;
    }
    void tell(Event event) { core.handle(std::move(event), now, actions); }
    // Carries out what the core asked for; what it asks for meanwhile is left for the next call.
    bool answer() {
        todo.clear();
        std::swap(todo, actions);
        for (const Action& action : todo) answer(action);
        return !todo.empty();
    }
    void answer(const Action& action) {
        if (const auto* const asked = std::get_if<Resolve>(&action)) resolve(asked->key);
        if (const auto* const deliver = std::get_if<Deliver>(&action)) {
            if (deliver->open) tell(SessionOpened{deliver->session, deliver->candidates.front()});
            AttemptEnded ended;
            ended.item = deliver->work.item;
            ended.session = deliver->session;
            ended.reusable = true;
            tell(std::move(ended));
        }
        if (const auto* const close = std::get_if<Close>(&action)) tell(SessionClosed{close->session});
    }

    Core core;
    Instant now = instant_from_ms(1'795'000'000'000);
    Random random{1};
    std::vector<std::string> names;
    std::vector<Action> actions;
    std::vector<Action> todo;
    std::uint64_t last = 0;

private:
    void resolve(const std::string& domain) {
        auto route = std::make_shared<Route>();
        route->key = domain;
        for (int host = 0; host < 4; ++host) {
            const std::string number = std::to_string(host);
            route->candidates.push_back({"mx" + number + ".example.test", "192.0.2." + number + ":25", 0});
        }
        route->expires = now + Duration(3'600'000);
        tell(RouteResolved{domain, RoutePtr(std::move(route))});
    }
};

// The usual case under load: many items of one domain, every session busy; each end gives the next item to its session.
void busy_domain(benchmark::State& state) {
    Load load(Options{}, 1);
    load.tell(load.mail(0));
    while (load.answer()) {
    }
    for (int i = 0; i < 100'000; ++i) load.tell(load.mail(0));
    std::size_t next = 0;
    for (auto _ : state) {
        load.tell(load.mail(0));
        if (next == load.todo.size()) {
            load.todo.clear();
            std::swap(load.todo, load.actions);
            next = 0;
        }
        load.answer(load.todo[next++]);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(busy_domain);

// The same with the two policies of Halon's announcement and a limit for each tenant: the hosts roll up into one group.
void busy_domain_under_policies(benchmark::State& state) {
    Problems problems;
    Options options;
    options.sources4 = {"198.51.100.1", "198.51.100.2"};
    options.policies = policy::parse_policies(
        "[{fields: [localip, {remotemx: {all: ['*.example.test']}}], conditions: [{if: {remotemx: '#all'}, then: {concurrency: 1000, rate: 100000000}}]},"
        " {fields: [localip, {remotemx: {all: ['*.example.test']}}, remoteip], default: {concurrency: 1000, rate: 100000000}},"
        " {fields: [tenantid], default: {concurrency: 1000}}]",
        "policy.yaml", problems);
    Load load(options, 1);
    load.tell(load.mail(0));
    while (load.answer()) {
    }
    for (int i = 0; i < 100'000; ++i) load.tell(load.mail(0));
    std::size_t next = 0;
    for (auto _ : state) {
        load.tell(load.mail(0));
        if (next == load.todo.size()) {
            load.now += Duration(1);
            load.todo.clear();
            std::swap(load.todo, load.actions);
            next = 0;
        }
        load.answer(load.todo[next++]);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(busy_domain_under_policies);

// Items that start at once on an idle session, over so many domains of the same hosts.
void idle_sessions(benchmark::State& state) {
    const auto domains = static_cast<std::uint32_t>(state.range(0));
    Load load(Options{}, domains);
    std::uint32_t domain = 0;
    for (auto _ : state) {
        load.tell(load.mail(domain));
        while (load.answer()) {
        }
        if (++domain == domains) domain = 0;
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(idle_sessions)->Arg(1)->Arg(1'000);

// The same among so many queued items: the cost must not grow.
void with_backlog(benchmark::State& state) {
    Load load(Options{}, 10'000);
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        load.tell(load.later_mail(1 + static_cast<std::uint32_t>(load.random.below(9'999))));
    }
    for (auto _ : state) {
        load.tell(load.mail(0));
        while (load.answer()) {
        }
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(with_backlog)->Arg(1'000)->Arg(1'000'000);

// Bytes of memory per queued item, with all tables.
void item_memory(benchmark::State& state) {
    const auto domains = static_cast<std::uint32_t>(state.range(1));
    for (auto _ : state) {
        Load load(Options{}, domains);
        const double before = heap_bytes();
        for (std::int64_t i = 0; i < state.range(0); ++i) {
            load.tell(load.later_mail(static_cast<std::uint32_t>(load.random.below(domains))));
        }
        state.counters["bytes_per_item"] = (heap_bytes() - before) / static_cast<double>(state.range(0));
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(item_memory)
    ->Args({1'000'000, 1'000})
    ->Args({1'000'000, 100'000})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Bytes of memory per live bucket in which nothing happens, with the texts that name it.
void bucket_memory(benchmark::State& state) {
    for (auto _ : state) {
        Names names;
        Buckets buckets(names);
        policy::Limits limits;
        limits.concurrency = 5;
        buckets.configure({{policy::plain_policy("p", {policy::Field::tenantid, policy::Field::localip}, limits)}, 0, nullptr}, Instant{});
        const double before = heap_bytes();
        for (std::int64_t i = 0; i < state.range(0); ++i) {
            policy::FieldValues values;
            values[policy::Field::tenantid] = number_of(names.intern("tenant" + std::to_string(i)));
            values[policy::Field::localip] = number_of(names.intern("192.0.2.1"));
            buckets.hold(0, values);
        }
        state.counters["bytes_per_bucket"] = (heap_bytes() - before) / static_cast<double>(state.range(0));
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(bucket_memory)->Arg(1'000'000)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice::queue
