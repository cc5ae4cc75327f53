#include "plugin/roster.h"

#include <algorithm>

#include "base/text.h"
#include "plugin/json_members.h"

namespace sluice::plugin {
namespace {

using boost::json::object;
using boost::json::value;

constexpr std::size_t ends_kept = 20;
constexpr std::size_t rows_max = 10'000;  // a plugin may register hooks of any name

std::vector<Listener> listeners_of(const value& list) {
    std::vector<Listener> listeners;
    if (!list.is_array()) return listeners;
    for (const value& one : list.get_array()) {
        if (!one.is_object()) continue;
        const object& listener = one.get_object();
        const value* priority = listener.if_contains("priority");
        listeners.push_back(
            {text_of(listener, "plugin"), text_of(listener, "method"),
             priority != nullptr ? static_cast<std::int64_t>(std::clamp(real_of(*priority), -100.0, 100.0)) : 0});
    }
    return listeners;
}

void add_left_out(const object& ready, const char* key, bool broken, std::vector<LeftOut>& into) {
    for (const value& one : list_of(ready, key)) {
        if (!one.is_object()) continue;
        const object& plugin = one.get_object();
        const std::string sentence = text_of(plugin, "sentence");
        into.push_back(
            {text_of(plugin, "name"), printable(sentence.empty() ? text_of(plugin, "reason") : sentence),
             printable(text_of(plugin, "file")), number_of(plugin, "line"), broken});
    }
}

// A host's own numbers only grow; one that does not is not believed.
double growth(double now, double before) { return std::max(0.0, now - before); }
std::uint64_t growth(std::uint64_t now, std::uint64_t before) { return now > before ? now - before : 0; }

bool has_room(const Chronicle::State& state, const Chronicle::Key& key) { return state.counts.size() < rows_max || state.counts.contains(key); }

}  // namespace

Roster roster_of(const object& ready) {
    Roster roster;
    const object& told = object_of(ready, "roster");
    for (const value& one : list_of(told, "plugins")) {
        if (!one.is_object()) continue;
        const object& plugin = one.get_object();
        const value* timeout = plugin.if_contains("timeout");
        roster.plugins.push_back(
            {text_of(plugin, "name"), printable(text_of(plugin, "path")), timeout != nullptr ? real_of(*timeout) : 0,
             is_true(plugin, "package")});
    }
    const boost::json::array& uncalled = list_of(ready, "uncalled");
    for (const auto& member : object_of(told, "hooks")) {
        const auto is_it = [&](const value& one) { return one.is_object() && text_of(one.get_object(), "hook") == member.key(); };
        const bool called = std::none_of(uncalled.begin(), uncalled.end(), is_it);
        roster.hooks.push_back({std::string(member.key()), called, listeners_of(member.value())});
    }
    add_left_out(ready, "broken", true, roster.left_out);
    add_left_out(ready, "failed", false, roster.left_out);
    return roster;
}

std::vector<PassedOver> passed_over_of(const object& metrics) {
    std::vector<PassedOver> found;
    for (const value& one : list_of(metrics, "resting")) {
        if (!one.is_array() || one.get_array().size() != 3 || found.size() == rows_max) continue;
        const boost::json::array& row = one.get_array();
        if (!row[0].is_string() || !row[1].is_string()) continue;
        found.push_back({std::string(row[0].get_string()), std::string(row[1].get_string()), static_cast<std::int64_t>(whole_of(row[2]))});
    }
    return found;
}

void Chronicle::count(const object& metrics, Seen& seen) {
    state_.with([&](State& state) {
        const std::uint64_t cpu_ms = number_of(metrics, "cpu_ms");
        state.cpu_ms += growth(cpu_ms, seen.cpu_ms);
        seen.cpu_ms = cpu_ms;
        for (const value& one : list_of(metrics, "rows")) {
            if (!one.is_array() || one.get_array().size() != 10) continue;
            const boost::json::array& row = one.get_array();
            if (!row[0].is_string() || !row[1].is_string()) continue;
            const Key key{std::string(row[0].get_string()), std::string(row[1].get_string())};
            if (!has_room(state, key)) continue;
            const HookCounts now{
                .calls = whole_of(row[2]), .timeouts = whole_of(row[6]), .failures = whole_of(row[7]), .ms = real_of(row[3]),
                .busy_ms = real_of(row[4]), .max_ms = real_of(row[5]), .over_budget = whole_of(row[8]), .passed_over = whole_of(row[9])};
            HookCounts& before = seen.counts[key];
            HookCounts& sum = state.counts[key];
            sum.calls += growth(now.calls, before.calls);
            sum.timeouts += growth(now.timeouts, before.timeouts);
            sum.failures += growth(now.failures, before.failures);
            sum.ms += growth(now.ms, before.ms);
            sum.busy_ms += growth(now.busy_ms, before.busy_ms);
            sum.max_ms = std::max(sum.max_ms, now.max_ms);
            sum.over_budget += growth(now.over_budget, before.over_budget);
            sum.passed_over += growth(now.passed_over, before.passed_over);
            before = now;
        }
    });
}

void Chronicle::ended(HostEnd end) {
    state_.with([&](State& state) {
        ++state.ends;
        const Chronicle::Key key{end.plugin, end.hook};
        if (!end.plugin.empty() && has_room(state, key)) ++state.counts[key].host_ends;
        state.last_ends.push_front(std::move(end));
        if (state.last_ends.size() > ends_kept) state.last_ends.pop_back();
    });
}

bool Chronicle::blame(const HostEnd& end, const Blame::Limits& limits, Blame::Time now) {
    if (!end.certain) return false;
    return blame_.with([&](Blame& blame) { return blame.ended(end.plugin, end.hook, limits, now); });
}

std::vector<Blame::Resting> Chronicle::resting(Blame::Time now) const {
    return blame_.with([now](const Blame& blame) { return blame.resting(now); });
}

void Chronicle::reloaded(bool well) {
    state_.with([well](State& state) { ++(well ? state.reloads : state.failed_reloads); });
    if (well) blame_.with([](Blame& blame) { blame.forget(); });
}

}  // namespace sluice::plugin
