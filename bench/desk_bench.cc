// What questions about a deep queue cost the core: all in all, and at most in one go.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "base/random.h"
#include "queue/core.h"
#include "queue/views.h"

namespace sluice::queue {
namespace {

constexpr std::uint32_t places_at_once = 50'000;

// A million items that wait for their time, for as many domains as asked for, of a hundred tenants.
class DeepQueue {
public:
    explicit DeepQueue(std::uint32_t domains) : core(Options{}) {
        constexpr std::uint64_t items = 1'000'000;
        std::vector<Action> actions;
        for (std::uint64_t i = 0; i < items; ++i) {
            Admit admit;
            admit.id = ItemId{MessageId{i + 1}, 0};
            admit.domain = "domain" + std::to_string(random.below(domains)) + ".example.test";
            admit.tenant = "tenant" + std::to_string(random.below(100));
            admit.arrival = now - Duration(static_cast<std::int64_t>(random.below(400'000'000)));
            admit.due = now + Duration(1'000 + static_cast<std::int64_t>(random.below(86'400'000)));
            admit.attempts = static_cast<std::uint16_t>(random.below(9));
            admit.size = static_cast<std::uint32_t>(1'000 + random.below(100'000));
            admit.last_reply = "451 4.7." + std::to_string(random.below(5)) + " try again later";
            core.handle(std::move(admit), now, actions);
        }
    }
    Core core;
    Instant now = instant_from_ms(1'795'000'000'000);
    Random random{1};
};

void survey(benchmark::State& state, const char* where, std::vector<const char*> by, std::uint32_t domains) {
    const DeepQueue deep(domains);
    Survey asked;
    asked.filter = *Filter::parse(where, deep.core.fields());
    for (const char* name : by) asked.by.push_back(*Column::parse(name, deep.core.fields()));
    double longest = 0;
    std::size_t groups = 0;
    for (auto _ : state) {
        for (std::optional<Core::Place> next = 0; next;) {
            std::vector<Group> into;
            const auto began = std::chrono::steady_clock::now();
            next = deep.core.survey(asked, *next, places_at_once, into);
            longest = std::max(longest, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
            groups = std::max(groups, into.size());
        }
    }
    state.counters["longest_ms"] = longest;
    state.counters["groups"] = static_cast<double>(groups);
}

BENCHMARK_CAPTURE(survey, all, "", {}, 1'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(survey, by_domain, "", {"domain"}, 1'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(survey, by_domain_and_tenant, "", {"domain", "tenant"}, 100)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(survey, by_reply, "", {"reply"}, 1'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(survey, filtered, "domain=*.example.test age>2h attempts>=3 reply~again", {"tenant"}, 1'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(survey, by_domain_of_many, "", {"domain"}, 1'000'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice::queue
