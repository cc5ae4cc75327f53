// Commands on items, one by one, by domain, or by filter.

#include <unistd.h>

#include <boost/json/array.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "base/ids.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds first_look{50};
constexpr std::chrono::milliseconds look{500};

struct BulkOptions {
    std::string item, where, reason;
    std::optional<std::string> tenant, job, transport, next_hop;
    std::optional<int> priority;
    bool all = false, dry_run = false, background = false;
};

std::string progress_of(const json::object& job) {
    return member(job, "action") + ": " + member(job, "done") + " of " + member(job, "matched") + " items";
}

void print_job(Session& session, const json::value& value) {
    if (session.json) return Session::print_json(value);
    const json::object& job = value.as_object();
    const std::string state = member(job, "state");
    std::printf("%s%s\n", progress_of(job).c_str(), state == "done" ? "" : (", " + state).c_str());
    if (job.contains("problem")) std::fprintf(stderr, "%s\n", member(job, "problem").c_str());
}

// Looks at the job until it is over; a terminal sees how far it is.
void follow(Session& session, json::value job) {
    const bool shows = !session.json && ::isatty(STDERR_FILENO) == 1;
    for (auto wait = first_look; member(job.as_object(), "state") == "running"; wait = look) {
        std::this_thread::sleep_for(wait);
        Result<json::value> now = session.client().get_json("/v1/queue/jobs/" + member(job.as_object(), "job"));
        if (!now) return session.fail_with(now.error());
        job = std::move(*now);
        if (shows) std::fprintf(stderr, "\r%s", progress_of(job.as_object()).c_str());
    }
    if (shows) std::fputs("\r\x1b[K", stderr);
    if (member(job.as_object(), "state") != "done") session.exit_code = exit_failed;
    print_job(session, job);
}

void run_bulk(Session& session, const std::string& action, const BulkOptions& options) {
    json::object body{{"action", action}};
    if (!options.where.empty()) body["where"] = options.where;
    else body["all"] = true;
    if (options.dry_run) body["dry_run"] = true;
    if (!options.reason.empty()) body["reason"] = options.reason;
    if (options.tenant) body["tenant"] = *options.tenant;
    if (options.job) body["job"] = *options.job;
    if (options.transport) body["transport"] = *options.transport;
    if (options.next_hop) body["next_hop"] = *options.next_hop;
    if (options.priority) body["priority"] = *options.priority;
    Result<json::value> answer = session.client().post_json("/v1/queue/jobs", body);
    if (!answer) return session.fail_with(answer.error());
    if (options.dry_run) {
        if (session.json) return Session::print_json(*answer);
        std::printf("%s: would concern %s items\n", action.c_str(), member(answer->as_object(), "matched").c_str());
        return;
    }
    if (!options.background) return follow(session, std::move(*answer));
    if (session.json) return Session::print_json(*answer);
    const std::string job = member(answer->as_object(), "job");
    std::printf("job %s is running: see `sluice queue jobs`\n", job.c_str());
}

// An item or a domain is a filter, too.
std::string filter_of(const std::string& named) {
    return (ItemId::parse(named) ? "id=" : "domain=") + named;
}

void command(Session& session, const std::string& name, BulkOptions options) {
    const int given = (options.item.empty() ? 0 : 1) + (options.where.empty() ? 0 : 1) + (options.all ? 1 : 0);
    const bool whole_queue = given == 0 && name == "flush";
    if (given > 1 || (given == 0 && !whole_queue)) {
        return session.fail_with(Error(Errc::bad_input, "name one of an item, a domain, --where or --all"));
    }
    const bool simple = options.where.empty() && !options.dry_run && !options.background && name != "bounce" && name != "change";
    if (simple) {
        const bool is_item = ItemId::parse(options.item).has_value();
        return send_queue_command(session, name, is_item ? options.item : "", is_item ? "" : options.item, options.all || whole_queue);
    }
    if (!options.item.empty()) options.where = filter_of(options.item);
    run_bulk(session, name, options);
}

void show_jobs(Session& session) {
    const Result<json::value> answer = session.client().get_json("/v1/queue/jobs");
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    std::vector<std::vector<std::string>> rows{{"JOB", "ACTION", "STATE", "DONE", "OF", "STARTED", "ENDED", "WHERE"}};
    for (const json::value& value : answer->as_object().at("jobs").as_array()) {
        const json::object& job = value.as_object();
        rows.push_back({member(job, "job"), member(job, "action"), member(job, "state"), member(job, "done"), member(job, "matched"),
                        member(job, "started"), member(job, "ended"), member(job, "where")});
    }
    print_table(rows);
}

void cancel(Session& session, std::uint64_t id) {
    const Result<json::value> answer = session.client().post_json("/v1/queue/jobs/" + std::to_string(id) + "/cancel", {});
    if (!answer) return session.fail_with(answer.error());
    print_job(session, *answer);
}

}  // namespace

void add_queue_command(CLI::App& queue, Session& session, const char* name, const char* description) {
    const auto options = std::make_shared<BulkOptions>();
    CLI::App* app = queue.add_subcommand(name, description);
    app->add_option("WHICH", options->item, "an item id, or a domain");
    app->add_option("--where", options->where, where_help);
    app->add_flag("--all", options->all, "everything that is queued");
    app->add_flag("--dry-run", options->dry_run, "only say how many items that would concern");
    app->add_flag("--background", options->background, "do not wait for the end; see `queue jobs`");
    const std::string_view action = name;
    if (action == "bounce") app->add_option("--reason", options->reason, "what the senders are told");
    if (action == "change") {
        app->add_option("--tenant", options->tenant, "the new tenant");
        app->add_option("--job", options->job, "the new job");
        app->add_option("--transport", options->transport, "the new transport, and with it the local addresses");
        app->add_option("--next-hop", options->next_hop, "where to instead of the configured route, as host:port; empty: that again");
        app->add_option("--priority", options->priority, "the new priority, 0 to 7")->check(CLI::Range(0, 7));
    }
    app->callback([options, &session, name] { command(session, name, *options); });
}

void add_job_commands(CLI::App& queue, Session& session) {
    queue.add_subcommand("jobs", "commands on many items: how far they are")->callback([&session] { show_jobs(session); });
    const auto id = std::make_shared<std::uint64_t>(0);
    CLI::App* app = queue.add_subcommand("cancel", "end a job; what is done stays done");
    app->add_option("JOB", *id, "its number")->required();
    app->callback([id, &session] { cancel(session, *id); });
}

}  // namespace sluice::cli
