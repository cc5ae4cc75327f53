#include "sim/traffic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include "base/nearest.h"
#include "base/text.h"
#include "sim/behaviour.h"
#include "yaml/reading.h"

namespace sluice::sim {
namespace {

using yaml::Fields;
using yaml::Reading;

constexpr std::size_t minutes_a_day = 1'440;
constexpr std::uint64_t messages_max = 100'000'000;
constexpr std::size_t domains_max = 1'000'000;
constexpr Instant midnight = Instant(Duration(20'776LL * 86'400'000));

// By hour: little at night, most of it in the morning.
constexpr double usual_day[24] = {2, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 11, 11, 12, 12, 11, 10, 8, 7, 6, 5, 4, 3};

class TrafficReader {
public:
    TrafficReader(Reading& reading, Traffic& traffic) : reading_(reading), traffic_(traffic) {}

    void read(const YAML::Node& root) {
        const Fields fields = reading_.fields(root, "traffic", {"title", "hours", "drain_hours", "sources", "receivers"});
        fields.read("title", traffic_.title);
        read_hours(fields, "hours", traffic_.lasts);
        read_hours(fields, "drain_hours", traffic_.drains);
        fields.expect("sources");
        for (const YAML::Node& source : fields.list("sources")) read_source(source);
        if (fields.has("sources") && traffic_.sources.empty()) reading_.error(root, "sources: expected at least one");
        if (traffic_.messages() > messages_max) reading_.error(root, "sources: expected at most " + std::to_string(messages_max) + " messages in all");
        read_receivers(fields);
    }

    void read_receivers(const Fields& fields) {
        for (const YAML::Node& receiver : fields.list("receivers")) read_receiver(receiver);
        assign();
    }

private:
    void read_hours(const Fields& fields, const std::string& key, Duration& into) {
        if (!fields.has(key)) return;
        const auto hours = reading_.number(fields[key], key, 0.01, 24 * 31);
        if (hours) into = Duration(std::llround(*hours * 3'600'000));
    }

    // ---- sources ----

    void read_source(const YAML::Node& node) {
        const Fields fields = reading_.fields(node, "source", {"tenant", "job", "transport", "sender_domain", "notes", "headers", "priority", "size",
                                                               "messages", "per_day", "per_hour", "per_second", "arrives", "to", "zipf"});
        Source source;
        fields.read("tenant", source.tenant);
        fields.read("job", source.job);
        fields.read("transport", source.transport);
        fields.read("sender_domain", source.sender_domain);
        source.sender_domain = policy::normal(policy::FieldType::domain, source.sender_domain);
        for (const char* const kind : {"notes", "headers"}) {
            const std::string prefix = kind == std::string_view("notes") ? "notes." : "header.";
            for (const Reading::Entry& mark : fields.map(kind)) {
                source.marks.push_back({prefix + (prefix == "header." ? to_lower(mark.key) : mark.key), reading_.text(mark.value, mark.key).value_or("")});
            }
        }
        fields.read("priority", source.priority, std::uint8_t{7});
        if (fields.has("size")) source.size = read_span(reading_, fields["size"], "size", 1'000'000'000);
        read_amount(fields, source);
        source.minutes = fields.has("arrives") ? read_arrives(fields["arrives"]) : std::vector<double>(minutes_a_day, 1.0);
        read_to(fields, source);
        traffic_.tenant(source.tenant);
        traffic_.sources.push_back(std::move(source));
    }

    void read_amount(const Fields& fields, Source& source) {
        const double days = static_cast<double>(traffic_.lasts.count()) / 86'400'000;
        const struct {
            const char* key;
            double times;
        } ways[] = {{"messages", 1}, {"per_day", days}, {"per_hour", days * 24}, {"per_second", days * 86'400}};
        int given = 0;
        for (const auto& way : ways) {
            if (!fields.has(way.key)) continue;
            ++given;
            const auto amount = reading_.number(fields[way.key], way.key, 0, 1e9);
            source.messages = static_cast<std::uint64_t>(std::llround(std::min(amount.value_or(0) * way.times, 1e12)));
        }
        if (given != 1 && fields.node().IsMap()) reading_.error(fields.node(), "source: expected one of `messages`, `per_day`, `per_hour`, `per_second`");
    }

    // `steady`, `daily`, {hours: [24 numbers]} or {bursts: [{at: "09:00", minutes: 5}]}
    std::vector<double> read_arrives(const YAML::Node& node) {
        std::vector<double> minutes(minutes_a_day, 1.0);
        if (node.IsScalar()) {
            constexpr const char* words[] = {"steady", "daily"};
            if (reading_.choice(node, "arrives", words).value_or(0) == 0) return minutes;
            for (std::size_t i = 0; i < minutes_a_day; ++i) minutes[i] = usual_day[i / 60];
            return minutes;
        }
        const Fields fields = reading_.fields(node, "arrives", {"hours", "bursts"});
        if (fields.has("hours") == fields.has("bursts")) {
            if (node.IsMap()) reading_.error(node, "arrives: expected `hours` or `bursts`");
            return minutes;
        }
        return fields.has("hours") ? read_hourly(fields) : read_bursts(fields);
    }

    std::vector<double> read_hourly(const Fields& fields) {
        std::vector<double> minutes;
        for (const YAML::Node& hour : fields.list("hours")) {
            minutes.insert(minutes.end(), 60, reading_.number(hour, "hours", 0, 1e9).value_or(1));
        }
        if (minutes.size() != minutes_a_day) reading_.error(fields["hours"], "hours: expected 24 numbers");
        return checked(std::move(minutes), fields);
    }

    std::vector<double> read_bursts(const Fields& fields) {
        std::vector<double> minutes(minutes_a_day, 0.0);
        for (const YAML::Node& node : fields.list("bursts")) {
            const Fields burst = reading_.fields(node, "burst", {"at", "minutes"});
            burst.expect("at");
            std::uint32_t length = 1;
            burst.read("minutes", length, static_cast<std::uint32_t>(minutes_a_day));
            const auto at = burst.has("at") ? read_time(reading_, burst["at"], "at") : Duration(0);
            const auto first = static_cast<std::size_t>(at.count() / 60'000);
            // A burst is as large as another one, however long it takes.
            for (std::size_t i = 0; i < length; ++i) minutes[(first + i) % minutes_a_day] += 1.0 / length;
        }
        return checked(std::move(minutes), fields);
    }

    std::vector<double> checked(std::vector<double> minutes, const Fields& fields) {
        const auto used = std::min(minutes.size(), static_cast<std::size_t>((traffic_.lasts.count() + 59'999) / 60'000));
        const bool any = std::any_of(minutes.begin(), minutes.begin() + static_cast<std::ptrdiff_t>(used), [](double m) { return m > 0; });
        if (!any) reading_.error(fields.node(), "arrives: nothing would ever arrive");
        return minutes.size() == minutes_a_day && any ? minutes : std::vector<double>(minutes_a_day, 1.0);
    }

    // {gmail.com: 30, 'd[1..1000].example': 70}; a range shares its part by Zipf's law.
    void read_to(const Fields& fields, Source& source) {
        double exponent = 1;
        fields.read("zipf", exponent, 10.0);
        fields.expect("to");
        for (const Reading::Entry& entry : fields.map("to")) {
            const double part = reading_.number(entry.value, "to: " + yaml::shortened(entry.key), 0, 1e9).value_or(0);
            const std::vector<std::string> names = expand(entry);
            double sum = 0;
            for (std::size_t i = 1; i <= names.size(); ++i) sum += std::pow(static_cast<double>(i), -exponent);
            for (std::size_t i = 0; i < names.size(); ++i) {
                source.to.emplace_back(domain(names[i]), part * std::pow(static_cast<double>(i + 1), -exponent) / sum);
            }
        }
        const bool any = std::any_of(source.to.begin(), source.to.end(), [](const auto& to) { return to.second > 0; });
        if (fields.has("to") && !any) reading_.error(fields.node(), "to: expected a domain with a part above 0");
    }

    std::vector<std::string> expand(const Reading::Entry& entry) {
        const std::string name = policy::normal(policy::FieldType::domain, entry.key);
        const std::size_t open = name.find('['), close = name.find(']');
        if (open == std::string::npos) return {name};
        const std::size_t dots = name.find("..", open);
        const auto wrong = [&] {
            reading_.error(entry.key_node, "to: expected a domain, or a range as in `d[1..1000].example`, found `" + yaml::shortened(entry.key) + "`");
            return std::vector<std::string>();
        };
        if (close == std::string::npos || dots == std::string::npos || dots > close) return wrong();
        const auto from = parse_number<std::uint32_t>(std::string_view(name).substr(open + 1, dots - open - 1));
        const auto to = parse_number<std::uint32_t>(std::string_view(name).substr(dots + 2, close - dots - 2));
        if (!from || !to || *from > *to || *to - *from >= domains_max) return wrong();
        std::vector<std::string> names;
        for (std::uint32_t i = *from; i <= *to; ++i) names.push_back(name.substr(0, open) + std::to_string(i) + name.substr(close + 1));
        return names;
    }

    std::uint32_t domain(const std::string& name) {
        const auto [at, is_new] = domains_.try_emplace(name, static_cast<std::uint32_t>(traffic_.domains.size()));
        if (is_new) traffic_.domains.push_back(name);
        return at->second;
    }

    // ---- receivers ----

    void read_receiver(const YAML::Node& node) {
        std::vector<std::string> keys = {"name", "domains", "mx", "addresses", "ttl", "during"};
        keys.insert(keys.end(), behaviour_keys.begin(), behaviour_keys.end());
        const Fields fields = reading_.fields(node, "receiver", keys);
        fields.expect("name");
        fields.expect("domains");
        Receiver receiver;
        fields.read("name", receiver.name);
        const bool twice = std::any_of(traffic_.receivers.begin(), traffic_.receivers.end(), [&](const Receiver& r) { return r.name == receiver.name; });
        if (twice) reading_.error(node, "receivers: there are two of the name `" + yaml::shortened(receiver.name) + "`");
        read_domains(fields);
        read_hosts(fields, receiver);
        fields.read_seconds("ttl", receiver.ttl);
        read_behaviour(reading_, fields, receiver.usual, next_rule_);
        for (const YAML::Node& window : fields.list("during")) receiver.during.push_back(read_window(window, receiver.usual));
        traffic_.receivers.push_back(std::move(receiver));
    }

    void read_domains(const Fields& fields) {
        const auto number = static_cast<std::uint32_t>(traffic_.receivers.size());
        if (!fields.has("domains")) return;
        for (const YAML::Node& word : reading_.one_or_more(fields["domains"])) {
            const std::string text = reading_.text(word, "domains").value_or("*");
            const Result<policy::Pattern> pattern = policy::Pattern::parse(policy::FieldType::domain, text);
            if (pattern) whose_.add(*pattern, number);
            else reading_.error(word, "domains: " + pattern.error().detail);
        }
    }

    void read_hosts(const Fields& fields, Receiver& receiver) {
        for (const YAML::Node& node : fields.list("mx")) {
            const std::string text = reading_.text(node, "mx").value_or("");
            const auto words = split(text, ' ');
            const auto level = words.size() == 2 ? parse_number<std::uint32_t>(words[1]) : std::optional<std::uint32_t>(0);
            if (words.size() > 2 || words[0].empty() || !level) reading_.error(node, "mx: expected `host` or `host LEVEL`");
            receiver.mx.emplace_back(to_lower(words[0]), level.value_or(0));
        }
        if (receiver.mx.empty()) receiver.mx.emplace_back("mx.{domain}", 0);
        std::sort(receiver.mx.begin(), receiver.mx.end(), [](const auto& a, const auto& b) { return std::tie(a.second, a.first) < std::tie(b.second, b.first); });
        if (!fields.has("addresses")) return;
        const YAML::Node node = fields["addresses"];
        if (node.IsScalar()) {
            receiver.address_count = static_cast<std::uint32_t>(std::max<std::uint64_t>(reading_.count(node, "addresses", 256).value_or(1), 1));
            return;
        }
        fields.read("addresses", receiver.addresses);
        for (const std::string& address : receiver.addresses) {
            const auto network = policy::Network::parse(address);
            if (!network || !network->is_address()) reading_.error(node, "addresses: expected an address, found `" + yaml::shortened(address) + "`");
        }
    }

    Receiver::Window read_window(const YAML::Node& node, const Behaviour& usual) {
        std::vector<std::string> keys = {"from", "until"};
        keys.insert(keys.end(), behaviour_keys.begin(), behaviour_keys.end());
        const Fields fields = reading_.fields(node, "during", keys);
        fields.expect("from");
        fields.expect("until");
        Receiver::Window window;
        window.behaviour = usual;
        if (fields.has("from")) window.from = read_time(reading_, fields["from"], "from");
        if (fields.has("until")) window.until = read_time(reading_, fields["until"], "until");
        if (fields.has("from") && fields.has("until") && window.until <= window.from) reading_.error(node, "during: `until` is not after `from`");
        read_behaviour(reading_, fields, window.behaviour, next_rule_);
        return window;
    }

    // Every domain has a receiver; whose has no other have hosts of their own.
    void assign() {
        bool any_other = false;
        const auto other = static_cast<std::uint32_t>(traffic_.receivers.size());
        std::vector<bool> used(traffic_.receivers.size(), false);
        traffic_.receiver_of.clear();
        for (const std::string& domain : traffic_.domains) {
            const std::uint32_t receiver = std::min(whose_.match(domain), other);
            if (receiver == other) any_other = true;
            else used[receiver] = true;
            traffic_.receiver_of.push_back(receiver);
        }
        if (any_other) {
            Receiver rest;
            rest.name = "others";
            rest.mx.emplace_back("mx.{domain}", 0);
            traffic_.receivers.push_back(std::move(rest));
        }
        for (std::uint32_t i = 0; i < other; ++i) {
            if (!used[i]) traffic_.notes.push_back("no mail goes to the receiver `" + traffic_.receivers[i].name + "`");
        }
    }

    Reading& reading_;
    Traffic& traffic_;
    std::map<std::string, std::uint32_t> domains_;
    policy::Matcher whose_;
    std::uint32_t next_rule_ = 0;
};

}  // namespace

const Behaviour& Receiver::behaviour(Duration since_begin) const {
    for (const Window& window : during) {
        if (since_begin >= window.from && since_begin < window.until) return window.behaviour;
    }
    return usual;
}

std::uint32_t Traffic::tenant(const std::string& name) {
    const auto found = std::find(tenants.begin(), tenants.end(), name);
    if (found != tenants.end()) return static_cast<std::uint32_t>(found - tenants.begin());
    tenants.push_back(name);
    return static_cast<std::uint32_t>(tenants.size() - 1);
}

std::uint64_t Traffic::messages() const {
    return std::accumulate(sources.begin(), sources.end(), std::uint64_t{recorded.size()},
                           [](std::uint64_t sum, const Source& source) { return sum + source.messages; });
}

std::optional<Traffic> parse_traffic(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    const YAML::Node root = reading.load(text);
    Traffic traffic;
    traffic.begin = midnight;
    if (!reading.failed()) TrafficReader(reading, traffic).read(root);
    if (reading.failed()) return std::nullopt;
    return traffic;
}

bool parse_receivers(std::string_view text, const std::string& file, Traffic& traffic, Problems& problems) {
    Reading reading(file, problems);
    const YAML::Node root = reading.load(text);
    if (reading.failed()) return false;
    const Fields fields = reading.fields(root, "traffic", {"title", "hours", "drain_hours", "sources", "receivers"});
    traffic.receivers.clear();
    traffic.notes.clear();
    TrafficReader(reading, traffic).read_receivers(fields);
    return !reading.failed();
}

}  // namespace sluice::sim
