#include "policy/assignment.h"

#include <algorithm>

#include "base/nearest.h"
#include "base/text.h"
#include "policy/network.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

using From = FieldOrigin::From;

// As many as a policy set may name, and some more.
constexpr std::size_t kept_max = 32;
constexpr std::uint64_t weight_max = 10'000;
constexpr std::size_t helo_octets_max = 255;

struct Origins {
    const char* key;
    std::vector<FieldOrigin> Assignments::* list;
    std::vector<Field> earlier;  // fields that are known before
    bool (*is_value)(std::string_view);
    const char* expected;
};

bool is_priority(std::string_view text) { return parse_priority(text).has_value(); }
bool is_lifetime(std::string_view text) { return parse_lifetime(text).has_value(); }

const std::vector<Origins>& all_origins() {
    static const std::vector<Origins> table{
        {"tenantid", &Assignments::tenant, {}, is_field_value, "one line of at most 255 octets"},
        {"jobid", &Assignments::job, {Field::tenantid}, is_field_value, "one line of at most 255 octets"},
        {"transportid", &Assignments::transport, {Field::tenantid, Field::jobid}, is_field_value, "one line of at most 255 octets"},
        {"priority", &Assignments::priority, {Field::tenantid, Field::jobid, Field::transportid}, is_priority, "a number from 0 to 7"},
        {"lifetime", &Assignments::lifetime, {Field::tenantid, Field::jobid, Field::transportid}, is_lifetime, "a time such as 90s, 15m, 2h or 3d"},
    };
    return table;
}

bool is_header_name(std::string_view name) {
    return !name.empty() && name.size() <= 70 && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7F && c != ':'; });
}

bool is_host_name(std::string_view name) {
    return !name.empty() && name.size() <= helo_octets_max && name.front() != '-' && name.front() != '.' &&
           std::all_of(name.begin(), name.end(), [](char c) { return is_alnum(c) || c == '-' || c == '.' || c == '[' || c == ']' || c == ':'; });
}

class AssignmentReader {
public:
    AssignmentReader(Reading& reading, Assignments& into) : reading_(reading), into_(into) {}

    void read(const YAML::Node& document) {
        if (document.IsNull()) return;
        std::vector<std::string> keys{"keep"};
        for (const Origins& one : all_origins()) keys.emplace_back(one.key);
        for (const Reading::Entry& entry : reading_.entries(document, "fields", keys)) {
            if (entry.key == "keep") read_kept(entry.value);
            for (const Origins& one : all_origins()) {
                if (entry.key == one.key) read_origins(one, entry.value);
            }
        }
    }

private:
    void read_origins(const Origins& field, const YAML::Node& node) {
        if (node.IsNull()) return;
        for (const YAML::Node& entry : reading_.one_or_more(node)) {
            if (auto origin = read_origin(field, entry)) (into_.*field.list).push_back(std::move(*origin));
        }
    }

    std::optional<FieldOrigin> read_origin(const Origins& field, const YAML::Node& node) {
        std::vector<std::string> origins{"header", "login", "port", "note", "value"};
        for (const Field earlier : field.earlier) origins.emplace_back(policy::name_of(earlier));
        std::vector<std::string> keys = origins;
        keys.emplace_back("strip");
        keys.emplace_back("map");
        FieldOrigin origin;
        origin.line = node.Mark().line + 1;
        int named = 0;
        const YAML::Node* strip = nullptr;
        const std::vector<Reading::Entry> entries = reading_.entries(node, field.key, keys);
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "strip") {
                origin.strip = reading_.boolean(entry.value, "strip").value_or(false);
                strip = &entry.value;
            } else if (entry.key == "map") {
                read_meanings(field, entry.value, "map", origin);
            } else {
                ++named;
                read_from(field, entry, origin);
            }
        }
        if (!node.IsMap()) return std::nullopt;
        // Of an unknown key that was meant for an origin enough was said.
        if (named > 1 || (named == 0 && entries.size() == node.size())) reading_.error(node, std::string(field.key) + ": expected one of " + joined(origins) + " in each entry");
        if (strip != nullptr && origin.from != From::header) reading_.error(*strip, "strip: expected beside `header` only");
        return origin;
    }

    void read_from(const Origins& field, const Reading::Entry& entry, FieldOrigin& origin) {
        if (entry.key == "header" || entry.key == "note") {
            origin.from = entry.key == "note" ? From::note : From::header;
            origin.name = reading_.text(entry.value, entry.key).value_or("");
            const bool good = origin.from == From::note ? is_field_value(origin.name) && !origin.name.empty() : is_header_name(origin.name);
            if (!good) reading_.error(entry.value, entry.key + ": expected a name, found `" + shortened(origin.name) + "`");
        } else if (entry.key == "value") {
            origin.from = From::constant;
            origin.name = reading_.text(entry.value, "value").value_or("");
            check(field, entry.value, origin.name);
        } else if (entry.key == "login") {
            read_login(field, entry.value, origin);
        } else if (entry.key == "port") {
            origin.from = From::port;
            read_meanings(field, entry.value, "port", origin);
            for (const auto& [port, meaning] : origin.meanings) {
                const auto number = parse_number<std::uint16_t>(port);
                if (!number || *number == 0) reading_.error(entry.value, "port: expected ports from 1 to 65535, found `" + shortened(port) + "`");
            }
        } else if (const auto other = FieldTable().find(entry.key)) {
            origin.from = From::field;
            origin.field = *other;
            read_meanings(field, entry.value, entry.key, origin);
        }
    }

    void read_login(const Origins& field, const YAML::Node& node, FieldOrigin& origin) {
        origin.from = From::login;
        if (node.IsMap()) return read_meanings(field, node, "login", origin);
        const std::string word = node.IsScalar() ? node.Scalar() : "?";
        if (word == "domain") origin.from = From::login_domain;
        else if (word != "name") reading_.error(node, "login: expected name, domain, or a map of logins", nearest(word, {"name", "domain"}));
    }

    void read_meanings(const Origins& field, const YAML::Node& node, const std::string& what, FieldOrigin& origin) {
        for (const Reading::Entry& entry : reading_.entries(node, std::string(field.key) + ": " + what)) {
            const std::string meaning = reading_.text(entry.value, field.key).value_or("");
            check(field, entry.value, meaning);
            origin.meanings[entry.key] = meaning;
        }
        if (origin.meanings.empty() && node.IsMap()) reading_.error(node, std::string(field.key) + ": " + what + ": expected at least one entry");
    }

    void check(const Origins& field, const YAML::Node& at, const std::string& value) {
        if (field.is_value(value)) return;
        reading_.error(at, std::string(field.key) + ": expected " + field.expected + ", found `" + shortened(value) + "`");
    }

    void read_kept(const YAML::Node& node) {
        FieldTable names;
        for (const YAML::Node& entry : reading_.one_or_more(node)) {
            const std::string name = reading_.text(entry, "keep").value_or("");
            const bool is_plain = FieldTable().find(name).has_value();
            FieldTable one;
            const auto field = is_plain ? std::nullopt : one.add(name);
            if (!field) {
                reading_.error(entry, "keep: expected notes.KEY or header.NAME, found `" + shortened(name) + "`" + (is_plain ? "; that is known of every message" : ""));
                continue;
            }
            if (std::find(into_.kept.begin(), into_.kept.end(), one.name_of(*field)) != into_.kept.end()) continue;
            into_.kept.push_back(one.name_of(*field));
            if (into_.kept.size() == kept_max + 1) reading_.error(entry, "keep: expected at most " + std::to_string(kept_max));
        }
    }

    static std::string joined(const std::vector<std::string>& words) {
        std::string text;
        for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
        return text;
    }

    Reading& reading_;
    Assignments& into_;
};

class TransportReader {
public:
    explicit TransportReader(Reading& reading) : reading_(reading) {}

    std::vector<LocalPool> read(const YAML::Node& document) {
        std::vector<LocalPool> pools;
        if (document.IsNull()) return pools;
        for (const Reading::Entry& entry : reading_.entries(document, "transports")) {
            if (!is_field_value(entry.key) || entry.key.empty()) reading_.error(entry.key_node, "transports: expected a name of at most 255 octets");
            LocalPool pool;
            pool.transport = entry.key;
            read_pool(entry, pool);
            pools.push_back(std::move(pool));
        }
        return pools;
    }

private:
    void read_pool(const Reading::Entry& of, LocalPool& pool) {
        const std::string what = "transport `" + shortened(of.key) + "`";
        if (!of.value.IsMap()) return read_addresses(of.value, what, pool);
        const std::vector<Reading::Entry> entries = reading_.entries(of.value, what, {"order", "addresses"});
        reading_.expect(of.value, entries, "addresses", what);
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "order") pool.order = read_order(entry.value);
            if (entry.key == "addresses") read_addresses(entry.value, what, pool);
        }
        for (const auto& [source, node] : weighted_) {
            if (pool.order != LocalPool::Order::spread) reading_.error(node, what + ": weights are for `order: spread`");
        }
        weighted_.clear();
    }

    LocalPool::Order read_order(const YAML::Node& node) {
        const std::string word = node.IsScalar() ? node.Scalar() : "?";
        if (word == "spread") return LocalPool::Order::spread;
        if (word == "fill") return LocalPool::Order::fill;
        if (word == "sticky") return LocalPool::Order::sticky;
        reading_.error(node, "order: expected spread, fill or sticky, found `" + shortened(word) + "`", nearest(word, {"spread", "fill", "sticky"}));
        return LocalPool::Order::spread;
    }

    void read_addresses(const YAML::Node& node, const std::string& what, LocalPool& pool) {
        std::size_t of_family[2] = {};
        for (const YAML::Node& entry : reading_.one_or_more(node)) {
            const LocalPool::Source source = read_source(entry, what);
            if (source.address.empty()) continue;
            const auto same = [&](const LocalPool::Source& other) { return other.address == source.address; };
            if (std::any_of(pool.sources.begin(), pool.sources.end(), same)) reading_.error(entry, what + ": " + source.address + " stands here twice");
            const std::size_t family = source.address.find(':') != std::string::npos ? 1 : 0;
            if (++of_family[family] == local_addresses_max + 1) {
                reading_.error(entry, what + ": expected at most " + std::to_string(local_addresses_max) + " addresses of a family");
            }
            pool.sources.push_back(source);
        }
        if (pool.sources.empty() && !reading_.failed()) reading_.error(node, what + ": expected at least one address");
    }

    LocalPool::Source read_source(const YAML::Node& node, const std::string& what) {
        LocalPool::Source source;
        if (!node.IsMap()) {
            source.address = read_address(node, what);
            return source;
        }
        const std::vector<Reading::Entry> entries = reading_.entries(node, what, {"ip", "weight", "helo"});
        reading_.expect(node, entries, "ip", what);
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "ip") source.address = read_address(entry.value, what);
            if (entry.key == "weight") {
                const auto weight = reading_.count(entry.value, "weight", weight_max);
                if (weight == 0U) reading_.error(entry.value, "weight: expected at least 1");
                source.weight = static_cast<std::uint32_t>(weight.value_or(1));
                weighted_.emplace_back(source.address, entry.value);
            }
            if (entry.key != "helo") continue;
            source.helo = reading_.text(entry.value, "helo").value_or("");
            if (!is_host_name(source.helo)) reading_.error(entry.value, "helo: expected a host name, found `" + shortened(source.helo) + "`");
        }
        return source;
    }

    // In the form in which policies compare addresses.
    std::string read_address(const YAML::Node& node, const std::string& what) {
        const std::string text = node.IsScalar() ? node.Scalar() : "";
        const auto address = Network::parse(text);
        if (address && address->is_address()) return address->text();
        reading_.error(node, what + ": expected an IP address, found `" + shortened(text) + "`");
        return {};
    }

    Reading& reading_;
    std::vector<std::pair<std::string, YAML::Node>> weighted_;  // of the present transport
};

}  // namespace

std::optional<std::string> FieldOrigin::meaning(std::string_view found) const {
    if (meanings.empty()) return found.empty() ? std::nullopt : std::optional<std::string>(found);
    const auto meaning = meanings.find(found);
    return meaning == meanings.end() ? std::nullopt : std::optional(meaning->second);
}

AssignmentsPtr parse_assignments(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    auto assignments = std::make_shared<Assignments>();
    assignments->text = text;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) AssignmentReader(reading, *assignments).read(document);
    return reading.failed() ? nullptr : assignments;
}

std::optional<std::vector<LocalPool>> parse_transports(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    const YAML::Node document = reading.load(text);
    std::vector<LocalPool> pools;
    if (!reading.failed()) pools = TransportReader(reading).read(document);
    return reading.failed() ? std::nullopt : std::optional(std::move(pools));
}

void report_unknown_transports(
    const Assignments& assignments, const std::vector<LocalPool>& transports, const std::string& file, Problems& problems) {
    std::vector<std::string> known;
    for (const LocalPool& pool : transports) known.push_back(pool.transport);
    const auto check = [&](const std::string& name, int line) {
        if (name.empty() || std::find(known.begin(), known.end(), name) != known.end()) return;
        problems.warning(file, line, "transportid: `" + shortened(name) + "` has no addresses in transports.yaml; its mail goes out as mail without a transport",
                         nearest(name, known));
    };
    for (const FieldOrigin& origin : assignments.transport) {
        if (origin.from == From::constant) check(origin.name, origin.line);
        for (const auto& [found, name] : origin.meanings) check(name, origin.line);
    }
}

std::optional<std::uint8_t> parse_priority(std::string_view text) {
    const auto number = parse_number<std::uint8_t>(text);
    return number && *number <= 7 ? number : std::nullopt;
}

std::optional<std::chrono::seconds> parse_lifetime(std::string_view text) {
    constexpr std::int64_t most = std::int64_t{10} * 365 * 24 * 3'600;
    std::int64_t unit = 1;
    if (!text.empty() && !is_digit(text.back())) {
        switch (text.back()) {
            case 's': break;
            case 'm': unit = 60; break;
            case 'h': unit = 3'600; break;
            case 'd': unit = 24 * 3'600; break;
            default: return std::nullopt;
        }
        text.remove_suffix(1);
    }
    const auto number = parse_number<std::uint32_t>(text);
    if (!number || *number == 0 || *number > most / unit) return std::nullopt;
    return std::chrono::seconds(*number * unit);
}

bool is_field_value(std::string_view text) {
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
    return text.size() <= value_octets_max && is_valid_utf8(text) && std::none_of(text.begin(), text.end(), is_control);
}

}  // namespace sluice::policy
