#pragma once

#include <CLI/CLI.hpp>

#include "cli/session.h"

namespace sluice::daemon {

// Adds `sluice simulate`: rehearses the policies and settings of an instance. It stands here because the core must be given the
// options that the engine would give it.
void add_simulate_command(CLI::App& app, cli::Session& session);

}  // namespace sluice::daemon
