#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <limits>
#include <memory>
#include <sstream>

#include "base/ids.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "config/sources.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

// What one request asks for at most.
constexpr std::size_t page_items = 1'000;

void show_status(Session& session) {
    const Result<json::value> status = session.client().get_json("/v1/status");
    if (!status) return session.fail_with(status.error());
    if (session.json) return Session::print_json(*status);
    const json::object& all = status->as_object();
    const json::object& queue = all.at("queue").as_object();
    const json::object& journal = all.at("journal").as_object();
    print_table({
        {"sluice", member(all, "version") + " at " + member(all, "me") + ", " + member(all, "directory")},
        {"listening", member(all, "listeners")},
        {"accepting", all.at("accepting").as_bool() ? "yes" : "no: " + member(all, "why_not")},
        {"connections in", member(all, "connections_in")},
        {"connections out", member(queue, "sessions") + " (" + member(queue, "idle_sessions") + " idle)"},
        {"queued items", member(queue, "items") + ": " + member(queue, "scheduled") + " scheduled, " +
                             member(queue, "ready") + " ready, " + member(queue, "sending") + " sending, " +
                             member(queue, "held") + " held"},
        {"journal", member(journal, "segments") + " segments, " + member(journal, "disk_bytes") + " octets on disk, " +
                        member(journal, "live_bytes") + " live"},
        {"syncs", member(journal, "syncs") + " (" + member(journal, "sync_failures") + " failed)"},
        {"memory", member(all, "resident_bytes") + " octets"},
    });
    for (const json::value& warning : all.at("warnings").as_array()) std::printf("warning: %s\n", printable(text_of(warning)).c_str());
}

void show_item(Session& session, const std::string& id) {
    const Result<json::value> item = session.client().get_json("/v1/queue/items/" + percent_encode(id));
    if (!item) return session.fail_with(item.error());
    if (session.json) return Session::print_json(*item);
    const json::object& all = item->as_object();
    std::vector<std::vector<std::string>> rows;
    for (const char* key : {"id", "state", "domain", "sender", "recipients", "subject", "arrival", "next", "attempts", "size",
                             "priority", "tenant", "job", "transport", "lifetime", "via", "reply", "problem"}) {
        if (all.contains(key)) rows.push_back({key, member(all, key)});
    }
    print_table(rows);
    if (!all.contains("headers")) return;
    std::istringstream headers(text_of(all.at("headers")));
    std::puts("");
    for (std::string line; std::getline(headers, line);) std::puts(printable(trim(line)).c_str());
}

std::string query_of(const ListOptions& options, std::size_t count_max) {
    std::string query = "?limit=" + std::to_string(count_max);
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) query += std::string("&") + key + "=" + percent_encode(value);
    };
    add("domain", options.domain);
    add("sender", options.sender);
    add("recipient", options.recipient);
    add("state", options.state);
    add("where", options.where);
    add("cursor", options.cursor);
    return query;
}

void print_items(const json::array& items, bool haraka_style, bool first) {
    std::vector<std::vector<std::string>> rows;
    if (first) rows.push_back({"ID", "STATE", "TRIES", "NEXT", "SIZE", "SENDER", "RECIPIENTS"});
    for (const json::value& value : items) {
        const json::object& item = value.as_object();
        if (haraka_style) {
            std::printf(
                "Q: %s rcpt:%zu from:<%s> domain:<%s>\n", member(item, "id").c_str(), item.at("recipients").as_array().size(),
                member(item, "sender").c_str(), member(item, "domain").c_str());
            continue;
        }
        rows.push_back({member(item, "id"), member(item, "state"), member(item, "attempts"), member(item, "next"),
                        member(item, "size"), "<" + member(item, "sender") + ">", member(item, "recipients")});
    }
    if (!haraka_style) print_table(rows);
}

struct InjectOptions {
    std::string from, file, key;
    std::string tenant, job, transport, priority, lifetime;
    std::vector<std::string> to, notes;
};

Result<std::string> read_message(const std::string& path) {
    constexpr std::size_t bytes_max = std::size_t{1} << 30;  // what an engine may be set to take
    const bool standard = path.empty() || path == "-";
    Result<std::string> message = standard ? config::read_to_end(STDIN_FILENO, bytes_max) : config::read_named(path, bytes_max);
    if (message) return message;
    return fail(Errc::bad_input, (standard ? "standard input" : path) + ": " + message.error().detail);
}

void inject(Session& session, const InjectOptions& options) {
    const Result<std::string> message = read_message(options.file);
    if (!message) return session.fail_with(message.error());
    std::string target = "/v1/messages?from=" + percent_encode(options.from);
    for (const std::string& to : options.to) target += "&to=" + percent_encode(to);
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) target += std::string("&") + key + "=" + percent_encode(value);
    };
    add("tenant", options.tenant);
    add("job", options.job);
    add("transport", options.transport);
    add("priority", options.priority);
    add("lifetime", options.lifetime);
    json::object notes;
    for (const std::string& note : options.notes) {
        const std::size_t equals = note.find('=');
        if (equals == std::string::npos || equals == 0) return session.fail_with(Error(Errc::bad_input, "--note: expected KEY=VALUE, found " + note));
        notes[note.substr(0, equals)] = note.substr(equals + 1);
    }
    if (!notes.empty()) add("notes", json::serialize(notes));
    const Result<json::value> queued = json_of(session.client().post(target, "message/rfc822", *message, options.key));
    if (!queued) return session.fail_with(queued.error());
    if (session.json) return Session::print_json(*queued);
    const bool repeated = queued->as_object().at("repeated").as_bool();
    std::printf("%s %s\n", repeated ? "already queued as" : "queued as", member(queued->as_object(), "id").c_str());
}

void add_queue_commands(CLI::App& app, Session& session) {
    CLI::App* queue = app.add_subcommand("queue", "look at and change what is queued");
    queue->require_subcommand(1);
    queue->fallthrough();

    const auto options = std::make_shared<ListOptions>();
    CLI::App* list = queue->add_subcommand("list", "queued items");
    list->add_option("--domain", options->domain, "only this destination");
    list->add_option("--sender", options->sender, "part of the reverse-path");
    list->add_option("--recipient", options->recipient, "part of a forward-path");
    list->add_option("--state", options->state, "scheduled, ready, sending or held");
    list->add_option("--where", options->where, where_help);
    list->add_option("--limit", options->limit, "at most this many; 0: all")->capture_default_str();
    list->add_option("--cursor", options->cursor, "go on where a list ended");
    list->callback([options, &session] { print_queue_list(session, *options, false); });

    queue->add_subcommand("stats", "counts in all and by destination")->callback([&session] {
        print_queue_stats(session, false);
    });

    const auto id = std::make_shared<std::string>();
    CLI::App* show = queue->add_subcommand("show", "one item with its header section");
    show->add_option("ID", *id, "item id")->required();
    show->callback([id, &session] { show_item(session, *id); });

    add_queue_views(*queue, session);
    add_queue_command(*queue, session, "flush", "try scheduled items now (all, when nothing is named)");
    add_queue_command(*queue, session, "hold", "stop trying items until they are released");
    add_queue_command(*queue, session, "release", "release held items");
    add_queue_command(*queue, session, "delete", "remove items for good, without a notification");
    add_queue_command(*queue, session, "bounce", "give items up; their senders are told");
    add_queue_command(*queue, session, "change", "give items another tenant, job, transport, next hop or priority");
    add_job_commands(*queue, session);
}

}  // namespace

void print_queue_list(Session& session, ListOptions options, bool haraka_style) {
    const std::size_t limit = options.limit == 0 ? std::numeric_limits<std::size_t>::max() : options.limit;
    json::array all;
    std::size_t count = 0;
    do {
        const std::string query = query_of(options, std::min(page_items, limit - count));
        const Result<json::value> answer = session.client().get_json("/v1/queue" + query);
        if (!answer) return session.fail_with(answer.error());
        const json::array& items = answer->as_object().at("items").as_array();
        options.cursor = answer->as_object().contains("cursor") ? text_of(answer->as_object().at("cursor")) : "";
        if (session.json) all.insert(all.end(), items.begin(), items.end());
        else print_items(items, haraka_style, count == 0 && (!items.empty() || options.cursor.empty()));
        count += items.size();
    } while (count < limit && !options.cursor.empty());
    if (session.json) {
        json::object whole;
        whole["items"] = std::move(all);
        if (!options.cursor.empty()) whole["cursor"] = options.cursor;
        return Session::print_json(whole);
    }
    if (!options.cursor.empty()) std::fprintf(stderr, "more items: go on with --cursor %s\n", options.cursor.c_str());
}

void print_queue_stats(Session& session, bool haraka_style) {
    const Result<json::value> answer = session.client().get_json("/v1/queue/stats");
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    const json::object& all = answer->as_object();
    if (haraka_style) {
        std::printf("{ queue_dir: '%s', queue_count: %s }\n", session.directory.c_str(), member(all, "items").c_str());
        return;
    }
    std::vector<std::vector<std::string>> rows{{"DOMAIN", "SCHEDULED", "READY", "SENDING", "HELD", "CONNECTIONS"}};
    rows.push_back({"(all)", member(all, "scheduled"), member(all, "ready"), member(all, "sending"), member(all, "held"),
                    member(all, "sessions")});
    for (const json::value& value : all.at("domains").as_array()) {
        const json::object& domain = value.as_object();
        rows.push_back({member(domain, "domain"), member(domain, "scheduled"), member(domain, "ready"),
                        member(domain, "sending"), member(domain, "held"), member(domain, "sessions")});
    }
    print_table(rows);
}

void send_queue_command(
    Session& session, const std::string& command, const std::string& item, const std::string& domain, bool all) {
    json::object body;
    if (!item.empty()) body["item"] = item;
    else if (!domain.empty()) body["domain"] = domain;
    else if (all) body["all"] = true;
    else return session.fail_with(Error(Errc::bad_input, "name an item, a domain, or --all"));
    const Result<json::value> answer = session.client().post_json("/v1/queue/" + command, body);
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    std::printf("%s: %s items\n", command.c_str(), member(answer->as_object(), "items").c_str());
}

void add_engine_commands(CLI::App& app, Session& session) {
    app.add_subcommand("status", "state of a running instance")->callback([&session] { show_status(session); });
    app.add_subcommand("reload", "read the configuration again")->callback([&session] {
        const Result<json::value> answer = session.client().post_json("/v1/reload", {});
        if (!answer) return session.fail_with(answer.error());
        if (!answer->as_object().at("applied").as_bool()) session.exit_code = exit_config;
        if (session.json) return Session::print_json(*answer);
        for (const json::value& problem : answer->as_object().at("problems").as_array()) {
            std::puts(printable(text_of(problem)).c_str());
        }
        for (const json::value& setting : answer->as_object().at("needs_restart").as_array()) {
            std::printf("%s: takes effect after a restart\n", printable(text_of(setting)).c_str());
        }
    });
    add_queue_commands(app, session);
    add_explain_command(app, session);

    const auto options = std::make_shared<InjectOptions>();
    CLI::App* command = app.add_subcommand("inject", "queue a message; exit code 0 means that it is durable");
    command->add_option("-f,--from", options->from, "reverse-path; empty for the null one")->required();
    command->add_option("-t,--to", options->to, "a recipient; may be repeated")->required()->allow_extra_args(false)->take_all();
    command->add_option("--tenant", options->tenant, "who shares capacity with others");
    command->add_option("--job", options->job, "what it is part of");
    command->add_option("--transport", options->transport, "whose local addresses it goes out from");
    command->add_option("--priority", options->priority, "0 (lowest) to 7")->check(CLI::Range(0, 7));
    command->add_option("--lifetime", options->lifetime, "given up after this: seconds, or 15m, 2h, 3d");
    command->add_option("--note", options->notes, "KEY=VALUE for policies that ask for notes.KEY; may be repeated")->allow_extra_args(false)->take_all();
    command->add_option("--key", options->key, "idempotency key: the same key queues once a day");
    command->add_option("FILE", options->file, "message, RFC 5322; standard input when absent or -");
    command->callback([options, &session] { inject(session, *options); });
}

void add_haraka_options(CLI::App& app, HarakaOptions& options) {
    const std::string group = "Haraka's spellings";
    app.add_option("-i", options.init_directory, "make an instance in this directory (= init)")->group(group);
    app.add_flag("--qlist", options.list, "= queue list")->group(group);
    app.add_flag("--qstat", options.stat, "= queue stats")->group(group);
    app.add_option_function<std::string>(
           "--qunstick",
           [&options](const std::string& domain) {
               options.unstick = domain;
               options.unstick_given = true;
           },
           "= queue flush [DOMAIN]")
        ->expected(0, 1)
        ->group(group);
    app.add_option("--qdelete", options.remove, "= queue delete DOMAIN")->group(group);
    app.add_flag("--qempty", options.empty, "= queue delete --all")->group(group);
}

}  // namespace sluice::cli
