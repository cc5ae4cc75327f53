#pragma once

#include <string>

#include "base/problem.h"
#include "config/settings.h"
#include "config/sources.h"

namespace sluice::config {

// Whether every user of the machine can read the file: by its own mode and that of every folder on the way to it.
bool readable_by_everybody(const std::string& path);

// Warns of files with passwords, tokens or private keys that everybody can read. They are used all the same: an instance
// that runs today runs on. `settings` with TLS files settled.
void warn_of_open_secrets(const Settings& settings, const Sources& sources, Problems& problems);

}  // namespace sluice::config
