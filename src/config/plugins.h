#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "config/lines.h"
#include "config/settings.h"

namespace sluice::config {

// What the plugin list switches on. Value.
struct NativePlugins {
    bool tls = false, auth = false, relay = false;
    std::vector<std::string> javascript;  // for the plugin host, in the order of the list
    std::vector<NativePlugin> objects;    // shared objects, in the order of the list

    bool runs(std::string_view plugin) const;  // in the plugin host
};

// Today's name of a plugin: without the package prefix, and after Haraka's renames (`relay_acl` is `relay`).
std::string current_plugin_name(std::string_view listed);

// Whether a plugin that the engine stands in for may run in its place, where the instance wants that (PluginHostSettings::instead).
bool may_run_instead(std::string_view name);

// The plugins whose job the engine does itself in this instance: those of Haraka's that look at the queue run where they are
// installed, and so do those of `instead`.
std::vector<std::string> native_plugin_names(const std::string& instance, const std::vector<std::string>& instead);

// Where plugins are looked for, and what is wanted or known of them. Borrowed for a call.
struct PluginPlaces {
    const std::string& instance;
    const std::vector<std::string>& instead;  // PluginHostSettings::instead
    const std::vector<std::string>& loaded;   // in the plugin host of a running engine: these stay while they are listed
};

// Sorts the lines of config/plugins into what is native here, shared objects and what needs JavaScript. A line that ends in
// `.so` names a shared object, by its path (from `instance`) or in its folder plugins/; any other name may be one there.
// What is not installed in `instance` is reported by name and line, as a warning: the engine runs without it, or with what it
// has loaded of it. A shared object
// that is named as such and is not there is an error, and so is a plugin of `instead` that is listed and not installed: the
// engine would do in its place what nobody has asked it to do.
NativePlugins classify_plugins(const Values& listed, const PluginPlaces& places, Problems& problems);

}  // namespace sluice::config
