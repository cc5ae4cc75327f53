#pragma once

#include <functional>
#include <string>

namespace sluice::cli {

// The whole command line. `serve` runs an instance and returns the exit code.
// Exit codes: 0 done; 1 it failed; 2 the words were wrong; 3 no such item; 69 no engine is running there (EX_UNAVAILABLE);
// 75 another instance runs (EX_TEMPFAIL); 78 the configuration is wrong (EX_CONFIG).
int run(int argc, char** argv, const std::function<int(const std::string& directory)>& serve);

}  // namespace sluice::cli
