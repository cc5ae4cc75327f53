#include "cli/run.h"

#include <boost/json/serialize.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/text.h"
#include "cli/commands.h"

namespace sluice::cli {

void Session::fail_with(const Error& error) {
    // It may quote names and answers of anybody.
    std::fprintf(stderr, "sluice: %s\n", error.detail.empty() ? name_of(error.code) : printable(error.detail).c_str());
    switch (error.code) {
        case Errc::not_found: exit_code = exit_not_found; return;
        case Errc::refused: exit_code = exit_unavailable; return;
        case Errc::config: exit_code = exit_config; return;
        default: exit_code = exit_failed; return;
    }
}

void Session::print_json(const boost::json::value& value) { std::printf("%s\n", boost::json::serialize(value).c_str()); }

namespace {

// The instance of the Debian package: what commands mean when nobody names one. It is served only by name.
constexpr const char* packaged_instance = "/var/lib/sluice";

std::string usual_instance() {
    // Nobody else runs yet who could change the environment.
    if (const char* preset = std::getenv("SLUICE_DIR")) return preset;
    std::error_code ignored;
    return std::filesystem::is_directory(packaged_instance, ignored) ? packaged_instance : "";
}

}  // namespace

int run(int argc, char** argv, const std::function<int(const std::string& directory)>& serve,
        const std::function<void(CLI::App& app, Session& session)>& add_more) {
    CLI::App app("Sluice, a programmable outbound mail engine", "sluice");
    app.set_version_flag("-v,--version", std::string("sluice " SLUICE_VERSION));
    app.fallthrough();

    Session session;
    session.directory = usual_instance();
    app.add_option("-c,--directory", session.directory, "instance directory (default: $SLUICE_DIR, or /var/lib/sluice when it is there); alone: serve it");
    app.add_flag("--json", session.json, "print data as JSON");
    app.add_flag("--show-request", session.show_requests, "print the API request that is sent");
    HarakaOptions haraka;
    add_haraka_options(app, haraka);

    std::string serve_directory;
    CLI::App* serve_command = app.add_subcommand("serve", "run an instance in the foreground; logs to standard output");
    serve_command->add_option("DIR", serve_directory, "instance directory");
    add_instance_commands(app, session);
    add_engine_commands(app, session);
    add_policy_commands(app, session);
    add_suspend_commands(app, session);
    add_plugin_commands(app, session);
    add_peer_commands(app, session);
    add_more(app, session);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : exit_usage;
    }
    if (serve_command->parsed() || (app.get_subcommands().empty() && !run_haraka_options(haraka, session))) {
        const std::string directory = serve_directory.empty() ? session.directory : serve_directory;
        const bool named = !serve_directory.empty() || app.count("--directory") > 0 || std::getenv("SLUICE_DIR") != nullptr;
        if (!named || directory.empty()) {
            std::fputs(app.help().c_str(), stderr);
            return exit_usage;
        }
        std::error_code ignored;
        const auto absolute = std::filesystem::absolute(directory, ignored).lexically_normal();
        return serve(absolute.string());
    }
    return session.exit_code;
}

}  // namespace sluice::cli
