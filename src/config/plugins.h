#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "config/lines.h"

namespace sluice::config {

// What the plugin list switches on. Value.
struct NativePlugins {
    bool tls = false, auth = false, relay = false;
    std::vector<std::string> javascript;  // for the plugin host, in the order of the list
};

// Today's name of a plugin: without the package prefix, and after Haraka's renames (`relay_acl` is `relay`).
std::string current_plugin_name(std::string_view listed);

// The plugins whose job the engine does itself in this instance: those of Haraka's that look at the queue run where they are installed.
std::vector<std::string> native_plugin_names(const std::string& instance);

// Sorts the lines of config/plugins into what is native here and what needs JavaScript. What is not installed in
// `instance` is reported by name and line, as a warning: the engine runs without it.
NativePlugins classify_plugins(const Values& listed, const std::string& instance, Problems& problems);

}  // namespace sluice::config
