#include "plugin/native_config.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <utility>

#include "base/text.h"
#include "config/ini.h"
#include "config/lines.h"
#include "config/sources.h"
#include "plugin/native_event.h"
#include "plugin/native_structures.h"

namespace sluice::plugin {
namespace {

constexpr std::size_t file_bytes_max = 64u << 20;
constexpr std::size_t json_entries_max = 1'000'000;

using Entry = sluice_config::Entry;
using Entries = std::vector<Entry>;

bool stays_inside(std::string_view name) {
    if (name.empty() || name.front() == '/' || name.find('\0') != std::string_view::npos) return false;
    const std::filesystem::path path(name);
    return std::none_of(path.begin(), path.end(), [](const auto& part) { return part == ".."; });
}

Entries ini_entries(std::string_view text) {
    Entries entries;
    for (config::IniEntry& entry : config::parse_ini(text).entries) {
        entries.push_back({entry.line, std::move(entry.section), std::move(entry.key), std::move(entry.value)});
    }
    return entries;
}

Entries line_entries(config::Values values) {
    Entries entries;
    for (config::Value& value : values) entries.push_back({value.line, {}, {}, std::move(value.text)});
    return entries;
}

// One step of a JSON pointer (RFC 6901).
std::string step_of(std::string_view name) {
    std::string step = "/";
    for (const char letter : name) {
        if (letter == '~') {
            step += "~0";
        } else if (letter == '/') {
            step += "~1";
        } else {
            step += letter;
        }
    }
    return step;
}

void flatten(const boost::json::value& value, const std::string& pointer, Entries& entries) {
    if (entries.size() >= json_entries_max) return;
    if (value.is_object()) {
        for (const auto& [name, member] : value.get_object()) flatten(member, pointer + step_of(name), entries);
    } else if (value.is_array()) {
        std::size_t index = 0;
        for (const auto& member : value.get_array()) flatten(member, pointer + "/" + std::to_string(index++), entries);
    } else {
        entries.push_back({0, {}, pointer, value.is_string() ? std::string(value.get_string()) : boost::json::serialize(value)});
    }
}

Result<Entries> json_entries(std::string_view text) {
    boost::system::error_code error;
    boost::json::parse_options options;
    options.max_depth = 32;
    const boost::json::value parsed = boost::json::parse(text, error, {}, options);
    if (error) return fail(Errc::bad_input, "not JSON: " + error.message());
    Entries entries;
    flatten(parsed, "", entries);
    if (entries.size() >= json_entries_max) return fail(Errc::too_large, "more than 1000000 values");
    return entries;
}

Result<Entries> entries_of(std::string text, int type) {
    switch (type) {
        case SLUICE_INI: return ini_entries(text);
        case SLUICE_LIST: return line_entries(config::parse_list(text));
        case SLUICE_VALUE: return line_entries(config::parse_value(text));
        case SLUICE_JSON: return json_entries(text);
        case SLUICE_DATA: return Entries{{0, {}, {}, std::move(text)}};
        default: return fail(Errc::bad_input, "file type " + std::to_string(type) + " is unknown");
    }
}

}  // namespace

Result<sluice_config> read_config(const std::string& instance, std::string_view name, int type) {
    if (!stays_inside(name)) return fail(Errc::bad_input, printable(name) + " is not the name of a file in config/");
    const std::string shown = config::shown_name(std::string(name));
    auto text = config::read_text(instance + "/config/" + std::string(name), file_bytes_max);
    if (!text) return fail(text.error().code, shown + ": " + text.error().detail);
    if (!*text) return sluice_config{};
    auto entries = entries_of(std::move(**text), type);
    if (!entries) return fail(entries.error().code, shown + ": " + entries.error().detail);
    return sluice_config{std::move(*entries)};
}

std::size_t config_count(const sluice_config* config) { return config == nullptr ? 0 : config->entries.size(); }

int config_entry(const sluice_config* config, std::size_t index, sluice_config_entry* entry) {
    if (config == nullptr || entry == nullptr || index >= config->entries.size()) return -1;
    const Entry& found = config->entries[index];
    sluice_config_entry told{};
    told.line = found.line;
    told.section = text_of(found.section);
    told.key = text_of(found.key);
    told.value = text_of(found.value);
    return give(entry, told) ? 0 : -1;
}

sluice_text config_get(const sluice_config* config, const char* section, const char* key) {
    if (config == nullptr || key == nullptr) return {};
    const auto matches = [&](const Entry& entry) {
        if (entry.key != key) return false;
        return section != nullptr ? entry.section == section : entry.section.empty() || entry.section == "main";
    };
    const auto found = std::find_if(config->entries.rbegin(), config->entries.rend(), matches);
    return found == config->entries.rend() ? sluice_text{} : text_of(found->value);
}

}  // namespace sluice::plugin
