#include "daemon/simulate.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "config/load.h"
#include "config/sources.h"
#include "daemon/machinery.h"
#include "sim/rehearsal.h"

namespace sluice::daemon {
namespace {

struct Wish {
    std::string directory, against, traffic, receivers;
    std::vector<std::string> policies;
    std::uint64_t seed = 1;
};

// What one run is made from.
struct Cast {
    std::string label;
    config::SettingsPtr settings;
    policy::PolicySetPtr policies;
};

std::optional<std::string> text_of(const std::string& path, Problems& problems) {
    constexpr std::size_t bytes_max = std::size_t{4} << 30;  // a recording may be long
    Result<std::string> text = config::read_named(path, bytes_max);
    if (text) return std::move(*text);
    problems.error(path, 0, text.error().detail);
    return std::nullopt;
}

std::optional<Cast> cast_of(const std::string& directory, Problems& problems) {
    std::error_code ignored;
    config::Loaded loaded = config::load(std::filesystem::absolute(directory, ignored).lexically_normal().string());
    for (const Problem& problem : loaded.problems) {
        if (problem.severity == Severity::error) problems.error(directory + "/" + problem.file, problem.line, problem.message, problem.suggestion);
    }
    if (!loaded.settings) return std::nullopt;
    return Cast{directory + "/config", loaded.settings, loaded.settings->policies};
}

std::optional<Cast> with_policy(const Cast& cast, const std::string& path, Problems& problems) {
    const std::optional<std::string> text = text_of(path, problems);
    if (!text) return std::nullopt;
    Cast changed{path, cast.settings, policy::parse_policies(*text, path, problems)};
    return problems.any_error() ? std::nullopt : std::optional(std::move(changed));
}

std::vector<Cast> casts_of(const Wish& wish, Problems& problems) {
    std::vector<Cast> casts;
    const std::optional<Cast> own = cast_of(wish.directory, problems);
    if (!own) return casts;
    for (const std::string& path : wish.policies) {
        if (auto cast = with_policy(*own, path, problems)) casts.push_back(std::move(*cast));
    }
    if (wish.policies.empty()) casts.push_back(*own);
    if (wish.against.empty()) return casts;
    if (auto other = cast_of(wish.against, problems)) casts.push_back(std::move(*other));
    return casts;
}

std::optional<sim::Traffic> traffic_of(const Wish& wish, Problems& problems) {
    const std::optional<std::string> text = text_of(wish.traffic, problems);
    if (!text) return std::nullopt;
    const bool is_recording = text->starts_with('{') && text->find("\"event\":") != std::string::npos;
    if (!is_recording && !wish.receivers.empty()) {
        problems.error(wish.traffic, 0, "--receivers is for recorded mail: this file describes its receivers itself");
        return std::nullopt;
    }
    if (!is_recording) return sim::parse_traffic(*text, wish.traffic, problems);
    std::optional<sim::Traffic> traffic = sim::parse_recording(*text, wish.traffic, problems);
    if (!traffic || wish.receivers.empty()) return traffic;
    const std::optional<std::string> receivers = text_of(wish.receivers, problems);
    if (!receivers || !sim::parse_receivers(*receivers, wish.receivers, *traffic, problems)) return std::nullopt;
    return traffic;
}

// The same everywhere: not less because this machine allows fewer descriptors.
queue::Options options_of(const Cast& cast, std::uint64_t seed) {
    queue::Options options = core_options(*cast.settings, 1, seed);
    options.concurrency_max = cast.settings->outbound.concurrency_max;
    options.policies = cast.policies;
    return options;
}

void simulate(cli::Session& session, const Wish& wish) {
    Problems problems;
    const std::vector<Cast> casts = casts_of(wish, problems);
    const std::optional<sim::Traffic> traffic = traffic_of(wish, problems);
    for (const Problem& problem : problems.all()) std::fprintf(stderr, "%s\n", problem.text().c_str());
    if (problems.any_error() || !traffic) {
        session.exit_code = cli::exit_config;
        return;
    }
    std::vector<sim::Rehearsed> runs;
    for (const Cast& cast : casts) {
        runs.push_back(sim::Rehearsal(*traffic, cast.settings, options_of(cast, wish.seed), wish.seed).run());
        runs.back().label = cast.label;
    }
    if (session.json) return cli::Session::print_json(sim::report_json(*traffic, runs));
    std::fputs(sim::report_text(*traffic, runs).c_str(), stdout);
}

}  // namespace

void add_simulate_command(CLI::App& app, cli::Session& session) {
    const auto wish = std::make_shared<Wish>();
    CLI::App* command = app.add_subcommand("simulate", "rehearse policies and settings under virtual time against described or recorded mail");
    command->add_option("--config", wish->directory, "instance directory whose settings hold (default: that of -c)");
    command->add_option("--traffic", wish->traffic, "what is sent and who receives it: a traffic file, or recorded events.jsonl")->required();
    command->add_option("--receivers", wish->receivers, "a traffic file whose receivers take recorded mail");
    command->add_option("--seed", wish->seed, "the same seed gives the same report (default: 1)");
    CLI::Option* const against = command->add_option("--against", wish->against, "another instance directory, to compare with");
    command->add_option("--policy", wish->policies, "policy file in place of the instance's; twice: compare two")->expected(1)->take_all()->excludes(against);
    command->callback([wish, &session] {
        if (wish->directory.empty()) wish->directory = session.directory;
        if (wish->directory.empty() || wish->policies.size() > 2) {
            std::fputs(wish->directory.empty() ? "sluice: simulate needs --config DIR\n" : "sluice: at most two of --policy\n", stderr);
            session.exit_code = cli::exit_usage;
            return;
        }
        simulate(session, *wish);
    });
}

}  // namespace sluice::daemon
