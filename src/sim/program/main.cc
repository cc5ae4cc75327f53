// queue_sim: runs the queue core through made-up or described worlds. Exit code 0: all promises were kept.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/clock.h"
#include "base/text.h"
#include "sim/scenario.h"
#include "sim/world.h"

namespace {

using namespace sluice;

// What the command line asks for.
struct Wish {
    std::uint64_t first = 1, last = 1;
    std::string file;
    bool policies = false, quiet = false;
    sim::Fault fault = sim::Fault::none;
    sim::Scenario described;
};

sim::Scenario scenario_of(const Wish& wish, std::uint64_t seed) {
    if (!wish.file.empty()) return wish.described;
    return wish.policies ? sim::random_policy_scenario(seed) : sim::random_scenario(seed);
}

// The seed is printed before the run, so that an abort inside the core names it as well.
bool run_seed(const Wish& wish, std::uint64_t seed) {
    std::printf("%sseed %llu: ", wish.quiet ? "\r" : "", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    sim::World world(scenario_of(wish, seed), seed, wish.fault);
    const sim::Report report = world.run();
    if (!wish.quiet || report.violation) {
        std::printf("%llu events, %llu attempts, %llu delivered, %llu failed, %llu removed in %lld virtual seconds\n",
                    static_cast<unsigned long long>(report.events), static_cast<unsigned long long>(report.attempts),
                    static_cast<unsigned long long>(report.delivered), static_cast<unsigned long long>(report.failed),
                    static_cast<unsigned long long>(report.removed), static_cast<long long>(report.lasted.count() / 1'000));
    }
    if (!report.violation) return true;
    const std::string scenario = wish.file.empty() ? (wish.policies ? " --policies" : "") : " --scenario " + wish.file;
    std::printf("VIOLATION: %s\nreplay: queue_sim --seed %llu%s\n", report.violation->c_str(), static_cast<unsigned long long>(seed), scenario.c_str());
    const sim::Scenario begun = scenario_of(wish, seed);
    if (wish.policies) std::printf("policies at the beginning and the end:\n%s", begun.core.policies->text.c_str());
    return false;
}

// "20": so many; "5..9": these.
bool parse_seeds(const std::string& text, Wish& wish) {
    const std::size_t dots = text.find("..");
    const auto first = parse_number<std::uint64_t>(text.substr(0, dots));
    if (!first) return false;
    if (dots == std::string::npos) {
        wish.last = wish.first + std::max<std::uint64_t>(*first, 1) - 1;
        return true;
    }
    const auto last = parse_number<std::uint64_t>(text.substr(dots + 2));
    wish.first = *first;
    wish.last = last.value_or(0);
    return last && *last >= *first;
}

bool read_scenario(Wish& wish) {
    std::ifstream in(wish.file);
    std::stringstream text;
    text << in.rdbuf();
    Result<sim::Scenario> parsed = sim::parse_scenario(text.str());
    if (!in || !parsed) {
        std::printf("%s: %s\n", wish.file.c_str(), parsed ? "cannot be read" : parsed.error().detail.c_str());
        return false;
    }
    wish.described = std::move(*parsed);
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Runs the queue core under virtual time and checks its promises."};
    Wish wish;
    std::string seeds, fault;
    std::uint64_t fresh = 0;
    app.add_option("--seed", wish.first, "first seed");
    app.add_option("--seeds", seeds, "how many, or FROM..TO");
    app.add_option("--fresh", fresh, "so many seeds that nobody has run before");
    app.add_option("--scenario", wish.file, "a scenario file instead of a made-up world");
    app.add_flag("--policies", wish.policies, "worlds in which a random policy file is what matters, and changes");
    app.add_flag("--quiet", wish.quiet, "a line for violations only");
    app.add_option("--fault", fault, "give the core policies that are wrong by this: the judge must find out")->check(CLI::IsMember(sim::fault_list()));
    CLI11_PARSE(app, argc, argv);

    wish.last = wish.first;
    if (!seeds.empty() && !parse_seeds(seeds, wish)) {
        std::printf("--seeds: expected a number or FROM..TO\n");
        return 2;
    }
    if (fresh > 0) {
        wish.first = static_cast<std::uint64_t>(wall_clock_ms());
        wish.last = wish.first + fresh - 1;
        std::printf("seeds %llu..%llu\n", static_cast<unsigned long long>(wish.first), static_cast<unsigned long long>(wish.last));
    }
    if (!fault.empty()) wish.fault = sim::fault_of(fault);
    if (!wish.file.empty() && !read_scenario(wish)) return 2;
    for (std::uint64_t seed = wish.first; seed <= wish.last; ++seed) {
        if (!run_seed(wish, seed)) return 1;
    }
    if (wish.quiet) std::printf("all kept\n");
    return 0;
}
