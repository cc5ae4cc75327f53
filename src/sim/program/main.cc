// queue_sim: runs the queue core through made-up or described worlds. Exit code 0: all promises were kept.

#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "sim/scenario.h"
#include "sim/world.h"

namespace {

using namespace sluice;

// The seed is printed before the run, so that an abort inside the core names it as well.
bool run_seed(std::uint64_t seed, const std::string& file, const sim::Scenario* described) {
    std::printf("seed %llu: ", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    sim::World world(described != nullptr ? *described : sim::random_scenario(seed), seed);
    const sim::Report report = world.run();
    std::printf("%llu events, %llu attempts, %llu delivered, %llu failed, %llu removed in %lld virtual seconds\n",
                static_cast<unsigned long long>(report.events), static_cast<unsigned long long>(report.attempts),
                static_cast<unsigned long long>(report.delivered), static_cast<unsigned long long>(report.failed),
                static_cast<unsigned long long>(report.removed), static_cast<long long>(report.lasted.count() / 1'000));
    if (!report.violation) return true;
    const std::string scenario = described != nullptr ? " --scenario " + file : "";
    std::printf("VIOLATION: %s\nreplay: queue_sim --seed %llu%s\n", report.violation->c_str(),
                static_cast<unsigned long long>(seed), scenario.c_str());
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Runs the queue core under virtual time and checks its promises."};
    std::uint64_t seed = 1;
    std::uint64_t seeds = 1;
    std::string file;
    app.add_option("--seed", seed, "first seed");
    app.add_option("--seeds", seeds, "how many seeds, one after the other");
    app.add_option("--scenario", file, "a scenario file instead of a made-up world");
    CLI11_PARSE(app, argc, argv);

    sim::Scenario described;
    if (!file.empty()) {
        std::ifstream in(file);
        std::stringstream text;
        text << in.rdbuf();
        Result<sim::Scenario> parsed = sim::parse_scenario(text.str());
        if (!in || !parsed) {
            std::printf("%s: %s\n", file.c_str(), parsed ? "cannot be read" : parsed.error().detail.c_str());
            return 2;
        }
        described = std::move(*parsed);
    }
    for (std::uint64_t i = 0; i < seeds; ++i) {
        if (!run_seed(seed + i, file, file.empty() ? nullptr : &described)) return 1;
    }
    return 0;
}
