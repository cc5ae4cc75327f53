// The part of a policy behind `then` and `default`.

#include <cmath>
#include <limits>

#include "base/text.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr std::uint64_t count_max = 1'000'000'000;
constexpr Duration period_max{366LL * 86'400'000};

struct RateReader {
    Reading& reading;
    RateAlgorithm algorithm;
    std::vector<Rate> rates{};

    void refuse(const YAML::Node& node) {
        reading.error(node, "rate: expected N, \"N/SECONDS\", [N, SECONDS], a map with count and interval, or a list of these");
    }

    void add(const YAML::Node& node, std::string_view count_text, std::string_view seconds_text, RateAlgorithm how) {
        const auto count = parse_number<std::uint64_t>(trim(count_text));
        const auto seconds = parse_number<double>(trim(seconds_text));
        if (!count || !seconds || *count > count_max) return refuse(node);
        const double milliseconds = *seconds * 1e3;
        if (!(milliseconds >= 1) || milliseconds > static_cast<double>(period_max.count())) {
            return reading.error(node, "rate: expected an interval from 0.001 to " + std::to_string(period_max.count() / 1'000) + " seconds");
        }
        if (*count > 0) rates.emplace_back(static_cast<std::uint32_t>(*count), Duration(std::llround(milliseconds)), how);
    }

    void read_map(const YAML::Node& node) {
        std::string count, interval = "1";
        RateAlgorithm how = algorithm;
        const std::vector<Reading::Entry> entries = reading.entries(node, "rate", {"count", "interval", "algorithm"});
        for (const Reading::Entry& entry : entries) {
            const std::optional<std::string> value = reading.text(entry.value, "rate: " + entry.key);
            if (!value) return;
            if (entry.key == "count") count = *value;
            if (entry.key == "interval") interval = *value;
            if (entry.key == "algorithm") how = read_algorithm(reading, entry.value, algorithm);
        }
        if (count.empty()) return reading.error(node, "rate: expected `count`");
        add(node, count, interval, how);
    }

    void read_one(const YAML::Node& node) {
        if (node.IsMap()) return read_map(node);
        if (node.IsSequence()) {
            const Reading::Sequence pair = reading.one_or_more(node);
            if (pair.size() != 2 || !pair[0].IsScalar() || !pair[1].IsScalar()) return refuse(node);
            return add(node, pair[0].Scalar(), pair[1].Scalar(), algorithm);
        }
        if (!node.IsScalar()) return refuse(node);
        const std::string& text = node.Scalar();
        const std::size_t slash = text.find('/');
        if (slash == std::string::npos) return add(node, text, "1", algorithm);
        add(node, text.substr(0, slash), text.substr(slash + 1), algorithm);
    }

    // [10, 60] is one rate; a list with anything but two plain numbers is a list of rates.
    void read(const YAML::Node& node) {
        if (!node.IsSequence()) return read_one(node);
        const Reading::Sequence list = reading.one_or_more(node);
        std::size_t plain = 0;
        for (const YAML::Node& entry : list) {
            if (entry.IsScalar() && entry.Scalar().find('/') == std::string::npos) ++plain;
        }
        if (plain == list.size()) return list.size() == 1 ? read_one(list[0]) : read_one(node);
        for (const YAML::Node& entry : list) read_one(entry);
    }

    static RateAlgorithm read_algorithm(Reading& reading, const YAML::Node& node, RateAlgorithm usual);
};

RateAlgorithm RateReader::read_algorithm(Reading& reading, const YAML::Node& node, RateAlgorithm usual) {
    const std::string word = node.IsScalar() ? node.Scalar() : "";
    if (word == "tokenbucket") return RateAlgorithm::token_bucket;
    if (word == "fixedwindow") return RateAlgorithm::fixed_window;
    if (word != "default") reading.error(node, "algorithm: expected tokenbucket, fixedwindow or default");
    return usual;
}

// [LOWEST, HIGHEST] of sessions, and of rates over the same time.
Adaptive read_adaptive(Reading& reading, const YAML::Node& node, RateAlgorithm algorithm) {
    Adaptive adaptive;
    const std::vector<Reading::Entry> entries = reading.entries(node, "adaptive", {"concurrency", "rate"});
    if (entries.empty() && !reading.failed()) reading.error(node, "adaptive: expected concurrency or rate");
    for (const Reading::Entry& entry : entries) {
        const Reading::Sequence bounds = reading.one_or_more(entry.value);
        if (bounds.size() != 2) {
            reading.error(entry.value, "adaptive: " + entry.key + ": expected [LOWEST, HIGHEST]");
            continue;
        }
        if (entry.key == "concurrency") {
            adaptive.concurrency_min = static_cast<std::uint32_t>(reading.count(bounds[0], "concurrency", count_max).value_or(0));
            adaptive.concurrency_max = static_cast<std::uint32_t>(reading.count(bounds[1], "concurrency", count_max).value_or(0));
            if (adaptive.concurrency_min == 0 || adaptive.concurrency_min > adaptive.concurrency_max) {
                reading.error(entry.value, "adaptive: concurrency: expected [LOWEST, HIGHEST], both at least 1");
            }
            continue;
        }
        RateReader reader{reading, algorithm};
        for (const YAML::Node& bound : bounds) reader.read_one(bound);
        const std::vector<Rate>& rates = reader.rates;
        if (rates.size() != 2 || rates[0].per() != rates[1].per() || rates[0].count() > rates[1].count()) {
            if (!reading.failed()) reading.error(entry.value, "adaptive: rate: expected [LOWEST, HIGHEST] over the same time, as in [10/60, 600/60]");
            continue;
        }
        adaptive.rate_min = rates[0].count();
        adaptive.rate_max = rates[1].count();
        adaptive.rate_per = rates[0].per();
    }
    return adaptive;
}

std::uint32_t read_count(Reading& reading, const Reading::Entry& entry) {
    return static_cast<std::uint32_t>(reading.count(entry.value, entry.key, count_max).value_or(0));
}

std::string read_transport(Reading& reading, const YAML::Node& node) {
    constexpr std::size_t name_max = 255;
    std::string name = reading.text(node, "transport").value_or("");
    if (name.empty() || name.size() > name_max || printable(name) != name) {
        reading.error(node, "transport: expected the name of one, as transports.yaml has it");
    }
    return name;
}

}  // namespace

void refuse_transport(Reading& reading, const YAML::Node& node, const Limits& limits, const Policy& policy) {
    if (limits.transport.empty() || !policy.field_set.has(Field::localip)) return;
    reading.error(node, "transport: it decides which local addresses there are, so a policy that counts by localip cannot name one; count by transportid instead");
}

RateAlgorithm read_algorithm(Reading& reading, const YAML::Node& node) {
    return RateReader::read_algorithm(reading, node, RateAlgorithm::token_bucket);
}

Limits read_limits(Reading& reading, const YAML::Node& node, RateAlgorithm algorithm, const Limits* inherited) {
    constexpr std::uint64_t bytes_max = std::numeric_limits<std::int64_t>::max();
    Limits limits;
    const std::vector<Reading::Entry> entries =
        reading.entries(node, "limits", {"concurrency", "rate", "connectinterval", "messages_per_connection", "bytes_per_second", "tag",
                                         "stop", "cluster", "properties", "inherit", "adaptive", "transport"});
    for (const Reading::Entry& entry : entries) {
        if (entry.key != "inherit" || !reading.boolean(entry.value, "inherit").value_or(false)) continue;
        if (inherited == nullptr) {
            reading.error(entry.key_node, "inherit: there is no `default` to inherit from");
        } else {
            limits = *inherited;
            limits.stop = false;
        }
    }
    for (const Reading::Entry& entry : entries) {
        if (entry.key == "concurrency") limits.concurrency = read_count(reading, entry);
        if (entry.key == "messages_per_connection") limits.messages_per_connection = read_count(reading, entry);
        if (entry.key == "bytes_per_second") limits.bytes_per_second = reading.count(entry.value, entry.key, bytes_max).value_or(0);
        if (entry.key == "connectinterval") {
            limits.connect_interval = reading.seconds(entry.value, entry.key, period_max).value_or(Duration(0));
        }
        if (entry.key == "rate") {
            RateReader reader{reading, algorithm};
            reader.read(entry.value);
            limits.rates = std::move(reader.rates);
        }
        if (entry.key == "adaptive") limits.adaptive = read_adaptive(reading, entry.value, algorithm);
        if (entry.key == "transport") limits.transport = read_transport(reading, entry.value);
        if (entry.key == "tag") limits.tag = reading.tag(entry.value).value_or("");
        if (entry.key == "stop") limits.stop = reading.boolean(entry.value, "stop").value_or(false);
        if (entry.key == "properties") limits.properties = reading.properties(entry.value);
        if (entry.key == "cluster" && reading.boolean(entry.value, "cluster").value_or(false)) {
            reading.warning(entry.key_node, "cluster: this engine counts for itself; there is no cluster to count with");
        }
    }
    return limits;
}

}  // namespace sluice::policy
