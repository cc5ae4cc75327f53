#include "drill/plan.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/assert.h"
#include "base/random.h"
#include "base/text.h"

namespace sluice::drill {
namespace {

constexpr std::array<const char*, mood_count> mood_names = {
    "obedient",     "greylists",     "tarpits",     "resets_after_dot", "resets_in_content", "closes_without_quit",
    "throttles",    "refuses_at_dot", "refuses_some", "lies_about_pipelining", "helo_only",  "broken_tls",
    "refuses_tls",  "expired_certificate", "floods", "bare_lf",         "never_reads",       "slow_octets",
    "drops_dot_reply", "talks_nonsense", "refuses_for_good", "closes_at_once", "unreachable", "refuses_connections"};
constexpr std::array dns_names = {"fine", "temporary", "no_domain", "flaky", "silent", "slow", "changing"};

// yaml-cpp reports by exceptions; they end in parse_plan().
[[noreturn]] void refuse(const YAML::Node& node, const std::string& why) { throw YAML::Exception(node.Mark(), why); }

void allow_keys(const YAML::Node& node, std::initializer_list<const char*> keys) {
    if (!node.IsMap()) refuse(node, "expected a map");
    for (const auto& entry : node) {
        const auto key = entry.first.as<std::string>();
        const bool known = std::any_of(keys.begin(), keys.end(), [&](const char* k) { return key == k; });
        if (!known) refuse(entry.first, "unknown key '" + key + "'");
    }
}

template <class T>
void read(const YAML::Node& node, const char* key, T& into) {
    if (const YAML::Node value = node[key]) into = value.as<T>();
}
template <class T>
void read(const YAML::Node& node, const char* key, std::optional<T>& into) {
    if (const YAML::Node value = node[key]) into = value.as<T>();
}

template <class Names>
std::size_t index_of(const YAML::Node& node, const Names& names, const char* what) {
    const auto name = node.as<std::string>();
    const auto found = std::find_if(names.begin(), names.end(), [&](const char* n) { return name == n; });
    if (found == names.end()) refuse(node, std::string("unknown ") + what + " '" + name + "'");
    return static_cast<std::size_t>(found - names.begin());
}

HostPlan read_host(const YAML::Node& node) {
    allow_keys(node, {"moods", "after", "without", "starttls", "ipv6"});
    HostPlan host;
    if (const YAML::Node moods = node["moods"]) {
        host.moods.clear();
        for (const YAML::Node& mood : moods) host.moods.push_back(static_cast<Mood>(index_of(mood, mood_names, "mood")));
        if (host.moods.empty()) refuse(moods, "a host needs a mood");
    }
    read(node, "after", host.after);
    read(node, "starttls", host.starttls);
    read(node, "ipv6", host.ipv6);
    for (const YAML::Node& missing : node["without"]) {
        const auto name = missing.as<std::string>();
        if (name == "PIPELINING") host.pipelining = false;
        else if (name == "CHUNKING") host.chunking = false;
        else if (name == "8BITMIME") host.eight_bit = false;
        else if (name == "SMTPUTF8") host.smtputf8 = false;
        else if (name == "SIZE") host.size = false;
        else if (name == "DSN") host.dsn = false;
        else refuse(missing, "unknown extension '" + name + "'");
    }
    return host;
}

DomainPlan read_domain(const YAML::Node& node) {
    allow_keys(node, {"mx", "dns", "ttl"});
    DomainPlan domain;
    for (const YAML::Node& mx : node["mx"]) {
        const auto text = mx.as<std::string>();
        const auto words = split(text, ' ');
        const auto preference = words.size() == 2 ? parse_number<std::uint16_t>(words[1]) : std::optional<std::uint16_t>(10);
        if (words.size() > 2 || !preference) refuse(mx, "expected 'host' or 'host PREFERENCE'");
        domain.mx.emplace_back(std::string(words[0]), *preference);
    }
    if (const YAML::Node dns = node["dns"]) domain.dns = static_cast<DnsMood>(index_of(dns, dns_names, "dns"));
    read(node, "ttl", domain.ttl_s);
    return domain;
}

StreamPlan read_stream(const YAML::Node& node, const Plan& plan) {
    allow_keys(node, {"to", "messages", "per_hour", "recipients_max", "bytes_max", "pipelining", "chunking", "starttls",
                      "injects", "aborts", "null_senders", "wants_dsn"});
    StreamPlan stream;
    read(node, "to", stream.to);
    for (const std::string& domain : stream.to) {
        if (!plan.domains.contains(domain)) refuse(node, "no such domain: " + domain);
    }
    if (stream.to.empty()) refuse(node, "a stream needs 'to'");
    read(node, "messages", stream.messages);
    read(node, "per_hour", stream.per_hour);
    read(node, "recipients_max", stream.recipients_max);
    read(node, "bytes_max", stream.bytes_max);
    read(node, "pipelining", stream.pipelining);
    read(node, "chunking", stream.chunking);
    read(node, "starttls", stream.starttls);
    read(node, "injects", stream.injects);
    read(node, "aborts", stream.aborts);
    read(node, "null_senders", stream.null_senders);
    read(node, "wants_dsn", stream.wants_dsn);
    return stream;
}

void read_engine(const YAML::Node& node, Plan& plan) {
    allow_keys(node, {"shards", "concurrency_max", "destination_concurrency", "messages_per_connection", "lifetime_hours",
                      "intervals", "always_split", "verify_tls", "sync", "segment_bytes", "fresh_bytes_max"});
    read(node, "shards", plan.shards);
    read(node, "concurrency_max", plan.concurrency_max);
    read(node, "destination_concurrency", plan.destination_concurrency);
    read(node, "messages_per_connection", plan.messages_per_connection);
    if (const YAML::Node hours = node["lifetime_hours"]) plan.lifetime = Duration(hours.as<std::int64_t>() * 3'600'000);
    if (const YAML::Node intervals = node["intervals"]) {
        plan.intervals.clear();
        for (const YAML::Node& seconds : intervals) plan.intervals.emplace_back(seconds.as<std::int64_t>() * 1'000);
        if (plan.intervals.empty()) refuse(intervals, "expected seconds");
    }
    read(node, "always_split", plan.always_split);
    read(node, "verify_tls", plan.verify_tls);
    read(node, "sync", plan.sync);
    read(node, "segment_bytes", plan.segment_bytes);
    read(node, "fresh_bytes_max", plan.fresh_bytes_max);
}

void read_troubles(const YAML::Node& node, Plan& plan) {
    allow_keys(node, {"kills", "power_cuts", "restarts", "disk_errors", "sync_failures", "disk_full", "slow_disk",
                      "clock_jumps", "operators", "reconfigured", "link_resets"});
    read(node, "kills", plan.kills);
    read(node, "power_cuts", plan.power_cuts);
    read(node, "restarts", plan.restarts);
    read(node, "disk_errors", plan.disk_errors);
    read(node, "sync_failures", plan.sync_failures);
    read(node, "disk_full", plan.disk_full);
    read(node, "slow_disk", plan.slow_disk);
    read(node, "clock_jumps", plan.clock_jumps);
    read(node, "operators", plan.operators);
    read(node, "reconfigured", plan.reconfigured);
    read(node, "link_resets", plan.link_resets);
}

// Where notifications go, unless the plan says otherwise.
void add_senders(Plan& plan) {
    if (plan.domains.contains("senders.test")) return;
    plan.hosts["senders.mx.test"];
    plan.domains["senders.test"].mx = {{"senders.mx.test", std::uint16_t{10}}};
}

Plan read_plan(const YAML::Node& root) {
    allow_keys(root, {"title", "hours", "hosts", "domains", "clients", "engine", "troubles_per_hour", "latency_max_ms",
                      "read_bytes_max", "expect"});
    Plan plan;
    read(root, "title", plan.title);
    if (const YAML::Node hours = root["hours"]) plan.faults_for = Duration(static_cast<std::int64_t>(hours.as<double>() * 3'600'000));
    for (const auto& host : root["hosts"]) plan.hosts[host.first.as<std::string>()] = read_host(host.second);
    for (const auto& entry : root["domains"]) {
        const DomainPlan domain = read_domain(entry.second);
        for (const auto& [host, preference] : domain.mx) {
            if (!plan.hosts.contains(host)) refuse(entry.second, "no such host: " + host);
        }
        plan.domains[entry.first.as<std::string>()] = domain;
    }
    for (const YAML::Node& stream : root["clients"]) plan.streams.push_back(read_stream(stream, plan));
    if (plan.streams.empty()) refuse(root, "a scenario needs 'clients'");
    if (const YAML::Node engine = root["engine"]) read_engine(engine, plan);
    if (const YAML::Node troubles = root["troubles_per_hour"]) read_troubles(troubles, plan);
    read(root, "latency_max_ms", plan.latency_max_ms);
    read(root, "read_bytes_max", plan.read_bytes_max);
    if (const YAML::Node expect = root["expect"]) {
        allow_keys(expect, {"delivered", "bounced", "duplicates_max", "lives_min"});
        read(expect, "delivered", plan.expect.delivered);
        read(expect, "bounced", plan.expect.bounced);
        read(expect, "duplicates_max", plan.expect.duplicates_max);
        read(expect, "lives_min", plan.expect.lives_min);
    }
    add_senders(plan);
    return plan;
}

// ---- worlds that are made up --------------------------------------------------------------------------------------

class Swarm {
public:
    explicit Swarm(std::uint64_t seed) : random_(seed ^ 0x5EED) {}

    Plan plan(std::uint64_t seed) {
        plan_.title = "made up from seed " + std::to_string(seed);
        plan_.faults_for = Duration(static_cast<std::int64_t>(6 + random_.below(66)) * 3'600'000);
        set_engine();
        set_hosts();
        set_domains();
        set_streams();
        set_troubles();
        add_senders(plan_);
        return std::move(plan_);
    }

private:
    bool maybe(double probability) { return random_.chance(probability); }
    double rate(double on, double most) { return maybe(on) ? most * random_.unit() : 0; }
    template <class T>
    T up_to(std::uint64_t most) {
        return static_cast<T>(1 + random_.below(most));
    }

    void set_engine() {
        plan_.shards = maybe(0.3) ? 2 : 1;
        plan_.concurrency_max = up_to<std::uint32_t>(12);
        plan_.destination_concurrency = up_to<std::uint32_t>(6);
        plan_.messages_per_connection = up_to<std::uint32_t>(20);
        plan_.lifetime = Duration(static_cast<std::int64_t>(4 + random_.below(116)) * 3'600'000);
        plan_.intervals = {Duration(30'000 + random_.below(300'000)), Duration(300'000 + random_.below(1'800'000)),
                           Duration(1'800'000 + random_.below(7'200'000))};
        plan_.always_split = maybe(0.2);
        plan_.verify_tls = maybe(0.2);
        plan_.segment_bytes = maybe(0.5) ? 32'768 : 131'072;
        plan_.fresh_bytes_max = maybe(0.3) ? 0 : 1'000'000;
        plan_.latency_max_ms = maybe(0.2) ? 2'000 : static_cast<std::int64_t>(1 + random_.below(200));
        if (maybe(0.15)) plan_.read_bytes_max = up_to<std::size_t>(40);
    }

    void set_hosts() {
        // Some moods do not exist in this world.
        std::vector<Mood> moods;
        for (std::size_t i = 1; i < mood_count; ++i) {
            if (maybe(0.3)) moods.push_back(static_cast<Mood>(i));
        }
        for (std::uint64_t i = 2 + random_.below(5); i > 0; --i) {
            HostPlan& host = plan_.hosts["h" + std::to_string(i) + ".mx.test"];
            for (std::uint64_t n = random_.below(4); n > 0 && !moods.empty(); --n) host.moods.push_back(moods[random_.below(moods.size())]);
            if (maybe(0.3) && host.moods.size() > 1) host.moods.erase(host.moods.begin());
            host.after = up_to<std::uint32_t>(5);
            host.pipelining = maybe(0.8);
            host.chunking = maybe(0.6);
            host.eight_bit = maybe(0.8);
            host.smtputf8 = maybe(0.5);
            host.size = maybe(0.7);
            host.dsn = maybe(0.5);
            host.starttls = maybe(0.25);
            host.ipv6 = maybe(0.2);
        }
    }

    void set_domains() {
        std::vector<std::string> hosts;
        for (const auto& [name, host] : plan_.hosts) hosts.push_back(name);
        const bool odd_names = maybe(0.4);
        for (std::uint64_t i = 1 + random_.below(6); i > 0; --i) {
            const std::string name = "d" + std::to_string(i) + ".test";
            DomainPlan& domain = plan_.domains[name];
            if (odd_names && maybe(0.2)) {  // no MX: the domain is a host itself
                plan_.hosts[name];
                continue;
            }
            std::vector<std::string> some = hosts;
            for (std::uint64_t n = 1 + random_.below(3); n > 0 && !some.empty(); --n) {
                const auto chosen = some.begin() + static_cast<std::ptrdiff_t>(random_.below(some.size()));
                domain.mx.emplace_back(*chosen, static_cast<std::uint16_t>(10 * random_.below(3)));
                some.erase(chosen);
            }
            if (odd_names && maybe(0.6)) domain.dns = static_cast<DnsMood>(random_.below(dns_names.size()));
            domain.ttl_s = maybe(0.2) ? 0 : static_cast<std::int64_t>(random_.below(4'000));
        }
    }

    void set_streams() {
        std::vector<std::string> domains;
        for (const auto& [name, domain] : plan_.domains) domains.push_back(name);
        const double hours = static_cast<double>(plan_.faults_for.count()) / 3'600'000;
        for (std::uint64_t i = 1 + random_.below(3); i > 0; --i) {
            StreamPlan& stream = plan_.streams.emplace_back();
            for (std::uint64_t n = up_to<std::uint64_t>(4); n > 0; --n) stream.to.push_back(domains[random_.below(domains.size())]);
            stream.messages = static_cast<std::uint32_t>(5 + random_.below(60));
            stream.per_hour = maybe(0.3) ? 600 : 1.2 * stream.messages / hours;
            stream.recipients_max = up_to<std::uint32_t>(5);
            stream.bytes_max = maybe(0.1) ? 60'000 : 3'000;
            stream.pipelining = maybe(0.5);
            stream.chunking = maybe(0.3);
            stream.starttls = maybe(0.2);
            stream.injects = maybe(0.2);
            stream.aborts = maybe(0.3) ? 0.3 : 0;
            stream.null_senders = maybe(0.3) ? 0.2 : 0;
            stream.wants_dsn = maybe(0.4) ? 0.5 : 0;
        }
    }

    void set_troubles() {
        plan_.kills = rate(0.4, 0.4);
        plan_.power_cuts = rate(0.4, 0.4);
        plan_.restarts = rate(0.3, 0.3);
        plan_.disk_errors = rate(0.3, 2);
        plan_.sync_failures = rate(0.2, 0.5);
        plan_.disk_full = rate(0.2, 0.3);
        plan_.slow_disk = rate(0.2, 0.3);
        plan_.clock_jumps = rate(0.3, 0.5);
        plan_.operators = rate(0.4, 4);
        plan_.reconfigured = rate(0.3, 1);
        plan_.link_resets = rate(0.4, 20);
    }

    Random random_;
    Plan plan_;
};

}  // namespace

const char* name_of(Mood mood) { return mood_names[static_cast<std::size_t>(mood)]; }
const char* name_of(DnsMood mood) { return dns_names[static_cast<std::size_t>(mood)]; }

Result<Plan> parse_plan(const std::string& yaml) {
    try {
        return read_plan(YAML::Load(yaml));
    } catch (const YAML::Exception& error) {
        return fail(Errc::config, error.what());
    }
}

Plan random_plan(std::uint64_t seed) { return Swarm(seed).plan(seed); }

}  // namespace sluice::drill
