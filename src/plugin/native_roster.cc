#include "plugin/native_roster.h"

#include <algorithm>
#include <utility>

#include "plugin/plan.h"

namespace sluice::plugin {
namespace {

HookedPoint& point_of(Roster& roster, const char* hook) {
    const auto found = std::find_if(roster.hooks.begin(), roster.hooks.end(), [&](const HookedPoint& point) { return point.hook == hook; });
    if (found != roster.hooks.end()) return *found;
    return roster.hooks.emplace_back(HookedPoint{hook, true, {}});
}

// Where those of the plugin host stand; it tells of both in the same order.
std::vector<std::pair<ListenerPlace, Listener>> placed(const HookedPoint& point, const JavaScriptListeners* host) {
    std::vector<std::pair<ListenerPlace, Listener>> all;
    std::vector<ListenerPlace> places;
    if (host != nullptr && host->places.contains(point.hook)) places = host->places.at(point.hook);
    for (std::size_t i = 0; i < point.listeners.size(); ++i) {
        const ListenerPlace unknown{static_cast<double>(point.listeners[i].priority), 0};
        all.emplace_back(i < places.size() ? places[i] : unknown, point.listeners[i]);
    }
    return all;
}

void add_listeners(Roster& roster, const std::vector<NativeListener>& listeners, std::int32_t number, const JavaScriptListeners* host) {
    if (listeners.empty()) return;
    HookedPoint& point = point_of(roster, name_of_hook(number));
    auto all = placed(point, host);
    for (const NativeListener& listener : listeners) {
        const char* const method = listener.may_block ? "native, may block" : "native";
        const ListenerPlace place = place_of(listener);
        const auto behind = std::find_if(all.begin(), all.end(), [&](const auto& other) { return place < other.first; });
        all.emplace(behind, place, Listener{listener.module->listed.name, method, listener.priority, true});
    }
    point.listeners.clear();
    for (auto& [place, listener] : all) point.listeners.push_back(std::move(listener));
}

}  // namespace

void add_natives(Hosts::View& view, const NativeHost& natives, const JavaScriptListeners* host) {
    Roster& roster = view.host.roster;
    for (const auto& module : natives.modules()) {
        const double timeout_s = module->timeout ? std::chrono::duration<double>(*module->timeout).count() : 0;
        roster.plugins.push_back({module->listed.name, module->listed.file, timeout_s, false, true});
    }
    for (std::int32_t number = 1; number <= SLUICE_HOOK_DISCONNECT; ++number) {
        add_listeners(roster, natives.listeners(number), number, host);
        for (const auto& module : natives.modules()) {
            const NativeCounts& counts = module->counts_of(number);
            if (counts.calls == 0) continue;
            HookCounts& shown = view.totals.counts[{module->listed.name, name_of_hook(number)}];
            shown.calls = counts.calls;
            shown.timeouts = counts.timeouts;
            shown.failures = counts.failures;
        }
    }
}

}  // namespace sluice::plugin
