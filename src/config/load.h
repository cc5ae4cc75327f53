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
    SettingsPtr written{};          // as the files have them; the same as `settings` when nothing waits for a restart
};

// Reads DIR/config, checks it and fills in defaults. Reads files and nothing else: no name is resolved, no
// port opened, nothing is written. Never throws. Thread-safe; takes a few milliseconds. Not errors: unknown
// keys, plugins that need JavaScript, and whatever else a Haraka instance may contain; these are warnings, so
// that it starts unchanged.
//
// `running`: what an engine runs with that is to use the result; null for one that is to start. It keeps what needs a
// restart, and what follows from that: whether there is TLS depends on the listeners that are open. It also keeps a plugin
// that is still listed and no longer on disk: a package that is being replaced is gone for a moment, and mail must not go past it.
Loaded load(const std::string& directory, const Settings* running = nullptr);

// The names of all files under DIR/config that load() reads by name.
std::vector<std::string> settings_files();

}  // namespace sluice::config
