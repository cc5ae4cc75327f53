#pragma once

#include <yaml-cpp/yaml.h>

#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/nearest.h"
#include "base/problem.h"

namespace sluice::yaml {

class Fields;

// A YAML file while it is read: every complaint has a line, and all of them are gathered.
class Reading {
public:
    Reading(std::string file, Problems& problems) : file_(std::move(file)), problems_(problems) {}

    struct Entry {
        std::string key;
        YAML::Node key_node, value;
    };
    using Sequence = std::vector<YAML::Node>;

    // The document; a null node when it is empty or, with a complaint, when it is not YAML.
    YAML::Node load(std::string_view text);

    void error(const YAML::Node& at, std::string message, std::string suggestion = {});
    void warning(const YAML::Node& at, std::string message, std::string suggestion = {});
    bool failed() const { return failed_; }

    // The entries of a map, those of unknown keys left out with a complaint, those that begin with `x-` without. `what` names the
    // map in complaints.
    std::vector<Entry> entries(const YAML::Node& map, const std::string& what, const std::vector<std::string>& known);
    // The entries of a map whose keys anybody may choose.
    std::vector<Entry> entries(const YAML::Node& map, const std::string& what);
    // The same, to be asked by key.
    Fields fields(const YAML::Node& map, const std::string& what, const std::vector<std::string>& known);
    Sequence sequence(const YAML::Node& node, const std::string& what);
    // A list, or one value as a list of one.
    Sequence one_or_more(const YAML::Node& node);

    // Values; nothing, with a complaint, when they are something else.
    std::optional<std::string> text(const YAML::Node& node, const std::string& what);
    std::optional<bool> boolean(const YAML::Node& node, const std::string& what);
    std::optional<std::uint64_t> count(const YAML::Node& node, const std::string& what, std::uint64_t max);
    std::optional<double> number(const YAML::Node& node, const std::string& what, double min, double max);
    // Seconds, with a fraction if need be.
    std::optional<Duration> seconds(const YAML::Node& node, const std::string& what, Duration max);
    // The place of a word among `names`.
    template <class Names>
    std::optional<std::size_t> choice(const YAML::Node& node, const std::string& what, const Names& names) {
        return place_of(node, what, std::vector<std::string>(std::begin(names), std::end(names)));
    }

    // The key must be in the map, which is called `what`.
    void expect(const YAML::Node& map, const std::vector<Entry>& entries, const char* key, const std::string& what);

private:
    bool within_budget(const YAML::Node& node);
    std::optional<std::size_t> place_of(const YAML::Node& node, const std::string& what, const std::vector<std::string>& names);

    std::string file_;
    Problems& problems_;
    bool failed_ = false;
    std::size_t nodes_ = 0;
};

// What a map says, by key. Borrows from the reading. Value.
class Fields {
public:
    static constexpr Duration seconds_max{100LL * 366 * 86'400'000};

    Fields(Reading& reading, const YAML::Node& map, std::string what, std::vector<Reading::Entry> entries)
        : reading_(reading), map_(map), what_(std::move(what)), entries_(std::move(entries)) {}

    bool has(std::string_view key) const { return find(key) != nullptr; }
    // The value; a null node when there is none.
    YAML::Node operator[](std::string_view key) const {
        const YAML::Node* const value = find(key);
        return value == nullptr ? YAML::Node() : *value;
    }
    // The items of a list; none, without a complaint, when the key is not there.
    Reading::Sequence list(const std::string& key) const;
    // The entries of a map with chosen keys; the same.
    std::vector<Reading::Entry> map(const std::string& key) const;
    const YAML::Node& node() const { return map_; }
    void expect(const char* key) const { reading_.expect(map_, entries_, key, what_); }

    // Each leaves `into` as it is when the key is not there, and with a complaint when the value is something else.
    void read(const std::string& key, std::string& into) const { keep(key, into, [&](const YAML::Node& value) { return reading_.text(value, key); }); }
    void read(const std::string& key, bool& into) const { keep(key, into, [&](const YAML::Node& value) { return reading_.boolean(value, key); }); }
    void read(const std::string& key, double& into, double max = 1e15) const {
        keep(key, into, [&](const YAML::Node& value) { return reading_.number(value, key, 0, max); });
    }
    template <std::integral Number>
        requires(!std::same_as<Number, bool>)
    void read(const std::string& key, Number& into, Number max = std::numeric_limits<Number>::max()) const {
        keep(key, into, [&](const YAML::Node& value) { return reading_.count(value, key, static_cast<std::uint64_t>(max)); });
    }
    void read(const std::string& key, std::vector<std::string>& into) const;
    template <class T>
    void read(const std::string& key, std::optional<T>& into) const {
        if (!has(key)) return;
        T value{};
        read(key, value);
        into = std::move(value);
    }
    void read_seconds(const std::string& key, Duration& into, Duration max = seconds_max) const {
        keep(key, into, [&](const YAML::Node& value) { return reading_.seconds(value, key, max); });
    }

private:
    const YAML::Node* find(std::string_view key) const;
    template <class T, class Parse>
    void keep(const std::string& key, T& into, Parse parse) const {
        const YAML::Node* const value = find(key);
        if (value == nullptr) return;
        if (auto parsed = parse(*value)) into = static_cast<T>(std::move(*parsed));
    }

    Reading& reading_;
    YAML::Node map_;
    std::string what_;
    std::vector<Reading::Entry> entries_;
};

std::string shortened(std::string_view text);

}  // namespace sluice::yaml
