#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "config/sources.h"
#include "policy/check.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

json::object ceiling_json(const policy::Ceiling& ceiling) {
    json::object out{{"policy", ceiling.policy}, {"line", ceiling.line},     {"when", ceiling.when},
                     {"limits", ceiling.limits}, {"per", ceiling.per}};
    if (ceiling.sessions) out["sessions"] = *ceiling.sessions;
    if (!ceiling.bound_by.empty()) out["bound_by"] = ceiling.bound_by;
    return out;
}

void print_ceilings(const std::vector<policy::Ceiling>& ceilings) {
    std::string last;
    for (const policy::Ceiling& ceiling : ceilings) {
        if (ceiling.policy != last) std::printf("%s, for each of %s:\n", ceiling.policy.c_str(), ceiling.per.c_str());
        last = ceiling.policy;
        std::printf("  %s: %s", ceiling.when.c_str(), ceiling.limits.c_str());
        if (!ceiling.bound_by.empty()) std::printf("; in fact at most %u sessions, because of %s", *ceiling.sessions, ceiling.bound_by.c_str());
        std::printf("\n");
    }
}

// What the file says, with everything that can be told of it without running it.
void check(Session& session, const std::string& given) {
    const std::string path = given.empty() ? session.directory + "/config/policy.yaml" : given;
    constexpr std::size_t bytes_max = 64 << 20;
    const Result<std::string> text = config::read_named(path, bytes_max);
    if (!text) return session.fail_with(Error(Errc::not_found, path + ": " + text.error().detail));
    Problems problems;
    const policy::PolicySetPtr set = policy::parse_policies(*text, path, problems);
    const bool good = !problems.any_error();
    std::vector<Problem> found = problems.take();
    std::vector<policy::Ceiling> ceilings;
    if (good) {
        for (Problem& problem : policy::review(*set, path)) found.push_back(std::move(problem));
        ceilings = policy::ceilings(*set);
    } else {
        session.exit_code = exit_config;
    }
    if (session.json) {
        json::array problem_list, ceiling_list;
        for (const Problem& problem : found) problem_list.push_back(problem_json(problem));
        for (const policy::Ceiling& ceiling : ceilings) ceiling_list.push_back(ceiling_json(ceiling));
        return Session::print_json(json::object{
            {"good", good}, {"problems", std::move(problem_list)}, {"ceilings", std::move(ceiling_list)}});
    }
    for (const Problem& problem : found) std::puts(problem.text().c_str());
    print_ceilings(ceilings);
    std::puts(good ? "the policies are good" : "the policies have errors");
}

}  // namespace

void add_policy_commands(CLI::App& app, Session& session) {
    CLI::App* policy = app.add_subcommand("policy", "what limits deliveries");
    policy->require_subcommand(1);
    policy->fallthrough();
    const auto file = std::make_shared<std::string>();
    CLI::App* checking = policy->add_subcommand("check", "validate a policy file, warn of what can never happen, print the ceilings; exit code 78 when it is wrong");
    checking->add_option("FILE", *file, "policy file (default: config/policy.yaml of -c)");
    checking->callback([file, &session] { check(session, *file); });
    add_condition_commands(*policy, session);
}

}  // namespace sluice::cli
