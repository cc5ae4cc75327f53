#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/problem.h"
#include "base/result.h"
#include "config/ini.h"
#include "config/setting.h"

namespace sluice::config {

// The text of a file; nothing when it does not exist. Errors: disk_failed when it cannot be read or is no
// plain file, too_large above `bytes_max`. The detail is a phrase without the file's name.
Result<std::optional<std::string>> read_text(const std::string& path, std::size_t bytes_max);

// All that can be read from here. Errors: disk_failed, too_large above `bytes_max`; the detail is a phrase.
Result<std::string> read_to_end(int descriptor, std::size_t bytes_max);
// The same of whatever has this name; a pipe is waited for.
Result<std::string> read_named(const std::string& path, std::size_t bytes_max);

// What the files of an instance say, read once, before anything is made of it. Value.
class Sources {
public:
    // Reads every file of the schema under DIR/config; unreadable ones and lines that do not parse are
    // reported.
    static Sources read(const std::string& config_folder, Problems& problems);

    bool has(const std::string& file) const { return inis_.contains(file) || values_.contains(file); }
    // What a file says about a setting, after Haraka's rules: the last scalar replaces what came before,
    // `key[]` adds. Empty when it says nothing.
    Values given(const Setting& setting) const;
    Values given(const std::string& file, const std::string& section, const std::string& key) const;
    // The line on which a key was given last; 0 when it was not.
    int line_of(const std::string& file, const std::string& section, const std::string& key) const;
    // The lines of a list, value or verbatim file; empty when absent.
    Values lines(const std::string& file) const;
    const std::map<std::string, Ini>& inis() const { return inis_; }

private:
    std::map<std::string, Ini> inis_;
    std::map<std::string, Values> values_;
};

// "config/NAME", as problems name files.
std::string shown_name(const std::string& file);

}  // namespace sluice::config
