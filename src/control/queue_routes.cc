#include "control/queue_routes.h"

#include <array>
#include <boost/json/array.hpp>
#include <utility>

#include "base/assert.h"
#include "base/nearest.h"
#include "base/text.h"
#include "control/answers.h"
#include "control/explain.h"
#include "control/json.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::size_t rows_max = 10'000;
constexpr std::size_t reason_bytes_max = 500;
constexpr std::size_t value_bytes_max = 255;
constexpr std::string_view jobs_path = "/v1/queue/jobs/";

constexpr std::array<std::pair<const char*, Command>, 6> commands{{{"flush", Command::flush},
                                                                   {"hold", Command::hold},
                                                                   {"release", Command::release},
                                                                   {"delete", Command::remove},
                                                                   {"bounce", Command::bounce},
                                                                   {"change", Command::change}}};

std::optional<std::size_t> row_limit(const std::string& text) {
    const auto limit = parse_number<std::size_t>(text);
    return limit && *limit > 0 && *limit <= rows_max ? limit : std::nullopt;
}

HttpReply refuse_limit() { return refuse(422, "a number from 1 to 10000 is expected", "limit"); }

Task<HttpReply> get_groups(Backend& backend, const HttpRequest& request) {
    SurveyRequest wanted;
    for (const auto& [key, value] : request.query) {
        if (key == "where") wanted.where = value;
        else if (key == "by") {
            for (const std::string_view name : split(value, ',')) wanted.by.emplace_back(trim(name));
        } else if (key == "limit") {
            const auto limit = row_limit(value);
            if (!limit) co_return refuse_limit();
            wanted.limit = *limit;
        } else co_return refuse(422, "unknown parameter", key);
    }
    const std::vector<std::string> by = wanted.by;
    const Result<SurveyReport> report = co_await backend.survey(std::move(wanted));
    if (!report) co_return refuse_field(report.error());
    co_return reply(to_json(*report, by));
}

Task<HttpReply> get_buckets(Backend& backend, const HttpRequest& request) {
    BucketFilter filter;
    for (const auto& [key, value] : request.query) {
        if (key == "policy") filter.policy = value;
        else if (key == "part") filter.part = value;
        else if (key == "cursor") filter.cursor = value;
        else if (key == "waiting" && (value == "true" || value == "false")) filter.waiting = value == "true";
        else if (key == "waiting") co_return refuse(422, "true or false is expected", key);
        else if (key == "limit") {
            const auto limit = row_limit(value);
            if (!limit) co_return refuse_limit();
            filter.limit = *limit;
        } else co_return refuse(422, "unknown parameter", key);
    }
    const Result<BucketPage> page = co_await backend.buckets(std::move(filter));
    if (!page) co_return refuse_field(page.error());
    json::array list;
    for (const queue::BucketView& bucket : page->buckets) list.push_back(to_json(bucket, page->time));
    json::object body{{"buckets", std::move(list)}};
    if (!page->cursor.empty()) body["cursor"] = page->cursor;
    co_return reply(body);
}

Task<HttpReply> get_explanation(Backend& backend, const HttpRequest& request) {
    const std::string what(request.query_value("what"));
    if (what.empty()) co_return refuse(422, "an item, a message, a domain or a bucket's name is expected", "what");
    const Result<std::vector<Explained>> explained = co_await backend.explain(what);
    if (!explained) co_return refuse_field(explained.error());
    json::array list;
    for (const Explained& one : *explained) list.push_back(to_json(one));
    const json::object body{{"explanations", std::move(list)}};
    co_return reply(body);
}

HttpReply get_jobs(Backend& backend) {
    json::array list;
    for (const Job& job : backend.jobs()) list.push_back(to_json(job));
    return reply(json::object{{"jobs", std::move(list)}});
}

HttpReply get_job(Backend& backend, std::string_view text) {
    const auto id = parse_number<std::uint64_t>(text);
    for (const Job& job : backend.jobs()) {
        if (job.id == id) return reply(to_json(job));
    }
    return refuse(404, "no such job");
}

HttpReply post_cancel(Backend& backend, std::string_view text) {
    const auto id = parse_number<std::uint64_t>(text);
    if (!id) return refuse(404, "no such job");
    const Result<Job> job = backend.cancel(*id);
    return job ? reply(to_json(*job)) : refuse(job.error());
}

// ---- commands for many -----------------------------------------------------------------------------------------

struct Wanted {
    BulkRequest request;
    bool dry_run = false;
};

Result<std::string> short_text(const std::string& key, const json::value& value, std::size_t octets_max) {
    if (!value.is_string()) return fail(Errc::bad_input, key + ": a text is expected");
    std::string text(value.as_string().data(), value.as_string().size());
    if (text.size() > octets_max) return fail(Errc::bad_input, key + ": at most " + std::to_string(octets_max) + " octets are expected");
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') return fail(Errc::bad_input, key + ": control characters cannot stand there");
    }
    return text;
}

Result<> read_change(queue::ItemChanges& changes, const std::string& key, const json::value& value) {
    if (key == "tenant" || key == "job" || key == "transport") {
        TRY(std::string text, short_text(key, value, value_bytes_max));
        (key == "tenant" ? changes.tenant : key == "job" ? changes.job : changes.transport) = std::move(text);
        return {};
    }
    if (key == "next_hop") {
        TRY(changes.next_hop, short_text(key, value, value_bytes_max));
        return {};
    }
    if (key == "priority") {
        if (!value.is_int64() || value.as_int64() < 0 || value.as_int64() > 7) return fail(Errc::bad_input, "priority: a number from 0 to 7 is expected");
        changes.priority = static_cast<std::uint8_t>(value.as_int64());
        return {};
    }
    return fail(Errc::bad_input, key + ": unknown member");
}

Result<> read_action(Wanted& wanted, const json::object& body) {
    const json::value* const action = body.if_contains("action");
    const std::string name = action != nullptr && action->is_string() ? std::string(std::string_view(action->as_string())) : "";
    const auto command = command_of(name);
    if (command) {
        wanted.request.command = *command;
        return {};
    }
    std::vector<std::string> names;
    for (const auto& known : commands) names.emplace_back(known.first);
    const std::string near = nearest(name, names);
    return fail(Errc::bad_input, "action: one of flush, hold, release, delete, bounce, change is expected" +
                                     (near.empty() ? std::string() : " (did you mean `" + near + "`?)"));
}

Result<Wanted> wanted_of(const json::object& body) {
    Wanted wanted;
    TRY_VOID(read_action(wanted, body));
    bool all = false;
    for (const auto& member : body) {
        const std::string key(member.key());
        const json::value& value = member.value();
        if (key == "action") continue;
        if (key == "where" && value.is_string()) {
            wanted.request.where = std::string(std::string_view(value.as_string()));
        } else if (key == "all" && value.is_bool()) {
            all = value.as_bool();
        } else if (key == "dry_run" && value.is_bool()) {
            wanted.dry_run = value.as_bool();
        } else if (key == "where" || key == "all" || key == "dry_run") {
            return fail(Errc::bad_input, key + ": wrong type");
        } else if (key == "reason" && wanted.request.command == Command::bounce) {
            TRY(wanted.request.reason, short_text(key, value, reason_bytes_max));
        } else if (wanted.request.command == Command::change) {
            TRY_VOID(read_change(wanted.request.changes, key, value));
        } else {
            return fail(Errc::bad_input, key + ": unknown member");
        }
    }
    // Everything is concerned only when that is said.
    const bool empty = trim(wanted.request.where).empty();
    if (empty && !all) return fail(Errc::bad_input, "where: a filter is expected, or \"all\": true");
    if (!empty && all) return fail(Errc::bad_input, "where: cannot stand beside \"all\": true");
    if (wanted.request.command == Command::change && !wanted.request.changes.any()) {
        return fail(Errc::bad_input, "action: what is to be changed is expected: tenant, job, transport, next_hop, priority");
    }
    return wanted;
}

Task<HttpReply> post_job(Backend& backend, const HttpRequest& request) {
    const Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    Result<Wanted> wanted = wanted_of(*body);
    if (!wanted) co_return refuse_field(wanted.error());
    if (wanted->dry_run) {
        const Result<std::uint64_t> count = co_await backend.count(std::move(wanted->request));
        if (!count) co_return refuse_field(count.error());
        const json::object answer_body{{"matched", *count}};
        co_return reply(answer_body);
    }
    const Result<Job> job = co_await backend.start(std::move(wanted->request));
    if (!job) co_return refuse_field(job.error());
    co_return reply(to_json(*job), 202);
}

}  // namespace

const char* name_of(Command command) {
    for (const auto& [name, known] : commands) {
        if (known == command) return name;
    }
    UNREACHABLE();
}

std::optional<Command> command_of(std::string_view name) {
    for (const auto& [known, command] : commands) {
        if (name == known) return command;
    }
    return std::nullopt;
}

Task<std::optional<HttpReply>> answer_queue_get(Backend& backend, const HttpRequest& request) {
    const std::string_view path = request.path;
    if (path == "/v1/queue/groups") co_return co_await get_groups(backend, request);
    if (path == "/v1/buckets") co_return co_await get_buckets(backend, request);
    if (path == "/v1/explain") co_return co_await get_explanation(backend, request);
    if (path == "/v1/queue/jobs") co_return get_jobs(backend);
    if (path.starts_with(jobs_path)) co_return get_job(backend, path.substr(jobs_path.size()));
    co_return std::nullopt;
}

Task<std::optional<HttpReply>> answer_queue_post(Backend& backend, const HttpRequest& request) {
    constexpr std::string_view cancel = "/cancel";
    std::string_view path = request.path;
    if (path == "/v1/queue/jobs") co_return co_await post_job(backend, request);
    if (!path.starts_with(jobs_path) || !path.ends_with(cancel)) co_return std::nullopt;
    // A form cannot send JSON: the type is what keeps foreign pages out.
    const Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    path.remove_prefix(jobs_path.size());
    path.remove_suffix(cancel.size());
    co_return post_cancel(backend, path);
}

}  // namespace sluice::control
