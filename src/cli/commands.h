#pragma once

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <optional>
#include <string>

#include "base/problem.h"
#include "cli/session.h"
#include "control/backend.h"

namespace sluice::cli {

// Each adds its subcommands to `app`; they run when the line is parsed and leave their exit code in the session.
void add_instance_commands(CLI::App& app, Session& session);  // init, check, journal
void add_engine_commands(CLI::App& app, Session& session);    // status, reload, queue, inject
void add_policy_commands(CLI::App& app, Session& session);    // policy check, and the next ones
void add_condition_commands(CLI::App& policy, Session& session);  // policy add, list, delete
void add_suspend_commands(CLI::App& app, Session& session);   // suspend add, list, delete, resume
void add_peer_commands(CLI::App& app, Session& session);      // sink, blast

// What can be said of the queue directory of a Haraka without an engine.
struct QueueSight {
    std::function<control::Import(const std::string& directory)> dry_run;
    // A sentence when a Haraka is at work on it: we may see processes that the engine may not.
    std::function<std::optional<std::string>(const std::string& directory)> at_work;
};
// queue import; after the queue's other commands.
void add_import_command(CLI::App& app, Session& session, const QueueSight& sight);

// Haraka's spellings, which need no subcommand.
struct HarakaOptions {
    std::string init_directory;
    bool list = false, stat = false, empty = false;
    std::string unstick, remove;
    bool unstick_given = false;
};
void add_haraka_options(CLI::App& app, HarakaOptions& options);
// Carries out what was asked for in Haraka's way; false when nothing was.
bool run_haraka_options(const HarakaOptions& options, Session& session);

// As `check` prints them.
boost::json::object problem_json(const Problem& problem);

// Which items `queue list` shows; empty fields match all. Value.
struct ListOptions {
    std::string domain, sender, recipient, state, where;
    std::string cursor;  // where a list ended
    std::size_t limit = 100;  // 0: none
};

inline constexpr const char* where_help = "only items that a filter selects, as 'domain=*.example.org age>2h attempts>=3'";
// Counts, shape, buckets; what is done to many; jobs; why.
void add_queue_views(CLI::App& queue, Session& session);
void add_queue_command(CLI::App& queue, Session& session, const char* name, const char* description);
void add_job_commands(CLI::App& queue, Session& session);
void add_explain_command(CLI::App& app, Session& session);

// Shared by both spellings.
void print_queue_list(Session& session, ListOptions options, bool haraka_style);
void print_queue_stats(Session& session, bool haraka_style);
void send_queue_command(Session& session, const std::string& command, const std::string& item, const std::string& domain,
                        bool all);

}  // namespace sluice::cli
