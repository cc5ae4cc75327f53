// What a decision of the queue core costs, and what a queued item and a bucket weigh.

#include <benchmark/benchmark.h>
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "policy/delivery.h"
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
    Admit mail(std::uint32_t domain, std::string tenant) {
        Admit admit = mail(domain);
        admit.tenant = std::move(tenant);
        return admit;
    }
    // Until nothing is asked for any more.
    void settle() {
        while (answer()) {
        }
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

// One item comes and one attempt ends, with many waiting and every session busy; `step` is how much time a round of them takes.
void keep_busy(benchmark::State& state, Load& load, Duration step) {
    load.tell(load.mail(0));
    load.settle();
    for (int i = 0; i < 100'000; ++i) load.tell(load.mail(0));
    std::size_t next = 0;
    for (auto _ : state) {
        load.tell(load.mail(0));
        if (next == load.todo.size()) {
            load.now += step;
            load.todo.clear();
            std::swap(load.todo, load.actions);
            next = 0;
        }
        load.answer(load.todo[next++]);
    }
    state.SetItemsProcessed(state.iterations());
}

// The usual case under load: many items of one domain, every session busy; each end gives the next item to its session.
void busy_domain(benchmark::State& state) {
    Load load(Options{}, 1);
    keep_busy(state, load, Duration(0));
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
    keep_busy(state, load, Duration(1));
}
BENCHMARK(busy_domain_under_policies);

// Items that start at once on an idle session, over so many domains of the same hosts.
void idle_sessions(benchmark::State& state) {
    const auto domains = static_cast<std::uint32_t>(state.range(0));
    Load load(Options{}, domains);
    std::uint32_t domain = 0;
    for (auto _ : state) {
        load.tell(load.mail(domain));
        load.settle();
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
        load.settle();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(with_backlog)->Arg(1'000)->Arg(1'000'000);

policy::PolicySetPtr policies(const std::string& yaml) {
    Problems problems;
    return policy::parse_policies(yaml, "policy.yaml", problems);
}
std::string tenant(std::int64_t number) { return "tenant" + std::to_string(number); }

// A start with so many live buckets, one of them for each tenant that sent something today. Tenants take turns, so every bucket is as cold as can
// be; with a second argument only so many of them send now.
void with_live_buckets(benchmark::State& state) {
    Options options;
    options.policies = policies("[{fields: [tenantid], default: {concurrency: 5, rate: {count: 1000000, interval: 86400, algorithm: fixedwindow}}}]");
    Load load(options, 1);
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        load.tell(load.mail(0, tenant(i)));
        load.settle();
    }
    const std::int64_t senders = state.range(1);
    std::int64_t sender = 0;
    for (auto _ : state) {
        load.tell(load.mail(0, tenant(sender)));
        load.settle();
        sender = (sender + 7'919) % senders;
    }
    state.SetItemsProcessed(state.iterations());
    state.counters["buckets"] = static_cast<double>(load.core.stats().buckets);
}
BENCHMARK(with_live_buckets)->Args({1'000, 1'000})->Args({1'000'000, 1'000})->Args({1'000'000, 1'000'000});

// Bytes of memory per live bucket of the whole core: a counter that remembers what was sent today, and nothing that waits.
void live_bucket_memory(benchmark::State& state) {
    Options options;
    options.policies = policies("[{fields: [tenantid], default: {concurrency: 5, rate: {count: 1000000, interval: 86400, algorithm: fixedwindow}}}]");
    for (auto _ : state) {
        Load load(options, 1);
        load.tell(load.mail(0));
        load.settle();
        const double before = heap_bytes();
        for (std::int64_t i = 0; i < state.range(0); ++i) {
            load.tell(load.mail(0, tenant(i)));
            load.settle();
        }
        load.now += Duration(60'000);
        load.tell(Tick{});
        load.settle();
        state.counters["bytes_per_bucket"] = (heap_bytes() - before) / static_cast<double>(state.range(0));
        state.counters["buckets"] = static_cast<double>(load.core.stats().buckets);
    }
}
BENCHMARK(live_bucket_memory)->Arg(1'000'000)->Iterations(1)->Unit(benchmark::kMillisecond);

// A queue in which so many items are ready and wait for the rates of a thousand tenants, which are used up for today.
std::unique_ptr<Load> stopped_queue(std::int64_t items, const char* more = "") {
    Options options;
    options.policies = policies(std::string("[{fields: [tenantid, recipientdomain], default: {rate: {count: 1, interval: 86400, algorithm: fixedwindow}},"
                                            " conditions: [{if: {tenantid: free}, then: {concurrency: 50}}]}") + more + "]");
    auto load = std::make_unique<Load>(options, 100);
    constexpr std::int64_t buckets = 1'000;
    for (std::int64_t i = 0; i < items + buckets; ++i) {  // each lets one start
        load->tell(load->mail(static_cast<std::uint32_t>(i % 100), tenant(i % buckets)));
        if (i % buckets == 0) load->settle();
    }
    load->settle();
    return load;
}

// A start among so many items that may not start.
void with_stopped(benchmark::State& state) {
    const auto load = stopped_queue(state.range(0));
    for (auto _ : state) {
        load->tell(load->mail(0, "free"));
        load->settle();
    }
    state.SetItemsProcessed(state.iterations());
    state.counters["waiting"] = static_cast<double>(load->core.stats().ready);
}
BENCHMARK(with_stopped)->Arg(1'000)->Arg(1'000'000);

// How long the core does nothing else when the files are replaced, with a million items: half of them wait for policies, the others for time.
// 0: a limit changes; 1: other fields are counted; 2: delivery.yaml gets lifetimes by condition.
void reload_pause(benchmark::State& state) {
    constexpr std::int64_t items = 500'000;
    const auto load = stopped_queue(items);
    for (std::int64_t i = 0; i < items; ++i) load->tell(load->later_mail(static_cast<std::uint32_t>(load->random.below(100))));
    load->settle();
    const char* const base = "{fields: [tenantid, recipientdomain], conditions: [{if: {tenantid: free}, then: {concurrency: 50}}], default: ";
    const std::string usual = std::string(base) + "{rate: {count: 1, interval: 86400, algorithm: fixedwindow}}}";
    bool other = false;
    double worst = 0;
    for (auto _ : state) {
        other = !other;
        Options options;
        options.policies = policies("[" + usual + "]");
        if (state.range(0) == 0 && other) {
            options.policies = policies("[" + std::string(base) + "{rate: {count: 1, interval: 80000, algorithm: fixedwindow}, concurrency: 7}}]");
        } else if (state.range(0) == 1 && other) {
            options.policies = policies("[" + usual + ", {fields: [tenantid], default: {concurrency: 9}}]");
        } else if (state.range(0) == 2 && other) {
            Problems problems;
            auto file = policy::parse_delivery("conditions: [{if: {tenantid: tenant7}, then: {retry: {lifetime: 900000}}}]", "delivery.yaml",
                                               *options.policies, problems);
            options.deliveries = std::make_shared<const policy::DeliveryFile>(std::move(*file));
        }
        load->actions.clear();
        const auto begin = std::chrono::steady_clock::now();
        load->tell(Configure{std::move(options)});
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        worst = std::max(worst, took.count());
        state.SetIterationTime(took.count());
        load->settle();
    }
    state.counters["worst_ms"] = worst * 1e3;
}
BENCHMARK(reload_pause)->Arg(0)->Arg(1)->Arg(2)->Iterations(6)->UseManualTime()->Unit(benchmark::kMillisecond);

double cpu_ms() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// Reloads, and does all that follows from it. Reports the longest single step, in milliseconds of processor time and by the clock.
void reload(benchmark::State& state, Load& load, Options options) {
    double worst = 0, worst_cpu = 0, steps = 0;
    Event event = Configure{std::move(options)};
    do {
        const double cpu_before = cpu_ms();
        const auto begin = std::chrono::steady_clock::now();
        load.tell(std::move(event));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        worst_cpu = std::max(worst_cpu, cpu_ms() - cpu_before);
        worst = std::max(worst, took.count());
        ++steps;
        event = Tick{};
        load.now += Duration(2);
        load.actions.clear();
    } while (load.core.stats().backlog > 0);
    state.counters["worst_ms"] = worst * 1e3;
    state.counters["worst_cpu_ms"] = worst_cpu;
    state.counters["steps"] = steps;
}

constexpr const char* one_a_day = "default: {rate: {count: 1, interval: 86400, algorithm: fixedwindow}}}";

// So many messages that are ready, each a job of its own.
std::unique_ptr<Load> jobs(const Options& options, std::uint32_t count) {
    auto load = std::make_unique<Load>(options, 100);
    for (std::uint32_t i = 0; i < count; ++i) {
        Admit mail = load->mail(i % 100);
        mail.job = "job" + std::to_string(i);
        load->tell(std::move(mail));
        if (i < 200) load->settle();
    }
    return load;
}

// The same, with a million messages that are ready, each a job of its own, which is counted from then on: the longest single step until all are sorted.
void reload_sorts(benchmark::State& state) {
    for (auto _ : state) {
        state.PauseTiming();
        Options options;
        options.policies = policies(std::string("[{fields: [], ") + one_a_day + "]");
        const auto load = jobs(options, 1'000'000);
        options.policies = policies(std::string("[{fields: [jobid], ") + one_a_day + ", {fields: [], " + one_a_day + "]");
        state.ResumeTiming();
        reload(state, *load, std::move(options));
    }
}
BENCHMARK(reload_sorts)->Iterations(1)->Unit(benchmark::kMillisecond);

// The longest step with a million lanes that wait: 0: limits change; 1: other fields are counted.
void reload_lanes(benchmark::State& state) {
    for (auto _ : state) {
        state.PauseTiming();
        Options options;
        options.policies = policies(std::string("[{fields: [jobid], ") + one_a_day + ", {fields: [], " + one_a_day + "]");
        const auto load = jobs(options, 1'000'000);
        if (state.range(0) == 0) options.policies = policies(std::string("[{fields: [jobid], default: {concurrency: 3}}, {fields: [], ") + one_a_day + "]");
        else options.policies = policies(std::string("[{fields: [jobid, recipientdomain], ") + one_a_day + ", {fields: [], " + one_a_day + "]");
        state.counters["lanes"] = static_cast<double>(load->core.stats().lanes);
        state.ResumeTiming();
        reload(state, *load, std::move(options));
    }
}
BENCHMARK(reload_lanes)->Arg(0)->Arg(1)->Iterations(1)->Unit(benchmark::kMillisecond);

// The longest step with a million live buckets, which remember what was sent today: 0: limits change; 1: other fields are counted as well; 2: nothing else counts
// what they did.
void reload_buckets(benchmark::State& state) {
    const std::string daily = "{fields: [tenantid], default: {concurrency: 5, rate: {count: 1000000, interval: 86400, algorithm: fixedwindow}}}";
    const std::string wanted[] = {"[{fields: [tenantid], default: {concurrency: 7, rate: {count: 500000, interval: 86400, algorithm: fixedwindow}}}]",
                                  "[{fields: [recipientdomain], default: {concurrency: 9}}, " + daily + "]", "[{fields: [jobid], default: {concurrency: 9}}]"};
    for (auto _ : state) {
        state.PauseTiming();
        Options options;
        options.policies = policies("[" + daily + "]");
        Load load(options, 1);
        for (std::int64_t i = 0; i < 1'000'000; ++i) {
            load.tell(load.mail(0, tenant(i)));
            load.settle();
        }
        options.policies = policies(wanted[state.range(0)]);
        state.counters["buckets"] = static_cast<double>(load.core.stats().buckets);
        state.ResumeTiming();
        reload(state, load, std::move(options));
        state.counters["buckets_then"] = static_cast<double>(load.core.stats().buckets);
    }
}
BENCHMARK(reload_buckets)->Arg(0)->Arg(1)->Arg(2)->Iterations(1)->Unit(benchmark::kMillisecond);

// The usual case under a delivery.yaml that asks for the host.
void busy_domain_under_delivery_file(benchmark::State& state) {
    Problems problems;
    auto file = policy::parse_delivery("conditions: [{if: {remotemx: '/^mx[0-9]+\\.other\\.test$/'}, then: {family: ipv4}},"
                                       " {if: {remotemx: '*.example.test'}, then: {pooling: {transactions: 1000}, family: prefer_ipv4}}]\n",
                                       "delivery.yaml", policy::PolicySet(), problems);
    Options options;
    options.deliveries = std::make_shared<const policy::DeliveryFile>(std::move(*file));
    Load load(options, 1);
    keep_busy(state, load, Duration(0));
}
BENCHMARK(busy_domain_under_delivery_file);

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
