#include "yaml/reading.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "base/nearest.h"
#include "base/text.h"

namespace sluice::yaml {
namespace {

// An alias may stand for a large part of the file, and may be used within another: nobody writes files of so many entries.
constexpr std::size_t nodes_max = 2'000'000;
constexpr std::size_t bytes_max = 64 << 20;
constexpr std::size_t shown_max = 60;

int line_of(const YAML::Node& node) {
    const int line = node.Mark().line;
    return line < 0 ? 0 : line + 1;
}

std::string kind_of(const YAML::Node& node) {
    if (node.IsMap()) return "a map";
    if (node.IsSequence()) return "a list";
    if (node.IsScalar()) return "`" + shortened(node.Scalar()) + "`";
    return "nothing";
}

}  // namespace

std::string shortened(std::string_view text) {
    return printable(text.substr(0, shown_max)) + (text.size() > shown_max ? "..." : "");
}

YAML::Node Reading::load(std::string_view text) {
    if (text.size() > bytes_max) {
        problems_.error(file_, 0, "expected at most 64 MiB");
        failed_ = true;
        return {};
    }
    try {
        return YAML::Load(std::string(text));
    } catch (const YAML::Exception& refused) {
        // yaml-cpp reports by exceptions; this is their end.
        problems_.error(file_, refused.mark.line < 0 ? 0 : refused.mark.line + 1, "not YAML: " + refused.msg);
        failed_ = true;
        return {};
    }
}

void Reading::error(const YAML::Node& at, std::string message, std::string suggestion) {
    problems_.error(file_, line_of(at), std::move(message), std::move(suggestion));
    failed_ = true;
}

void Reading::warning(const YAML::Node& at, std::string message, std::string suggestion) {
    problems_.warning(file_, line_of(at), std::move(message), std::move(suggestion));
}

bool Reading::within_budget(const YAML::Node& node) {
    if (++nodes_ < nodes_max) return true;
    if (nodes_ == nodes_max) error(node, "expected at most " + std::to_string(nodes_max) + " entries, aliases counted where they stand");
    return false;
}

std::vector<Reading::Entry> Reading::entries(const YAML::Node& map, const std::string& what) {
    std::vector<Entry> found;
    if (!map.IsMap()) {
        error(map, what + ": expected a map, found " + kind_of(map));
        return found;
    }
    std::set<std::string> seen;
    for (const auto& pair : map) {
        if (!within_budget(pair.first)) return found;
        if (!pair.first.IsScalar()) {
            error(pair.first, what + ": expected a word as key, found " + kind_of(pair.first));
            continue;
        }
        std::string key = pair.first.Scalar();
        if (key.starts_with("x-")) continue;
        if (!seen.insert(key).second) {
            error(pair.first, what + ": `" + shortened(key) + "` stands here twice");
            continue;
        }
        found.push_back({std::move(key), pair.first, pair.second});
    }
    return found;
}

std::vector<Reading::Entry> Reading::entries(const YAML::Node& map, const std::string& what, const std::vector<std::string>& known) {
    std::vector<Entry> found = entries(map, what);
    std::erase_if(found, [&](const Entry& entry) {
        if (std::find(known.begin(), known.end(), entry.key) != known.end()) return false;
        error(entry.key_node, what + ": unknown key `" + shortened(entry.key) + "`", nearest(entry.key, known));
        return true;
    });
    return found;
}

Fields Reading::fields(const YAML::Node& map, const std::string& what, const std::vector<std::string>& known) {
    return {*this, map, what, entries(map, what, known)};
}

Reading::Sequence Reading::sequence(const YAML::Node& node, const std::string& what) {
    if (node.IsSequence()) return one_or_more(node);
    error(node, what + ": expected a list, found " + kind_of(node));
    return {};
}

Reading::Sequence Reading::one_or_more(const YAML::Node& node) {
    if (!node.IsSequence()) return {node};
    Sequence list;
    for (const auto& entry : node) {
        if (!within_budget(entry)) break;
        list.push_back(entry);
    }
    return list;
}

std::optional<std::string> Reading::text(const YAML::Node& node, const std::string& what) {
    if (node.IsScalar()) return node.Scalar();
    error(node, what + ": expected a value, found " + kind_of(node) +
                    (node.IsNull() ? "; \"\" is the empty one, and what begins with # must stand in quotes" : ""));
    return std::nullopt;
}

std::optional<bool> Reading::boolean(const YAML::Node& node, const std::string& what) {
    const std::string word = node.IsScalar() ? node.Scalar() : "";
    if (word == "true") return true;
    if (word == "false") return false;
    error(node, what + ": expected true or false, found " + kind_of(node));
    return std::nullopt;
}

std::optional<std::uint64_t> Reading::count(const YAML::Node& node, const std::string& what, std::uint64_t max) {
    const auto number = node.IsScalar() ? parse_number<std::uint64_t>(node.Scalar()) : std::nullopt;
    if (number && *number <= max) return number;
    error(node, what + ": expected a number up to " + std::to_string(max) + ", found " + kind_of(node));
    return std::nullopt;
}

std::optional<double> Reading::number(const YAML::Node& node, const std::string& what, double min, double max) {
    const auto number = node.IsScalar() ? parse_number<double>(node.Scalar()) : std::nullopt;
    if (number && *number >= min && *number <= max) return number;
    char range[80];
    std::snprintf(range, sizeof range, "%.12g to %.12g", min, max);
    error(node, what + ": expected a number from " + range + ", found " + kind_of(node));
    return std::nullopt;
}

std::optional<Duration> Reading::seconds(const YAML::Node& node, const std::string& what, Duration max) {
    const auto number = node.IsScalar() ? parse_number<double>(node.Scalar()) : std::nullopt;
    if (number && *number >= 0 && *number * 1e3 <= static_cast<double>(max.count())) {
        const Duration duration(std::llround(*number * 1e3));
        if (*number == 0 || duration.count() > 0) return duration;
    }
    error(node, what + ": expected seconds, at least 0.001 and up to " + std::to_string(max.count() / 1'000) + ", found " + kind_of(node));
    return std::nullopt;
}

std::optional<std::size_t> Reading::place_of(const YAML::Node& node, const std::string& what, const std::vector<std::string>& names) {
    const std::string word = node.IsScalar() ? node.Scalar() : "";
    const auto found = std::find(names.begin(), names.end(), word);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    error(node, what + ": expected one of " + all + ", found " + kind_of(node), nearest(word, names));
    return std::nullopt;
}

void Reading::expect(const YAML::Node& map, const std::vector<Entry>& entries, const char* key, const std::string& what) {
    const bool there = std::any_of(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.key == key; });
    if (!there && map.IsMap()) error(map, what + ": expected `" + key + "`");
}

const YAML::Node* Fields::find(std::string_view key) const {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Reading::Entry& entry) { return entry.key == key; });
    return found == entries_.end() ? nullptr : &found->value;
}

Reading::Sequence Fields::list(const std::string& key) const {
    const YAML::Node* const value = find(key);
    return value == nullptr ? Reading::Sequence() : reading_.sequence(*value, key);
}

std::vector<Reading::Entry> Fields::map(const std::string& key) const {
    const YAML::Node* const value = find(key);
    return value == nullptr ? std::vector<Reading::Entry>() : reading_.entries(*value, key);
}

void Fields::read(const std::string& key, std::vector<std::string>& into) const {
    if (!has(key)) return;
    into.clear();
    for (const YAML::Node& word : list(key)) {
        if (std::optional<std::string> text = reading_.text(word, key)) into.push_back(std::move(*text));
    }
}

}  // namespace sluice::yaml
