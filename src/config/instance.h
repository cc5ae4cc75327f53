#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::config {

// What `sluice init` did. Value.
struct InitReport {
    std::vector<std::string> created;  // files and folders, relative to the instance
    std::vector<std::string> kept;     // existed already and were not touched
};

// Creates an instance in `directory`, which is made when it does not exist: DIR/config with every file
// explained in comments, DIR/plugins, DIR/queue, DIR/log, DIR/run. The new instance listens where Haraka does
// (`[::0]:25`) and lets only this machine relay. Never overwrites and never follows a link for writing: what
// exists is kept. Errors: disk_failed or disk_full, naming the path; what was created until then stays.
Result<InitReport> init(const std::string& directory);

// The instance of `make run`: SMTP on 127.0.0.1:2525, control API on 127.0.0.1:8026, and all mail goes to a
// sink on 127.0.0.1:2526, so that nothing leaves the machine.
Result<InitReport> init_demo(const std::string& directory);

}  // namespace sluice::config
