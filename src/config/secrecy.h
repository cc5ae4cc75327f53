#pragma once

#include <string>
#include <vector>

#include "base/problem.h"
#include "config/settings.h"
#include "config/sources.h"

namespace sluice::config {

// Whether every user of the machine can read the file: by its own mode and that of every folder on the way to it.
bool readable_by_everybody(const std::string& path);

// What is in DIR/config, and what TLS and DNS settings name elsewhere, that is there and that we cannot read, as problems show it:
// relative to the instance when it is inside. Hidden files are left out.
std::vector<std::string> unreadable_files(const Settings& settings);

// Warns of files with passwords, tokens or private keys that everybody can read. They are used all the same: an instance
// that runs today runs on. `settings` with TLS files settled.
void warn_of_open_secrets(const Settings& settings, const Sources& sources, Problems& problems);

}  // namespace sluice::config
