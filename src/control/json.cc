#include "control/json.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

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

}  // namespace

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
    return json::object{{"domain", count.domain},   {"scheduled", count.scheduled}, {"ready", count.ready},
                        {"sending", count.sending}, {"held", count.held},           {"sessions", count.sessions}};
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
    if (!item.subject.empty()) out["subject"] = item.subject;
    if (!item.problem.empty()) out["problem"] = item.problem;
    if (!item.headers.empty()) out["headers"] = item.headers;
    return out;
}

}  // namespace sluice::control
