#pragma once

#include <string>
#include <vector>

#include "config/settings.h"

namespace sluice::config {

// Which settings differ, by name ("outbound.ini [main] concurrency_max"), in the order of the schema. Value.
struct Changes {
    std::vector<std::string> live;           // in force as soon as they are published
    std::vector<std::string> needs_restart;  // not in force before the engine starts again
    bool any() const { return !live.empty() || !needs_restart.empty(); }
};

// The contents of certificates and keys count as well as their names, the YAML files as a whole, and of the plugins what is
// installed.
Changes compare(const Settings& before, const Settings& after);

// Puts what the engine runs with in place of every setting that needs a restart, and names those for which the files say
// otherwise: what is published is in force as a whole, whoever reads it and whenever.
std::vector<std::string> keep_until_restart(Settings& settings, const Settings& running);

}  // namespace sluice::config
