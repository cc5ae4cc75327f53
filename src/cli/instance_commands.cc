#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "config/instance.h"
#include "config/load.h"
#include "spool/dump.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

void init(Session& session, const std::string& directory, bool demo) {
    const Result<config::InitReport> report = demo ? config::init_demo(directory) : config::init(directory);
    if (!report) return session.fail_with(report.error());
    if (session.json) {
        json::object out{{"created", json::array()}, {"kept", json::array()}};
        for (const std::string& path : report->created) out["created"].as_array().emplace_back(path);
        for (const std::string& path : report->kept) out["kept"].as_array().emplace_back(path);
        return Session::print_json(out);
    }
    for (const std::string& path : report->created) std::printf("created %s/%s\n", directory.c_str(), path.c_str());
    for (const std::string& path : report->kept) std::printf("kept    %s/%s\n", directory.c_str(), path.c_str());
    std::printf("next: sluice check %s && sluice serve %s\n", directory.c_str(), directory.c_str());
}

void check(Session& session, const std::string& directory) {
    const config::Loaded loaded = config::load(std::filesystem::absolute(directory).lexically_normal().string());
    if (!loaded.settings) session.exit_code = exit_config;
    if (session.json) {
        json::array list;
        for (const Problem& problem : loaded.problems) list.push_back(problem_json(problem));
        const json::object out{{"good", loaded.settings != nullptr}, {"problems", std::move(list)}};
        return Session::print_json(out);
    }
    for (const Problem& problem : loaded.problems) std::puts(problem.text().c_str());
    std::puts(loaded.settings ? "the configuration is good" : "the configuration has errors");
}

// The journal of an instance, or the folder itself when it is one.
std::string journal_folder(const std::string& directory) {
    const config::Loaded loaded = config::load(std::filesystem::absolute(directory).lexically_normal().string());
    if (loaded.settings && std::filesystem::exists(directory + "/config")) return loaded.settings->spool.directory;
    return directory;
}

void print_survey(const Session& session, const spool::JournalSurvey& survey) {
    if (session.json) {
        json::array problems;
        for (const spool::JournalProblem& problem : survey.problems) {
            problems.push_back(json::object{{"harmless", problem.harmless}, {"problem", problem.sentence}});
        }
        const json::object out{{"sound", survey.sound()},       {"segments", survey.segments}, {"records", survey.records},
                               {"messages", survey.messages},   {"bytes", survey.bytes},
                               {"problems", std::move(problems)}};
        return Session::print_json(out);
    }
    for (const spool::JournalProblem& problem : survey.problems) {
        std::printf("%s: %s\n", problem.harmless ? "harmless" : "problem", problem.sentence.c_str());
    }
    std::printf(
        "%llu segments, %llu records, %llu messages: %s\n", static_cast<unsigned long long>(survey.segments),
        static_cast<unsigned long long>(survey.records), static_cast<unsigned long long>(survey.messages),
        survey.sound() ? "sound" : "damaged");
}

void add_journal_commands(CLI::App& app, Session& session) {
    CLI::App* journal = app.add_subcommand("journal", "read the journal of an instance, running or not");
    journal->require_subcommand(1);
    journal->fallthrough();
    const auto directory = std::make_shared<std::string>();
    CLI::App* dump = journal->add_subcommand("dump", "every record, one JSON object a line");
    dump->add_option("DIR", *directory, "instance or journal directory")->required();
    dump->callback([directory, &session] {
        const Result<spool::JournalSurvey> survey =
            spool::dump_journal(journal_folder(*directory), [](const std::string& line) { std::puts(line.c_str()); });
        if (!survey) session.fail_with(survey.error());
        else if (survey->segments == 0) session.fail_with(Error(Errc::not_found, "no journal in " + *directory));
        else if (!survey->sound()) session.exit_code = exit_failed;
    });
    CLI::App* verify = journal->add_subcommand("verify", "checks every checksum; exit code 1 when something is wrong");
    verify->add_option("DIR", *directory, "instance or journal directory")->required();
    verify->callback([directory, &session] {
        const Result<spool::JournalSurvey> survey = spool::verify_journal(journal_folder(*directory));
        if (!survey) return session.fail_with(survey.error());
        if (survey->segments == 0) return session.fail_with(Error(Errc::not_found, "no journal in " + *directory));
        if (!survey->sound()) session.exit_code = exit_failed;
        print_survey(session, *survey);
    });
}

}  // namespace

json::object problem_json(const Problem& problem) {
    return {{"severity", problem.severity == Severity::error ? "error" : "warning"},
            {"file", problem.file},
            {"line", problem.line},
            {"message", problem.message},
            {"suggestion", problem.suggestion}};
}

void add_instance_commands(CLI::App& app, Session& session) {
    struct Options {
        std::string directory;
        bool demo = false;
    };
    const auto options = std::make_shared<Options>();
    CLI::App* make = app.add_subcommand("init", "make an instance directory; never overwrites");
    make->add_option("DIR", options->directory, "instance directory")->required();
    make->add_flag("--demo", options->demo, "all mail goes to a sink on this machine");
    make->callback([options, &session] { init(session, options->directory, options->demo); });

    const auto directory = std::make_shared<std::string>();
    CLI::App* checking = app.add_subcommand("check", "validate all configuration; exit code 78 when it is wrong");
    checking->add_option("DIR", *directory, "instance directory (default: -c)");
    checking->callback([directory, &session] { check(session, directory->empty() ? session.directory : *directory); });
    add_journal_commands(app, session);
}

bool run_haraka_options(const HarakaOptions& options, Session& session) {
    if (!options.init_directory.empty()) {
        init(session, options.init_directory, false);
    } else if (options.list) {
        ListOptions everything;
        everything.limit = 0;
        print_queue_list(session, everything, true);
    } else if (options.stat) {
        print_queue_stats(session, true);
    } else if (options.unstick_given) {
        send_queue_command(session, "flush", "", options.unstick, options.unstick.empty());
    } else if (!options.remove.empty()) {
        send_queue_command(session, "delete", "", options.remove, false);
    } else if (options.empty) {
        send_queue_command(session, "delete", "", "", true);
    } else {
        return false;
    }
    return true;
}

}  // namespace sluice::cli
