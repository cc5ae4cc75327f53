// What a rehearsal found, for programs.

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "sim/rehearsal_report.h"

namespace sluice::sim {
namespace {

namespace json = boost::json;

json::object tally_json(const Tally& tally) {
    json::object latency;
    const struct {
        const char* name;
        double part;
    } parts[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    for (const auto& [name, part] : parts) latency[name] = tally.latency.quantile(part).count();
    return {{"name", tally.name},         {"accepted", tally.accepted},   {"delivered", tally.delivered}, {"bounced", tally.bounced},
            {"expired", tally.expired},   {"queued", tally.queued()},     {"deferrals", tally.deferrals}, {"latency_ms", std::move(latency)}};
}

json::object seen_json(const Receivers::Seen& seen) {
    json::array answers;
    for (const auto& [reply, count] : seen.answers) answers.push_back(json::object{{"reply", reply}, {"count", count}});
    return {{"connections", seen.connections},
            {"connections_refused", seen.refused_connections},
            {"sessions_peak", seen.sessions_peak},
            {"messages", seen.messages},
            {"messages_a_minute_peak", seen.minute_peak},
            {"answers", std::move(answers)}};
}

json::array bounds_json(const std::vector<Bound>& bounds, bool of_buckets) {
    json::array out;
    for (const Bound& bound : bounds) {
        json::object one{{"policy", bound.policy}, {"lack", bound.lack}, {"blocked_ms", bound.blocked.count()}, {"waiting_mean", bound.waiting_mean},
                         {"waiting_peak", bound.waiting_peak}, {"message_seconds", bound.message_seconds}};
        if (of_buckets) {
            one["bucket"] = bound.bucket;
            one["limits"] = bound.limits;
        }
        out.push_back(std::move(one));
    }
    return out;
}

json::object shape_json(const Traffic& traffic, const Shape& shape) {
    json::object tenants;
    for (std::size_t i = 0; i < traffic.tenants.size(); ++i) tenants[traffic.tenants[i]] = i < shape.queued.size() ? shape.queued[i] : 0;
    return {{"until_ms", shape.at.count()}, {"accepted", shape.accepted},   {"delivered", shape.delivered},
            {"deferrals", shape.deferrals}, {"ready", shape.ready},         {"scheduled", shape.scheduled},
            {"sending", shape.sending},     {"sessions", shape.sessions},   {"queued_by_tenant", std::move(tenants)}};
}

json::object run_json(const Traffic& traffic, const Rehearsed& run) {
    json::array tenants, receivers, shapes;
    for (const Tally& tenant : run.tenants) tenants.push_back(tally_json(tenant));
    for (std::size_t i = 0; i < run.receivers.size(); ++i) {
        json::object one = tally_json(run.receivers[i]);
        one["seen"] = seen_json(run.seen[i]);
        receivers.push_back(std::move(one));
    }
    for (const Shape& shape : run.shapes) shapes.push_back(shape_json(traffic, shape));
    return {{"policies", run.label},
            {"lasted_ms", run.lasted.count()},
            {"all", tally_json(run.all)},
            {"attempts", run.attempts},
            {"connections", run.connections},
            {"sessions_peak", run.sessions_peak},
            {"queued_peak", run.queued_peak},
            {"delivered_a_minute_peak", run.minute_peak},
            {"tenants", std::move(tenants)},
            {"receivers", std::move(receivers)},
            {"limits", json::object{{"policies", bounds_json(run.policies, false)}, {"buckets", bounds_json(run.buckets, true)}}},
            {"shape", std::move(shapes)}};
}

}  // namespace

json::value report_json(const Traffic& traffic, const std::vector<Rehearsed>& runs) {
    json::array all, notes;
    for (const Rehearsed& run : runs) all.push_back(run_json(traffic, run));
    for (const std::string& note : traffic.notes) notes.emplace_back(note);
    return json::object{{"title", traffic.title},
                        {"seed", runs.front().seed},
                        {"messages", traffic.messages()},
                        {"domains", traffic.domains.size()},
                        {"lasts_ms", traffic.lasts.count()},
                        {"notes", std::move(notes)},
                        {"runs", std::move(all)}};
}

}  // namespace sluice::sim
