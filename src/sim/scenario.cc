#include "sim/scenario.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <initializer_list>

#include "base/assert.h"
#include "base/text.h"
#include "policy/assignment.h"

namespace sluice::sim {
namespace {

struct MoodName {
    const char* name;
    Mood mood;
};
constexpr MoodName mood_names[] = {
    {"obedient", Mood::obedient},         {"greylists", Mood::greylists},
    {"throttles", Mood::throttles},       {"dead", Mood::dead},
    {"tarpits", Mood::tarpits},           {"closes_each", Mood::closes_each},
    {"rejects_some", Mood::rejects_some}, {"refuses_for_good", Mood::refuses_for_good},
    {"drops_idle", Mood::drops_idle},
};
constexpr const char* dns_names[] = {"fine", "temporary", "no_domain", "flaky"};

// yaml-cpp reports by exceptions; they end in parse_scenario().
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
void read_seconds(const YAML::Node& node, const char* key, Duration& into) {
    if (const YAML::Node value = node[key]) into = Duration(static_cast<std::int64_t>(value.as<double>() * 1'000));
}

Host read_host(const YAML::Node& node) {
    allow_keys(node, {"mood", "after"});
    Host host;
    const auto name = node["mood"].as<std::string>("obedient");
    const auto* const found =
        std::find_if(std::begin(mood_names), std::end(mood_names), [&](const MoodName& m) { return name == m.name; });
    if (found == std::end(mood_names)) refuse(node, "unknown mood '" + name + "'");
    host.mood = found->mood;
    read(node, "after", host.after);
    return host;
}

// "host" or "host LEVEL"
std::pair<std::string, std::uint32_t> read_mx(const YAML::Node& node) {
    const auto text = node.as<std::string>();
    const auto words = split(text, ' ');
    if (words.size() == 1) return {text, 0};
    const auto level = parse_number<std::uint32_t>(words[1]);
    if (words.size() != 2 || !level) refuse(node, "expected 'host' or 'host LEVEL'");
    return {std::string(words[0]), *level};
}

Domain read_domain(const YAML::Node& node) {
    allow_keys(node, {"mx", "ttl", "dns"});
    Domain domain;
    for (const YAML::Node& mx : node["mx"]) domain.mx.push_back(read_mx(mx));
    if (domain.mx.empty()) refuse(node, "a domain needs at least one host in 'mx'");
    read_seconds(node, "ttl", domain.ttl);
    const auto dns = node["dns"].as<std::string>("fine");
    const auto* const found = std::find_if(std::begin(dns_names), std::end(dns_names), [&](const char* n) { return dns == n; });
    if (found == std::end(dns_names)) refuse(node, "unknown dns '" + dns + "'");
    domain.dns = static_cast<DnsMood>(found - std::begin(dns_names));
    return domain;
}

// As in policy.yaml; lines count within the list.
policy::PolicySetPtr read_policies(const YAML::Node& node) {
    Problems problems;
    policy::PolicySetPtr set = policy::parse_policies(YAML::Dump(node), "policies", problems);
    if (set == nullptr) refuse(node, problems.all().front().text());
    return set;
}

// As in transports.yaml.
std::vector<policy::LocalPool> read_transports(const YAML::Node& node) {
    Problems problems;
    auto pools = policy::parse_transports(YAML::Dump(node), "transports", problems);
    if (!pools) refuse(node, problems.all().front().text());
    return std::move(*pools);
}

void read_core(const YAML::Node& node, queue::Options& core) {
    allow_keys(node, {"concurrency_max", "destination_concurrency", "idle_session", "session_messages_max", "lifetime",
                      "sources4", "sources6", "transports", "tenant_weights", "policies"});
    read(node, "concurrency_max", core.concurrency_max);
    read(node, "destination_concurrency", core.destination_concurrency);
    read(node, "session_messages_max", core.session_messages_max);
    read_seconds(node, "idle_session", core.idle_session);
    read_seconds(node, "lifetime", core.lifetime);
    read(node, "sources4", core.sources4);
    read(node, "sources6", core.sources6);
    for (const auto& weight : node["tenant_weights"]) {
        core.tenant_weights.emplace_back(weight.first.as<std::string>(), weight.second.as<std::uint32_t>());
    }
    if (const YAML::Node transports = node["transports"]) core.transports = read_transports(transports);
    if (const YAML::Node policies = node["policies"]) core.policies = read_policies(policies);
}

Stream read_stream(const YAML::Node& node, const Scenario& scenario) {
    allow_keys(node, {"to", "items", "per_second", "tenant", "job", "transport", "sender_domain", "list", "lifetime", "priority"});
    Stream stream;
    read(node, "to", stream.to);
    for (const std::string& domain : stream.to) {
        if (!scenario.domains.contains(domain)) refuse(node, "no such domain: " + domain);
    }
    if (stream.to.empty()) refuse(node, "a stream needs 'to'");
    read(node, "items", stream.items);
    read(node, "per_second", stream.per_second);
    read(node, "tenant", stream.tenant);
    read(node, "job", stream.job);
    read(node, "transport", stream.transport);
    read(node, "sender_domain", stream.sender_domain);
    read(node, "list", stream.list);
    stream.lifetime = std::chrono::seconds(node["lifetime"].as<std::uint32_t>(0));
    stream.priority = static_cast<std::uint8_t>(node["priority"].as<unsigned>(4));
    return stream;
}

Expectation read_expectation(const YAML::Node& node) {
    allow_keys(node, {"delivered", "failed", "removed", "duplicated_max", "passed_over_max", "waited_max"});
    Expectation expect;
    read(node, "delivered", expect.delivered);
    read(node, "failed", expect.failed);
    read(node, "removed", expect.removed);
    read(node, "duplicated_max", expect.duplicated_max);
    read(node, "passed_over_max", expect.passed_over_max);
    for (const auto& entry : node["waited_max"]) {
        const auto seconds = entry.second.as<double>();
        expect.waited_max[entry.first.as<std::string>()] = Duration(static_cast<std::int64_t>(seconds * 1'000));
    }
    return expect;
}

Scenario read_scenario(const YAML::Node& root) {
    allow_keys(root, {"title", "minutes", "core", "hosts", "domains", "workload", "operator_per_hour",
                      "reconfigured_per_hour", "crashes_per_hour", "expect"});
    Scenario scenario;
    read(root, "title", scenario.title);
    if (const YAML::Node minutes = root["minutes"]) scenario.faults_for = Duration(minutes.as<std::int64_t>() * 60'000);
    if (const YAML::Node core = root["core"]) read_core(core, scenario.core);
    for (const auto& host : root["hosts"]) scenario.hosts[host.first.as<std::string>()] = read_host(host.second);
    for (const auto& entry : root["domains"]) {
        const Domain domain = read_domain(entry.second);
        for (const auto& [host, level] : domain.mx) {
            if (!scenario.hosts.contains(host)) refuse(entry.second, "no such host: " + host);
        }
        scenario.domains[entry.first.as<std::string>()] = domain;
    }
    for (const YAML::Node& stream : root["workload"]) scenario.workload.push_back(read_stream(stream, scenario));
    if (scenario.workload.empty()) refuse(root, "a scenario needs a workload");
    read(root, "operator_per_hour", scenario.operator_per_hour);
    read(root, "reconfigured_per_hour", scenario.reconfigured_per_hour);
    read(root, "crashes_per_hour", scenario.crashes_per_hour);
    if (const YAML::Node expect = root["expect"]) scenario.expect = read_expectation(expect);
    return scenario;
}

}  // namespace

Result<Scenario> parse_scenario(const std::string& yaml) {
    try {
        return read_scenario(YAML::Load(yaml));
    } catch (const YAML::Exception& error) {
        return fail(Errc::config, error.what());
    }
}

policy::PolicySetPtr random_policies(Random& random) {
    const auto limits = [&] {
        std::string text = "{concurrency: " + std::to_string(random.chance(0.6) ? 1 + random.below(8) : 0);
        if (random.chance(0.4)) {
            text += ", rate: {count: " + std::to_string(5 + random.below(50)) + ", interval: " + std::to_string(1 + random.below(60)) +
                    ", algorithm: " + (random.chance(0.5) ? "tokenbucket}" : "fixedwindow}");
        }
        if (random.chance(0.2)) text += ", connectinterval: 0." + std::to_string(100 + random.below(900));
        if (random.chance(0.2)) text += ", messages_per_connection: " + std::to_string(1 + random.below(20));
        if (random.chance(0.1)) text += ", bytes_per_second: " + std::to_string(1'000 + random.below(100'000));
        return text + (random.chance(0.1) ? ", stop: true}" : "}");
    };
    const char* const fields[] = {
        "[remoteip]", "[tenantid, localip]", "[recipientdomain]", "[localip, {remotemx: {low: '/[123]$/', high: '/[456]$/'}}]", "[grouping]",
        "[priority, recipientdomain]", "[]", "[jobid]", "[transportid, localip]", "[senderdomain, tenantid]", "[attempt, recipientdomain]",
        "[header.list-id]", "[notes.unknown, remoteip]", "[localip, jobid, attempt]",
    };
    std::string text = "grouping: {default: remotemx, groupings: [{id: one, remotemx: '/[147]$/'}, {id: two, recipientdomain: '/[28]/'}]}\npolicies:\n";
    for (const char* const some : fields) {
        if (!random.chance(0.2)) continue;
        text += std::string("- fields: ") + some + "\n";
        if (std::string(some).find("remotemx") != std::string::npos) {
            text += "  conditions: [{if: {remotemx: '#low'}, then: " + limits() + "}]\n";
        }
        if (std::string(some).find("tenantid") != std::string::npos) {
            text += "  conditions: [{if: {not: {tenantid: \"\"}}, then: " + limits() + "}]\n";
        }
        if (random.chance(0.8)) text += "  default: " + limits() + "\n";
    }
    Problems problems;
    policy::PolicySetPtr set = policy::parse_policies(text, "random", problems);
    ASSERT(set != nullptr);
    return set;
}

std::vector<policy::LocalPool> random_transports(Random& random) {
    std::vector<policy::LocalPool> pools;
    for (int i = 0; i < 3; ++i) {
        if (random.chance(0.4)) continue;
        policy::LocalPool pool;
        pool.transport = "transport" + std::to_string(i);
        pool.order = static_cast<policy::LocalPool::Order>(random.below(3));
        for (std::uint64_t k = 1 + random.below(4); k > 0; --k) {
            const std::string number = std::to_string(10 * (i + 1) + static_cast<int>(k));
            pool.sources.push_back({random.chance(0.8) ? "192.0.2." + number : "2001:db8::" + number,
                                    static_cast<std::uint32_t>(1 + random.below(5)), random.chance(0.5) ? "mx" + number : ""});
        }
        pools.push_back(std::move(pool));
    }
    return pools;
}

Scenario random_scenario(std::uint64_t seed) {
    Random random(seed);
    Scenario scenario;
    scenario.title = "made up from seed " + std::to_string(seed);
    scenario.faults_for = Duration(60'000 * static_cast<std::int64_t>(10 + random.below(120)));
    queue::Options& core = scenario.core;
    core.concurrency_max = static_cast<std::uint32_t>(1 + random.below(40));
    core.destination_concurrency = static_cast<std::uint32_t>(1 + random.below(12));
    core.session_messages_max = static_cast<std::uint32_t>(1 + random.below(30));
    core.shards = static_cast<std::uint32_t>(1 + random.below(4));
    core.fresh_bytes_max = random.below(2'000'000);
    for (std::uint64_t i = random.below(4); i > 0; --i) core.sources4.push_back("192.0.2." + std::to_string(i));
    for (std::uint64_t i = random.below(3); i > 0; --i) core.sources6.push_back("2001:db8::" + std::to_string(i));
    core.policies = random_policies(random);
    core.transports = random_transports(random);

    std::vector<std::string> hosts;
    for (std::uint64_t i = 1 + random.below(8); i > 0; --i) {
        hosts.push_back("host" + std::to_string(i));
        const Mood mood = random.chance(0.4) ? Mood::obedient : mood_names[random.below(std::size(mood_names))].mood;
        scenario.hosts[hosts.back()] = Host{mood, static_cast<std::uint32_t>(1 + random.below(6))};
    }
    std::vector<std::string> domains;
    for (std::uint64_t i = 1 + random.below(10); i > 0; --i) {
        domains.push_back("domain" + std::to_string(i) + ".test");
        Domain& domain = scenario.domains[domains.back()];
        for (std::uint64_t mx = 1 + random.below(4); mx > 0; --mx) {
            domain.mx.emplace_back(hosts[random.below(hosts.size())], static_cast<std::uint32_t>(random.below(3)));
        }
        std::sort(domain.mx.begin(), domain.mx.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
        domain.ttl = Duration(static_cast<std::int64_t>(random.below(600'000)));
        domain.dns = random.chance(0.7) ? DnsMood::fine : static_cast<DnsMood>(random.below(4));
    }
    for (std::uint64_t i = 1 + random.below(5); i > 0; --i) {
        Stream stream;
        for (std::uint64_t to = 1 + random.below(3); to > 0; --to) stream.to.push_back(domains[random.below(domains.size())]);
        stream.items = static_cast<std::uint32_t>(10 + random.below(300));
        stream.per_second = 0.2 + 20 * random.unit();
        stream.tenant = random.chance(0.5) ? "" : "tenant" + std::to_string(random.below(3));
        stream.priority = static_cast<std::uint8_t>(random.below(8));
        const auto one_of = [&](const char* name) { return random.chance(0.4) ? "" : name + std::to_string(random.below(3)); };
        stream.job = one_of("job");
        stream.transport = one_of("transport");
        stream.sender_domain = one_of("sender");
        stream.list = one_of("list");
        if (random.chance(0.2)) stream.lifetime = std::chrono::seconds(60 + random.below(7'200));
        scenario.workload.push_back(stream);
    }
    scenario.operator_per_hour = random.chance(0.7) ? 60 * random.unit() : 0;
    scenario.reconfigured_per_hour = random.chance(0.7) ? 20 * random.unit() : 0;
    scenario.crashes_per_hour = random.chance(0.5) ? 6 * random.unit() : 0;
    return scenario;
}

}  // namespace sluice::sim
