#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace sluice::cli {

struct Session;

// The whole command line. `serve` runs an instance and returns the exit code; `add_more` adds the commands that need more of the
// engine than this folder may know.
// Exit codes: 0 done; 1 it failed; 2 the words were wrong; 3 no such item; 69 no engine is running there (EX_UNAVAILABLE);
// 75 another instance runs (EX_TEMPFAIL); 78 the configuration is wrong (EX_CONFIG).
int run(int argc, char** argv, const std::function<int(const std::string& directory)>& serve,
        const std::function<void(CLI::App& app, Session& session)>& add_more);

}  // namespace sluice::cli
