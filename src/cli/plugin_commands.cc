// JavaScript plugins: what runs, what it costs, and the tools of their authors.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/new_plugin.h"
#include "cli/table.h"
#include "config/load.h"
#include "config/plugins.h"
#include "plugin/node_host.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

// ---- what runs -------------------------------------------------------------------------------------------------

double real(const json::object& object, const char* key) {
    const json::value* const value = object.if_contains(key);
    return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string mebibytes(double bytes) { return fixed(bytes / (1 << 20), 1) + " MiB"; }

std::string timeout_text(double seconds) { return seconds > 0 ? fixed(seconds, seconds < 1 ? 1 : 0) + " s" : "none"; }

bool is_native(const json::object& object) {
    const json::value* const value = object.if_contains("native");
    return value != nullptr && value->is_bool() && value->get_bool();
}

// Of native plugins nobody takes the time.
// CALLS, MEAN, MAX, BUSY, TIMEOUTS, OVER BUDGET, PASSED OVER, FAILURES
std::vector<std::string> counts_of(const json::object& object) {
    const double calls = real(object, "calls");
    if (is_native(object)) return {fixed(calls, 0), "-", "-", "-", fixed(real(object, "timeouts"), 0), "-", "-", fixed(real(object, "failures"), 0)};
    return {fixed(calls, 0), calls > 0 ? fixed(real(object, "ms") / calls, 2) : "-", fixed(real(object, "max_ms"), 1),
            fixed(real(object, "busy_ms"), 1), fixed(real(object, "timeouts"), 0), fixed(real(object, "over_budget"), 0),
            fixed(real(object, "passed_over"), 0), fixed(real(object, "failures"), 0)};
}

void append(std::vector<std::string>& row, std::vector<std::string> more) {
    row.insert(row.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

const std::vector<std::string> count_titles{"CALLS",    "MEAN MS",     "MAX MS",      "BUSY MS",
                                            "TIMEOUTS", "OVER BUDGET", "PASSED OVER", "FAILURES"};

void print_host(const json::object& host) {
    const std::string state = member(host, "state");
    if (state == "none") return void(std::puts("no plugin host runs: config/plugins lists no JavaScript plugin"));
    std::printf(
        "plugin host: %s, process %s, %s resident, heap %s, CPU %s s\n", state.c_str(), member(host, "process").c_str(),
        mebibytes(real(host, "resident_bytes")).c_str(), mebibytes(real(host, "heap_bytes")).c_str(), fixed(real(host, "cpu_ms") / 1000, 1).c_str());
    std::printf(
        "started %s times, ended %s times unasked, plugins loaded again %s times\n", member(host, "starts").c_str(), member(host, "ends").c_str(),
        member(host, "reloads").c_str());
    for (const json::value& value : host.at("last_ends").as_array()) {
        const json::object& end = value.as_object();
        std::printf("ended after %s s: %s", member(end, "lived_s").c_str(), member(end, "reason").c_str());
        const std::string hook = member(end, "hook");
        if (end.contains("plugin")) {
            std::printf("; %s%s %s", member(end, "plugin").c_str(), hook.empty() ? "" : (" (" + hook + ")").c_str(), member(end, "because").c_str());
        }
        std::puts("");
    }
    for (const json::value& value : host.at("passed_over").as_array()) {
        const json::object& one = value.as_object();
        const double left_ms = std::max(real(one, "until_ms") - static_cast<double>(wall_clock_ms()), 0.0);
        std::printf("passed over for %s s more: %s of %s\n", fixed(left_ms / 1000, 0).c_str(), member(one, "hook").c_str(), member(one, "plugin").c_str());
    }
}

void print_plugins(const json::object& answer) {
    std::vector<std::vector<std::string>> rows{{"PLUGIN", "TIMEOUT"}};
    append(rows.front(), count_titles);
    append(rows.front(), {"HEAP", "FROM"});
    for (const json::value& value : answer.at("plugins").as_array()) {
        const json::object& plugin = value.as_object();
        std::vector<std::string> row{member(plugin, "name"), timeout_text(real(plugin, "timeout"))};
        append(row, counts_of(plugin));
        append(row, {is_native(plugin) ? "-" : mebibytes(real(plugin, "heap_bytes")), member(plugin, "path")});
        rows.push_back(std::move(row));
    }
    if (rows.size() > 1) print_table(rows);
}

void print_hooks(const json::object& answer) {
    std::vector<std::vector<std::string>> rows{{"HOOK", "PLUGIN", "METHOD", "PRIORITY"}};
    append(rows.front(), count_titles);
    for (const json::value& value : answer.at("hooks").as_array()) {
        const json::object& point = value.as_object();
        const bool called = point.at("called").as_bool();
        for (const json::value& one : point.at("listeners").as_array()) {
            const json::object& listener = one.as_object();
            std::vector<std::string> row{
                member(point, "hook") + (called ? "" : " (not called)"), member(listener, "plugin"), member(listener, "method"),
                member(listener, "priority")};
            append(row, counts_of(listener));
            rows.push_back(std::move(row));
        }
    }
    if (rows.size() > 1) print_table(rows);
}

std::string problem_text(const json::object& plugin) {
    const std::string file = member(plugin, "file");
    const std::string place = file.empty() ? "" : file + ":" + member(plugin, "line") + ": ";
    return place + member(plugin, "name") + ": " + member(plugin, "reason");
}

void show_plugins(Session& session) {
    const Result<json::value> answer = session.client().get_json("/v1/plugins");
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    const json::object& all = answer->as_object();
    print_host(all.at("host").as_object());
    print_plugins(all);
    print_hooks(all);
    for (const json::value& plugin : all.at("left_out").as_array()) std::printf("left out: %s\n", problem_text(plugin.as_object()).c_str());
}

void reload_plugins(Session& session) {
    const Result<json::value> answer = session.client().post_json("/v1/plugins/reload", {});
    if (!answer) return session.fail_with(answer.error());
    const json::object& all = answer->as_object();
    const bool done = all.at("reloaded").as_bool();
    if (!done) session.exit_code = exit_failed;
    if (session.json) return Session::print_json(*answer);
    for (const json::value& plugin : all.at("problems").as_array()) std::fprintf(stderr, "%s\n", problem_text(plugin.as_object()).c_str());
    if (done) {
        std::printf("in service: %s\n", member(all, "plugins").c_str());
    } else {
        std::fprintf(stderr, "plugins were not loaded again, those in service stay: %s\n", member(all, "reason").c_str());
    }
}

// ---- authors ---------------------------------------------------------------------------------------------------

struct NewOptions {
    std::string name;
    bool enable = false;
};

void make_plugin(Session& session, const NewOptions& options) {
    const config::Loaded loaded = config::load(session.directory);
    NewPluginTerms terms{.host = {}, .instead = {}, .enable = options.enable};
    // Settings that are in error may lack just this plugin, which they want to be one.
    if (config::may_run_instead(options.name)) terms.instead = {options.name};
    if (loaded.settings) {
        terms.host = plugin::find_plugin_host(*loaded.settings);
        terms.instead = loaded.settings->plugin_host.instead;
    }
    const Result<NewPlugin> made = write_new_plugin(session.directory, options.name, terms);
    if (!made) return session.fail_with(made.error());
    if (session.json) {
        json::object out{{"plugin", made->plugin}, {"test", made->test}, {"listed", made->listed}};
        return Session::print_json(out);
    }
    std::printf("created %s\ncreated %s\n", made->plugin.c_str(), made->test.c_str());
    if (made->listed) return void(std::puts("it is listed in config/plugins"));
    std::printf(
        "try it:      sluice plugin test %s -c %s\nswitch it on: add the line `%s` to config/plugins\n", options.name.c_str(),
        session.directory.c_str(), options.name.c_str());
}

struct TestOptions {
    std::string name, item, told;
    std::vector<std::string> hooks;
    bool engine = false;
    // The client of mail in and what it sends.
    std::vector<std::string> recipients;
    std::optional<std::string> ip, helo, ehlo, sender, message, user, command;
    bool relaying = false, skip_deny = false, dump = false;
};

std::vector<std::string> client_arguments(const TestOptions& options) {
    std::vector<std::string> arguments;
    const auto add = [&](const char* name, const std::optional<std::string>& value) {
        if (value) arguments.push_back(std::string(name) + "=" + *value);
    };
    add("--ip", options.ip);
    add("--helo", options.helo);
    add("--ehlo", options.ehlo);
    add("--envfrom", options.sender);
    for (const std::string& recipient : options.recipients) add("--envrcpt", recipient);
    add("--message", options.message);
    add("--user", options.user);
    add("--command", options.command);
    if (options.relaying) arguments.emplace_back("--set-relay");
    if (options.skip_deny) arguments.emplace_back("--skip-deny");
    if (options.dump) arguments.emplace_back("--dump-stream");
    return arguments;
}

// Runs a program to its end and says how it ended.
int run_program(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) return exit_failed;
    if (child == 0) {
        ::execvp(argv[0], argv.data());
        std::fprintf(stderr, "sluice: %s: %s\n", argv[0], std::generic_category().message(errno).c_str());
        ::_exit(127);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : exit_failed;
}

void test_plugin(Session& session, const TestOptions& options) {
    const config::Loaded loaded = config::load(session.directory);
    if (!loaded.settings) {
        for (const Problem& problem : loaded.problems) std::fprintf(stderr, "%s\n", problem.text().c_str());
        session.exit_code = exit_config;
        return;
    }
    const std::string host = plugin::find_plugin_host(*loaded.settings);
    if (host.empty()) return session.fail_with(Error(Errc::config, "the package sluice-plugin-host is not installed; `folder` in plugin_host.ini says where it is"));
    std::vector<std::string> arguments{loaded.settings->plugin_host.node, host + "/try.js", loaded.settings->directory, options.name};
    for (const std::string& hook : options.hooks) arguments.push_back("--hook=" + hook);
    if (!options.item.empty()) arguments.push_back("--item=" + options.item);
    if (!options.told.empty()) arguments.push_back("--told=" + options.told);
    for (std::string& argument : client_arguments(options)) arguments.push_back(std::move(argument));
    arguments.push_back("--addresses=" + loaded.settings->plugin_host.addresses);
    if (options.engine) arguments.emplace_back("--engine");
    if (session.json) arguments.emplace_back("--json");
    session.exit_code = run_program(arguments);
}

}  // namespace

void add_plugin_commands(CLI::App& app, Session& session) {
    CLI::App* plugins = app.add_subcommand("plugins", "JavaScript plugins: what is loaded, who hears of what in which order, what it costs");
    plugins->fallthrough();
    CLI::App* reload = plugins->add_subcommand("reload", "load all plugins again, without a restart; exit code 0 means that they are in service");
    reload->callback([&session] { reload_plugins(session); });
    plugins->callback([reload, &session] {
        if (!reload->parsed()) show_plugins(session);
    });

    CLI::App* plugin = app.add_subcommand("plugin", "for authors of plugins");
    plugin->require_subcommand(1);
    plugin->fallthrough();
    const auto made = std::make_shared<NewOptions>();
    CLI::App* make = plugin->add_subcommand("new", "write a commented plugin and a test for it into the instance");
    make->add_option("NAME", made->name, "its name, and that of its file in plugins/")->required();
    make->add_flag("--enable", made->enable, "list it in config/plugins as well");
    make->callback([made, &session] { make_plugin(session, *made); });

    const auto tried = std::make_shared<TestOptions>();
    CLI::App* test = plugin->add_subcommand("test", "load a plugin with the instance's configuration and run its hooks; exit code 0 means that all is well");
    test->add_option("NAME", tried->name, "the plugin, listed or not")->required();
    test->add_option("--hook", tried->hooks, "only this hook; may be repeated (default: all that it has)")->allow_extra_args(false)->take_all();
    test->add_option("--item", tried->item, "JSON: what differs from the usual item, as {\"domain\":\"example.org\"}, or @FILE");
    test->add_option("--told", tried->told, "JSON: what differs from what the hook is usually told, as {\"reason\":\"550 no\"}, or @FILE");
    // As `haraka -t` calls them.
    test->add_option("--ip", tried->ip, "mail in: the client's address");
    test->add_option("--helo", tried->helo, "mail in: it says HELO with this name");
    test->add_option("--ehlo", tried->ehlo, "mail in: it says EHLO with this name");
    test->add_option("--envfrom", tried->sender, "mail in: the sender's address; empty: the null reverse-path");
    test->add_option("--envrcpt", tried->recipients, "mail in: a recipient's address; may be repeated")->allow_extra_args(false)->take_all();
    test->add_option("--message", tried->message, "the file with the message");
    test->add_flag("--set-relay", tried->relaying, "mail in: the client may relay");
    test->add_option("--user", tried->user, "mail in: the client has logged in as this user");
    test->add_option("--command", tried->command, "mail in: the line that unrecognized_command is asked about");
    test->add_flag("--skip-deny", tried->skip_deny, "mail in: go on after a refusal");
    test->add_flag("--dump-stream", tried->dump, "mail in: show the message as the plugin has made it");
    test->add_flag("--engine", tried->engine, "what the plugin asks of the engine goes to the running one");
    test->callback([tried, &session] { test_plugin(session, *tried); });
}

}  // namespace sluice::cli
