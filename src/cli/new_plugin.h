#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::cli {

// What `sluice plugin new` wrote. Value.
struct NewPlugin {
    std::string plugin, test;  // paths
    bool listed = false;       // in config/plugins, now or before
};

// Writes plugins/NAME.js and test/NAME.test.js into the instance, and a line into config/plugins with `enable`. Never
// overwrites.
// Errors: bad_input (the name), not_found (no instance), disk_failed.
struct NewPluginTerms {
    std::string host;                  // the folder of the plugin host, for the test; may be empty
    std::vector<std::string> instead;  // names of the engine's own that the instance wants to be plugins
    bool enable = false;
};
Result<NewPlugin> write_new_plugin(const std::string& directory, const std::string& name, const NewPluginTerms& terms);

}  // namespace sluice::cli
