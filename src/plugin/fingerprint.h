#pragma once

#include <cstdint>
#include <string>

namespace sluice::plugin {

// A number that changes when a file below `folder` changes, comes or goes. Hidden files, backups of editors and
// node_modules are not looked at, nor what is beyond some thousand files.
std::uint64_t fingerprint_of(const std::string& folder);

}  // namespace sluice::plugin
