#include "control/json.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

json::array texts(const std::vector<std::string>& values) {
    json::array out;
    for (const std::string& value : values) out.emplace_back(value);
    return out;
}

json::object queue_json(const queue::Stats& stats) {
    return {{"items", stats.items},       {"scheduled", stats.scheduled}, {"ready", stats.ready},
            {"sending", stats.sending},   {"held", stats.held},           {"sessions", stats.sessions},
            {"idle_sessions", stats.idle_sessions}, {"lanes", stats.lanes}, {"buckets", stats.buckets},
            {"conditions", stats.conditions}, {"suspensions", stats.suspensions},
            {"routes", stats.routes},     {"fresh_bytes", stats.fresh_bytes}};
}

json::object spool_json(const spool::Status& status) {
    return {{"segments", status.segments},
            {"disk_bytes", status.disk_bytes},
            {"live_bytes", status.live_bytes},
            {"live_messages", status.live_messages},
            {"appended_bytes", status.appended_bytes},
            {"syncs", status.syncs},
            {"sync_failures", status.sync_failures},
            {"reclaimed_bytes", status.reclaimed_bytes},
            {"rewritten_bytes", status.rewritten_bytes},
            {"free_disk_bytes", status.free_disk_bytes},
            {"waiting_bytes", status.waiting_bytes}};
}

json::object group_json(const queue::Group& group, const WallTime& time) {
    json::object out{{"items", group.items},
                     {"recipients", group.recipients},
                     {"octets", group.octets},
                     {"scheduled", group.states[0]},
                     {"ready", group.states[1]},
                     {"sending", group.states[2]},
                     {"held", group.states[3]}};
    if (group.items > 0) out["oldest"] = rfc3339(time.ms(group.oldest));
    out["ages"] = json::array(group.ages.begin(), group.ages.end());
    out["nexts"] = json::array(group.nexts.begin(), group.nexts.end());
    return out;
}

const char* name_of(Job::State state) {
    switch (state) {
        case Job::State::running: return "running";
        case Job::State::done: return "done";
        case Job::State::cancelled: return "cancelled";
        case Job::State::failed: return "failed";
    }
    UNREACHABLE();
}

const char* name_of(Import::State state) {
    switch (state) {
        case Import::State::running: return "running";
        case Import::State::waiting: return "waiting";
        case Import::State::done: return "done";
        case Import::State::cancelled: return "cancelled";
        case Import::State::failed: return "failed";
    }
    UNREACHABLE();
}

// What this program wrote itself.
json::value parsed(const std::string& text) {
    json::error_code error;
    json::value value = json::parse(with_valid_utf8(text), error);
    ASSERT(!error);
    return value;
}

void add_remarks(json::object& out, const std::string& author, const std::string& reason, std::optional<std::int64_t> expires_ms) {
    if (!author.empty()) out["author"] = author;
    if (!reason.empty()) out["reason"] = reason;
    if (expires_ms) out["expires"] = rfc3339(*expires_ms);
}

}  // namespace

json::value to_json(const SurveyReport& report, const std::vector<std::string>& by) {
    json::object out{{"by", texts(by)}, {"total", group_json(report.total, report.time)}};
    json::array ages, nexts, groups;
    for (std::size_t i = 0; i < report.total.ages.size(); ++i) ages.emplace_back(queue::age_where(i));
    for (std::size_t i = 0; i < report.total.nexts.size(); ++i) nexts.emplace_back(queue::next_where(i));
    out["age_intervals"] = std::move(ages);
    out["next_intervals"] = std::move(nexts);
    for (const queue::Group& group : report.groups) {
        json::object row = group_json(group, report.time);
        row["key"] = texts(group.key);
        std::string where;
        for (const std::string& term : group.where) where += (where.empty() || term.empty() ? "" : " ") + term;
        row["where"] = where;
        groups.push_back(std::move(row));
    }
    out["groups"] = std::move(groups);
    out["groups_more"] = report.groups_more;
    return out;
}

json::value to_json(const Job& job) {
    json::object out{{"job", job.id},
                     {"action", name_of(job.command)},
                     {"where", job.where},
                     {"state", name_of(job.state)},
                     {"matched", job.matched},
                     {"done", job.done},
                     {"started", rfc3339(job.started_ms)}};
    if (job.state != Job::State::running) out["ended"] = rfc3339(job.ended_ms);
    if (!job.problem.empty()) out["problem"] = job.problem;
    return out;
}

json::value to_json(const Import& import) {
    json::array left;
    for (const LeftFile& file : import.left_files) {
        left.push_back(json::object{{"file", file.name}, {"offset", file.offset}, {"reason", file.reason}});
    }
    json::object out{{"directory", import.directory},
                     {"dry_run", import.dry_run},
                     {"state", name_of(import.state)},
                     {"found", import.found},
                     {"imported", import.imported},
                     {"repeated", import.repeated},
                     {"mended", import.mended},
                     {"octets", import.octets},
                     {"temporary", import.temporary},
                     {"left", import.left},
                     {"left_files", std::move(left)},
                     {"started", rfc3339(import.started_ms)}};
    if (import.ended_ms != 0) out["ended"] = rfc3339(import.ended_ms);
    if (!import.problem.empty()) out["problem"] = import.problem;
    return out;
}

json::value to_json(const EngineStatus& status) {
    return json::object{{"version", status.version},
                        {"me", status.me},
                        {"directory", status.directory},
                        {"uptime_ms", status.uptime_ms},
                        {"listeners", texts(status.listeners)},
                        {"connections_in", status.connections_in},
                        {"accepting", status.accepting},
                        {"why_not", status.why_not},
                        {"resident_bytes", status.resident_bytes},
                        {"queue", queue_json(status.queue)},
                        {"journal", spool_json(status.spool)},
                        {"warnings", texts(status.warnings)}};
}

json::value to_json(const DomainCount& count) {
    json::object out{{"domain", count.domain},   {"scheduled", count.scheduled}, {"ready", count.ready},
                     {"sending", count.sending}, {"held", count.held},           {"sessions", count.sessions}};
    if (!count.via.empty()) out["via"] = count.via;
    return out;
}

json::value to_json(const ItemDetail& item) {
    json::object out{{"id", item.id.text()},
                     {"message", item.id.message.text()},
                     {"state", item.state},
                     {"domain", item.domain},
                     {"sender", item.sender},
                     {"recipients", texts(item.recipients)},
                     {"arrival", rfc3339(item.arrival_ms)},
                     {"next", rfc3339(item.next_ms)},
                     {"attempts", item.attempts},
                     {"size", item.size},
                     {"priority", static_cast<int>(item.priority)}};
    if (!item.tenant.empty()) out["tenant"] = item.tenant;
    if (!item.job.empty()) out["job"] = item.job;
    if (!item.transport.empty()) out["transport"] = item.transport;
    if (item.lifetime_s != 0) out["lifetime"] = item.lifetime_s;
    if (!item.via.empty()) out["via"] = item.via;
    if (!item.reply.empty()) out["reply"] = item.reply;
    if (!item.subject.empty()) out["subject"] = item.subject;
    if (!item.problem.empty()) out["problem"] = item.problem;
    if (!item.headers.empty()) out["headers"] = item.headers;
    return out;
}

json::value to_json(const ConditionDetail& condition) {
    const policy::DynamicCondition& what = condition.what;
    // The journal's form has all of it, under names of its own.
    const json::value record = parsed(policy::record_of(what));
    const json::value& said = record.at("policy").at("conditions").at(0);
    json::object out{{"id", what.id},
                     {"class", policy::name_of(what.kind)},
                     {"policy", what.policy->name},
                     {"fields", record.at("policy").at("fields")},
                     {"if", said.at("if")},
                     {"then", said.at("then")},
                     {"match", what.match.text(what.fields)},
                     {"limits", what.limits.text()},
                     {"since", rfc3339(condition.since_ms)},
                     {"idle", condition.idle},
                     {"buckets", condition.buckets}};
    add_remarks(out, what.author, what.reason, condition.expires_ms);
    return out;
}

json::value to_json(const SuspensionDetail& suspension) {
    const policy::Suspension& what = suspension.what;
    json::object out = parsed(policy::record_of(what)).as_object();
    for (const char* const key : {"since", "expires", "ttl"}) out.erase(key);
    out["id"] = what.id;
    out["match"] = what.match.text(what.fields);
    out["percent"] = static_cast<double>(what.per_mille) / 10;
    out["since"] = rfc3339(suspension.since_ms);
    out["from"] = suspension.of_file ? "suspend.yaml" : what.id == queue::start_suspension ? "start" : "run time";
    out["in_force"] = suspension.in_force;
    out["lanes"] = suspension.lanes;
    add_remarks(out, what.author, what.reason, suspension.expires_ms);
    return out;
}

json::value to_json(const PolicyReply& reply) {
    if (!reply.reach) return json::object{{"id", reply.id}, {"updated", reply.updated}};
    const json::object reach{{"buckets", reply.reach->buckets}, {"waiting", reply.reach->items}, {"at_least", reply.reach->at_least}};
    return json::object{{"matches", reach}};
}

}  // namespace sluice::control
