#pragma once

#include <string>
#include <vector>

#include "base/problem.h"
#include "config/settings.h"

namespace sluice::config {

// What came of reading an instance directory. Value.
struct Loaded {
    SettingsPtr settings;           // null exactly when a problem is an error
    std::vector<Problem> problems;  // warnings too, in the order of the files
};

// Reads DIR/config, checks it and fills in defaults. Reads files and nothing else: no name is resolved, no
// port opened, nothing is written. Never throws. Thread-safe; takes a few milliseconds. Not errors: unknown
// keys, plugins that need JavaScript, and whatever else a Haraka instance may contain; these are warnings, so
// that it starts unchanged.
Loaded load(const std::string& directory);

// The names of all files under DIR/config that load() reads by name.
std::vector<std::string> settings_files();

}  // namespace sluice::config
