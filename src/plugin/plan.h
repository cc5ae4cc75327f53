#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "delivery/hooks.h"

namespace sluice::plugin {

class NativeHost;
struct NativeListener;

// Where a listener stands among all: priority first, then the place in the list, which is between those of JavaScript
// plugins for a native one. Value.
struct ListenerPlace {
    double priority = 0;
    double place = 0;
    friend auto operator<=>(const ListenerPlace&, const ListenerPlace&) = default;
};

ListenerPlace place_of(const NativeListener& listener);

// Who listens to what in the plugin host. Immutable.
struct JavaScriptListeners {
    bool known = false;  // false: no host has told, so they may be anywhere
    std::map<std::string, std::vector<ListenerPlace>> places;  // by hook
};
using JavaScriptListenersPtr = std::shared_ptr<const JavaScriptListeners>;

// One step of a chain: a native plugin's hook, or a part of the plugin host's.
struct Step {
    const NativeListener* native = nullptr;
    std::int32_t number = 0;  // of a native one
    std::string spans;  // JSON: {"get_mx": [[0, 0.5], null]}, what stands between these places; empty: everything
};

// In which order native plugins and the plugin host are asked, and which part of the host's listeners each time. `host`: null
// when there is none.
std::vector<Step> plan(delivery::Hook hook, const NativeHost& natives, const JavaScriptListeners* host);

// The same for one hook. Of a part of the host's, `spans` is what one hook has there: [[0, 0.5], null].
std::vector<Step> plan_of(std::int32_t number, const NativeHost& natives, const JavaScriptListeners* host);

}  // namespace sluice::plugin
