#pragma once

#include <map>
#include <string>

namespace sluice::config {

// The reference page of all settings, in Markdown; docs/reference/settings.md is this text.
std::string reference_page();

// Values to write into a new file instead of defaults: "section key" -> value; for a section whose keys are
// free, lines under "section". Value.
using Chosen = std::map<std::string, std::string>;

// A file of the schema as a new instance gets it: every setting with its description and default as a
// comment, the chosen ones as values. Settings that have no effect are left out.
std::string commented_file(const std::string& file, const Chosen& chosen);

}  // namespace sluice::config
