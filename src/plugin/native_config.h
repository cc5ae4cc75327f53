#pragma once

#include <sluice/plugin.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

// A file of DIR/config as native plugins read it. Immutable.
struct sluice_config {
    struct Entry {
        int line = 0;
        std::string section, key, value;
    };
    std::vector<Entry> entries;
};

namespace sluice::plugin {

// `type` is one of SLUICE_INI and so on. A file that is not there is empty. Errors: bad_input when the name leaves the
// folder or the text is not of this type; disk_failed, too_large. The detail names the file.
Result<sluice_config> read_config(const std::string& instance, std::string_view name, int type);

// The functions of sluice_host that tell about it.
std::size_t config_count(const sluice_config* config);
int config_entry(const sluice_config* config, std::size_t index, sluice_config_entry* entry);
sluice_text config_get(const sluice_config* config, const char* section, const char* key);

}  // namespace sluice::plugin
