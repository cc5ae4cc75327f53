// Taking over the queue of a Haraka.

#include <unistd.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "control/json.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

constexpr const char* imports_path = "/v1/queue/import";
constexpr std::chrono::milliseconds first_look{50};
constexpr std::chrono::milliseconds look{500};

struct ImportOptions {
    std::string directory;
    bool dry_run = false, force = false, background = false, cancel = false;
};

bool is_under_way(const json::object& import) {
    const std::string state = member(import, "state");
    return state == "running" || state == "waiting";
}

std::string progress_of(const json::object& import) {
    std::string text = member(import, "imported") + " of " + member(import, "found") + " files";
    if (member(import, "state") == "waiting") text += ", waiting: " + member(import, "problem");
    return text;
}

void print_left(const json::object& import) {
    const json::array& files = import.at("left_files").as_array();
    for (const json::value& value : files) {
        const json::object& file = value.as_object();
        std::fprintf(
            stderr, "left: %s: octet %s: %s\n", member(file, "file").c_str(), member(file, "offset").c_str(), member(file, "reason").c_str());
    }
    if (member(import, "left") != std::to_string(files.size())) {
        std::fprintf(stderr, "and more: %s in all\n", member(import, "left").c_str());
    }
}

void print_import(Session& session, const json::value& value) {
    const json::object& import = value.as_object();
    const bool failed = member(import, "state") == "failed";
    if (failed || member(import, "left") != "0") session.exit_code = exit_failed;
    if (session.json) return Session::print_json(value);
    if (failed) std::fprintf(stderr, "sluice: %s\n", member(import, "problem").c_str());
    const bool dry_run = import.at("dry_run").as_bool();
    std::printf(
        "%s: %s %s of %s files, %s octets", member(import, "directory").c_str(), dry_run ? "would import" : "imported",
        member(import, "imported").c_str(), member(import, "found").c_str(), member(import, "octets").c_str());
    const auto add = [&](const char* key, const char* meaning) {
        if (member(import, key) != "0") std::printf("; %s %s", member(import, key).c_str(), meaning);
    };
    add("repeated", "were imported before");
    add("mended", "with line ends that had to be mended");
    add("temporary", "never finished by Haraka, not looked at");
    add("left", "left where they are");
    std::printf("%s\n", member(import, "state") == "cancelled" ? "; cancelled" : "");
    print_left(import);
}

// Looks at the import until it is over; a terminal sees how far it is.
void follow(Session& session, json::value shown) {
    const bool shows = !session.json && ::isatty(STDERR_FILENO) == 1;
    for (auto wait = first_look; is_under_way(shown.as_object()); wait = look) {
        std::this_thread::sleep_for(wait);
        Result<json::value> now = session.client().get_json(imports_path);
        if (!now) return session.fail_with(now.error());
        shown = std::move(*now);
        if (shows) std::fprintf(stderr, "\r\x1b[K%s", progress_of(shown.as_object()).c_str());
    }
    if (shows) std::fputs("\r\x1b[K", stderr);
    print_import(session, shown);
}

Result<json::value> ask_engine(Session& session, const ImportOptions& options) {
    if (options.cancel) return session.client().post_json(std::string(imports_path) + "/cancel", {});
    if (options.directory.empty()) return session.client().get_json(imports_path);
    json::object body{{"directory", options.directory}};
    if (options.dry_run) body["dry_run"] = true;
    if (options.force) body["force"] = true;
    return session.client().post_json(imports_path, body);
}

void take_over(Session& session, ImportOptions options, const QueueSight& sight) {
    if (!options.directory.empty()) {
        std::error_code ignored;
        options.directory = std::filesystem::absolute(options.directory, ignored).lexically_normal().string();
    }
    if (!options.directory.empty() && !options.dry_run && !options.force) {
        if (const auto at_work = sight.at_work(options.directory)) return session.fail_with(Error(Errc::locked, *at_work));
    }
    Result<json::value> answer = ask_engine(session, options);
    const bool nobody = !answer && answer.error().code == Errc::refused;
    if (nobody && options.dry_run && !options.directory.empty()) {
        return print_import(session, control::to_json(sight.dry_run(options.directory)));
    }
    if (nobody) {
        return session.fail_with(Error(
            Errc::refused, answer.error().detail + "; start it: it takes over what a Haraka left in its own queue directory by itself"));
    }
    if (!answer) return session.fail_with(answer.error());
    if (options.cancel || options.background) return print_import(session, *answer);
    follow(session, std::move(*answer));
}

}  // namespace

void add_import_command(CLI::App& app, Session& session, const QueueSight& sight) {
    const auto options = std::make_shared<ImportOptions>();
    CLI::App* command = app.get_subcommand("queue")->add_subcommand("import", "take over the queue directory of a Haraka that has ended");
    command->add_option("DIR", options->directory, "its queue directory; without: look at the import that is running, or was last");
    command->add_flag("--dry-run", options->dry_run, "only read, and say what would be left; also without an engine");
    command->add_flag("--force", options->force, "also when a Haraka seems to work on it");
    command->add_flag("--background", options->background, "do not wait for the end");
    command->add_flag("--cancel", options->cancel, "end the import that is running; what is imported stays so");
    command->callback([options, &session, sight] { take_over(session, *options, sight); });
}

}  // namespace sluice::cli
