#include "config/ini.h"

#include <algorithm>
#include <optional>

#include "base/text.h"

namespace sluice::config {
namespace {

bool is_key_character(char c) {
    constexpr std::string_view others = "_@:.+-/[]";
    return is_alnum(c) || others.find(c) != std::string_view::npos;
}

// "[name]" with nothing else on the line; the name has no ']' and keeps its blanks, as Haraka reads it.
std::optional<std::string> section_of(std::string_view line) {
    const std::string_view text = trim(line);
    if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
    const std::string_view name = text.substr(1, text.size() - 2);
    if (name.find(']') != std::string_view::npos) return std::nullopt;
    return std::string(name);
}

std::optional<IniEntry> entry_of(std::string_view line) {
    std::string_view text = trim(line);
    const auto stop = std::find_if_not(text.begin(), text.end(), is_key_character);
    const std::string_view key = text.substr(0, static_cast<std::size_t>(stop - text.begin()));
    if (key.empty()) return std::nullopt;

    IniEntry entry;
    text = trim(text.substr(key.size()));
    if (!text.empty()) {
        if (text.front() != '=') return std::nullopt;
        entry.has_value = true;
        entry.value = trim(text.substr(1));
    }
    entry.is_array = key.size() > 2 && key.ends_with("[]");
    entry.key = key.substr(0, key.size() - (entry.is_array ? 2 : 0));
    return entry;
}

// The part before a backslash that ends the line (blanks may follow it), or nothing.
std::optional<std::string_view> continued(std::string_view line) {
    const std::size_t last = line.find_last_not_of(" \t");
    if (last == std::string_view::npos || line[last] != '\\') return std::nullopt;
    return line.substr(0, last);
}

}  // namespace

Ini parse_ini(std::string_view text) {
    Ini ini;
    std::string section = "main";
    std::string pending;  // the continued lines so far
    int pending_line = 0;
    int number = 0;
    const auto take = [&](std::string_view line, int at) {
        if (auto entry = entry_of(line)) {
            entry->section = section;
            entry->line = at;
            ini.entries.push_back(std::move(*entry));
        } else {
            ini.bad.push_back({std::string(trim(line)), at});
        }
    };
    for (const std::string_view line : split_lines(text)) {
        ++number;
        if (is_blank_or_comment(line)) continue;
        if (auto name = section_of(line)) {
            section = *name;
            ini.sections.push_back({std::move(*name), number});
            continue;
        }
        if (pending_line == 0) pending_line = number;
        if (const auto head = continued(line)) {
            pending += *head;
            continue;
        }
        take(pending.append(line), pending_line);
        pending.clear();
        pending_line = 0;
    }
    // Haraka forgets a value whose last line asks for another one; keeping it is kinder than losing it.
    if (!trim(pending).empty()) take(pending, pending_line);
    return ini;
}

}  // namespace sluice::config
