#include "control/plugin_routes.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "control/answers.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using plugin::HookCounts;
using Totals = plugin::Chronicle::State;

json::object to_json(const plugin::LeftOut& plugin) {
    json::object out{{"name", plugin.name}, {"reason", plugin.reason}, {"broken", plugin.broken}};
    if (!plugin.file.empty()) {
        out["file"] = plugin.file;
        out["line"] = plugin.line;
    }
    return out;
}

json::array to_json(const std::vector<plugin::LeftOut>& plugins) {
    json::array list;
    for (const plugin::LeftOut& plugin : plugins) list.push_back(to_json(plugin));
    return list;
}

void put_counts(const HookCounts& counts, json::object& into) {
    into["calls"] = counts.calls;
    into["ms"] = counts.ms;
    into["busy_ms"] = counts.busy_ms;
    into["max_ms"] = counts.max_ms;
    into["timeouts"] = counts.timeouts;
    into["failures"] = counts.failures;
    into["host_ends"] = counts.host_ends;
    into["over_budget"] = counts.over_budget;
    into["passed_over"] = counts.passed_over;
}

// Of all hooks of a plugin.
HookCounts sum_of(const Totals& totals, const std::string& name) {
    HookCounts sum;
    for (const auto& [key, counts] : totals.counts) {
        if (key.first != name) continue;
        sum.calls += counts.calls;
        sum.timeouts += counts.timeouts;
        sum.failures += counts.failures;
        sum.host_ends += counts.host_ends;
        sum.over_budget += counts.over_budget;
        sum.passed_over += counts.passed_over;
        sum.ms += counts.ms;
        sum.busy_ms += counts.busy_ms;
        sum.max_ms = std::max(sum.max_ms, counts.max_ms);
    }
    return sum;
}

json::object to_json(const plugin::LoadedPlugin& plugin, const plugin::Hosts::View& view) {
    json::object out{{"name", plugin.name}, {"path", plugin.path}, {"package", plugin.package}, {"timeout", plugin.timeout_s}, {"native", plugin.native}};
    put_counts(sum_of(view.totals, plugin.name), out);
    const auto heap = view.host.heap.find(plugin.name);
    out["heap_bytes"] = heap != view.host.heap.end() ? heap->second : 0;
    return out;
}

json::object to_json(const plugin::HookedPoint& point, const Totals& totals) {
    json::array listeners;
    for (const plugin::Listener& listener : point.listeners) {
        json::object one{{"plugin", listener.plugin}, {"method", listener.method}, {"priority", listener.priority}, {"native", listener.native}};
        const auto counts = totals.counts.find({listener.plugin, point.hook});
        put_counts(counts != totals.counts.end() ? counts->second : HookCounts(), one);
        listeners.push_back(std::move(one));
    }
    return {{"hook", point.hook}, {"called", point.called}, {"listeners", std::move(listeners)}};
}

json::object to_json(const plugin::HostEnd& end) {
    json::object out{{"at_ms", end.at_ms}, {"reason", end.reason}, {"lived_s", end.lived_s}};
    if (end.plugin.empty()) return out;
    out["plugin"] = end.plugin;
    out["hook"] = end.hook;
    out["because"] = end.because;
    return out;
}

json::array passed_over_json(const plugin::NodeHost::View& host) {
    json::array list;
    for (const plugin::PassedOver& one : host.passed_over) list.push_back({{"plugin", one.plugin}, {"hook", one.hook}, {"until_ms", one.until_ms}});
    return list;
}

json::object host_json(const plugin::Hosts::View& view) {
    json::array ends;
    for (const plugin::HostEnd& end : view.totals.last_ends) ends.push_back(to_json(end));
    return {{"state", view.any ? view.host.state : "none"},
            {"process", view.host.process},
            {"since_ms", view.host.since_ms},
            {"starts", view.totals.starts},
            {"ends", view.totals.ends},
            {"reloads", view.totals.reloads},
            {"failed_reloads", view.totals.failed_reloads},
            {"cpu_ms", view.totals.cpu_ms},
            {"heap_bytes", view.host.heap_bytes},
            {"resident_bytes", view.host.resident_bytes},
            {"passed_over", passed_over_json(view.host)},
            {"last_ends", std::move(ends)}};
}

}  // namespace

std::optional<HttpReply> answer_plugins_get(Backend& backend, const HttpRequest& request) {
    if (request.path != "/v1/plugins") return std::nullopt;
    const plugin::Hosts::View view = backend.plugins();
    json::array plugins, hooks;
    for (const plugin::LoadedPlugin& plugin : view.host.roster.plugins) plugins.push_back(to_json(plugin, view));
    for (const plugin::HookedPoint& point : view.host.roster.hooks) hooks.push_back(to_json(point, view.totals));
    return reply(json::object{
        {"host", host_json(view)},
        {"plugins", std::move(plugins)},
        {"hooks", std::move(hooks)},
        {"left_out", to_json(view.host.roster.left_out)}});
}

Task<std::optional<HttpReply>> answer_plugins_post(Backend& backend, const HttpRequest& request) {
    if (request.path != "/v1/plugins/reload") co_return std::nullopt;
    // A form cannot send JSON: the type is what keeps foreign pages out.
    const Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    const plugin::Reloaded reloaded = co_await backend.reload_plugins();
    json::array plugins;
    for (const std::string& name : reloaded.plugins) plugins.emplace_back(name);
    json::object out{{"reloaded", reloaded.done}, {"plugins", std::move(plugins)}, {"problems", to_json(reloaded.problems)}};
    if (!reloaded.done) out["reason"] = reloaded.reason;
    co_return reply(out);
}

}  // namespace sluice::control
