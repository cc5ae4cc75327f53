#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/lines.h"

namespace sluice::config {

// One `key`, `key = value` or `key[] = value`. Value.
struct IniEntry {
    std::string section;     // "main" before any section line
    std::string key;         // without the `[]`
    std::string value;       // trimmed; an inline `; remark` is part of it, as in Haraka
    bool has_value = false;  // false for a bare `key`
    bool is_array = false;   // `key[]`: adds to what was given before
    int line = 0;            // of the key; the first line when continued by a trailing backslash
    friend bool operator==(const IniEntry&, const IniEntry&) = default;
};

// An ini file in Haraka's syntax, in the order in which it was written. Value.
struct Ini {
    Values sections;  // name and line of each section line
    std::vector<IniEntry> entries;
    Values bad;  // lines that are neither section nor entry; Haraka skips them too
};

// Never fails: what cannot be read is in `bad`. Keys consist of letters, digits and `_ @ : . + - / [ ]`.
Ini parse_ini(std::string_view text);

}  // namespace sluice::config
