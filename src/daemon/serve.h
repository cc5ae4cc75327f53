#pragma once

#include <string>

namespace sluice::daemon {

// Runs the instance in DIR in the foreground until SIGTERM or SIGINT; SIGHUP makes all scheduled mail due. Prints what is
// wrong with the configuration on standard error. Returns the exit code: 0 stopped in order, 1 could not start,
// 78 (EX_CONFIG) the configuration is wrong, 75 (EX_TEMPFAIL) another instance runs.
int serve(const std::string& directory);

}  // namespace sluice::daemon
