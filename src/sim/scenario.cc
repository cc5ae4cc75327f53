#include "sim/scenario.h"

#include <algorithm>

#include "base/text.h"
#include "policy/assignment.h"
#include "sim/policy_maker.h"
#include "yaml/reading.h"

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

using yaml::Fields;
using yaml::Reading;

Host read_host(Reading& reading, const YAML::Node& node) {
    const Fields fields = reading.fields(node, "host", {"mood", "after"});
    std::vector<const char*> names;
    for (const MoodName& mood : mood_names) names.push_back(mood.name);
    Host host;
    if (fields.has("mood")) host.mood = mood_names[reading.choice(fields["mood"], "mood", names).value_or(0)].mood;
    fields.read("after", host.after);
    return host;
}

// "host" or "host LEVEL"
std::pair<std::string, std::uint32_t> read_mx(Reading& reading, const YAML::Node& node) {
    const std::string text = reading.text(node, "mx").value_or("");
    const auto words = split(text, ' ');
    if (words.size() == 1) return {text, 0};
    const auto level = parse_number<std::uint32_t>(words[1]);
    if (words.size() != 2 || !level) reading.error(node, "mx: expected `host` or `host LEVEL`");
    return {std::string(words[0]), level.value_or(0)};
}

Domain read_domain(Reading& reading, const YAML::Node& node) {
    const Fields fields = reading.fields(node, "domain", {"mx", "ttl", "dns"});
    Domain domain;
    for (const YAML::Node& mx : fields.list("mx")) domain.mx.push_back(read_mx(reading, mx));
    if (domain.mx.empty()) reading.error(node, "a domain needs at least one host in `mx`");
    fields.read_seconds("ttl", domain.ttl);
    if (fields.has("dns")) domain.dns = static_cast<DnsMood>(reading.choice(fields["dns"], "dns", dns_names).value_or(0));
    return domain;
}

// As in policy.yaml; lines count within the list.
policy::PolicySetPtr read_policies(Reading& reading, const YAML::Node& node) {
    Problems problems;
    policy::PolicySetPtr set = policy::parse_policies(YAML::Dump(node), "policies", problems);
    if (set == nullptr) reading.error(node, problems.all().front().text());
    return set;
}

// As in transports.yaml.
std::vector<policy::LocalPool> read_transports(Reading& reading, const YAML::Node& node) {
    Problems problems;
    auto pools = policy::parse_transports(YAML::Dump(node), "transports", problems);
    if (pools) return std::move(*pools);
    reading.error(node, problems.all().front().text());
    return {};
}

void read_core(Reading& reading, const YAML::Node& node, queue::Options& core) {
    const Fields fields = reading.fields(node, "core", {"concurrency_max", "destination_concurrency", "idle_session", "session_messages_max",
                                                        "lifetime", "sources4", "sources6", "transports", "tenant_weights", "policies"});
    fields.read("concurrency_max", core.concurrency_max);
    fields.read("destination_concurrency", core.destination_concurrency);
    fields.read("session_messages_max", core.session_messages_max);
    fields.read_seconds("idle_session", core.idle_session);
    fields.read_seconds("lifetime", core.lifetime);
    fields.read("sources4", core.sources4);
    fields.read("sources6", core.sources6);
    for (const Reading::Entry& weight : fields.map("tenant_weights")) {
        core.tenant_weights.emplace_back(weight.key, static_cast<std::uint32_t>(reading.count(weight.value, weight.key, 1'000'000).value_or(1)));
    }
    if (fields.has("transports")) core.transports = read_transports(reading, fields["transports"]);
    if (fields.has("policies")) core.policies = read_policies(reading, fields["policies"]);
}

Stream read_stream(Reading& reading, const YAML::Node& node, const Scenario& scenario) {
    const Fields fields = reading.fields(
        node, "stream", {"to", "items", "per_second", "tenant", "job", "transport", "sender_domain", "list", "lifetime", "priority"});
    Stream stream;
    fields.read("to", stream.to);
    for (const std::string& domain : stream.to) {
        if (!scenario.domains.contains(domain)) reading.error(node, "no such domain: " + domain);
    }
    if (stream.to.empty()) reading.error(node, "a stream needs `to`");
    fields.read("items", stream.items);
    fields.read("per_second", stream.per_second);
    fields.read("tenant", stream.tenant);
    fields.read("job", stream.job);
    fields.read("transport", stream.transport);
    fields.read("sender_domain", stream.sender_domain);
    fields.read("list", stream.list);
    std::uint32_t lifetime_s = 0;
    fields.read("lifetime", lifetime_s);
    stream.lifetime = std::chrono::seconds(lifetime_s);
    fields.read("priority", stream.priority);
    return stream;
}

Expectation read_expectation(Reading& reading, const YAML::Node& node) {
    const Fields fields = reading.fields(node, "expect", {"delivered", "failed", "removed", "duplicated_max", "passed_over_max", "waited_max"});
    Expectation expect;
    fields.read("delivered", expect.delivered);
    fields.read("failed", expect.failed);
    fields.read("removed", expect.removed);
    fields.read("duplicated_max", expect.duplicated_max);
    fields.read("passed_over_max", expect.passed_over_max);
    for (const Reading::Entry& entry : fields.map("waited_max")) {
        expect.waited_max[entry.key] = reading.seconds(entry.value, entry.key, Fields::seconds_max).value_or(Duration{0});
    }
    return expect;
}

Scenario read_scenario(Reading& reading, const YAML::Node& root) {
    const Fields fields = reading.fields(root, "scenario", {"title", "minutes", "core", "hosts", "domains", "workload", "operator_per_hour",
                                                            "reconfigured_per_hour", "crashes_per_hour", "expect"});
    Scenario scenario;
    fields.read("title", scenario.title);
    std::uint32_t minutes = 60;
    fields.read("minutes", minutes);
    scenario.faults_for = Duration(std::int64_t{minutes} * 60'000);
    if (fields.has("core")) read_core(reading, fields["core"], scenario.core);
    for (const Reading::Entry& host : fields.map("hosts")) scenario.hosts[host.key] = read_host(reading, host.value);
    for (const Reading::Entry& entry : fields.map("domains")) {
        const Domain domain = read_domain(reading, entry.value);
        for (const auto& [host, level] : domain.mx) {
            if (!scenario.hosts.contains(host)) reading.error(entry.value, "no such host: " + host);
        }
        scenario.domains[entry.key] = domain;
    }
    for (const YAML::Node& stream : fields.list("workload")) scenario.workload.push_back(read_stream(reading, stream, scenario));
    if (scenario.workload.empty()) reading.error(root, "a scenario needs a workload");
    fields.read("operator_per_hour", scenario.operator_per_hour);
    fields.read("reconfigured_per_hour", scenario.reconfigured_per_hour);
    fields.read("crashes_per_hour", scenario.crashes_per_hour);
    if (fields.has("expect")) scenario.expect = read_expectation(reading, fields["expect"]);
    return scenario;
}

}  // namespace

Result<Scenario> parse_scenario(const std::string& yaml) {
    Problems problems;
    Reading reading("scenario", problems);
    const YAML::Node root = reading.load(yaml);
    Scenario scenario = reading.failed() ? Scenario() : read_scenario(reading, root);
    if (reading.failed()) return fail(Errc::config, problems.all().front().text());
    return scenario;
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
        hosts.push_back("host" + std::to_string(i) + (i % 2 == 0 ? ".a.test" : ".b.test"));
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
        stream.varied = random.chance(0.3);
        scenario.workload.push_back(stream);
    }
    scenario.operator_per_hour = random.chance(0.7) ? 60 * random.unit() : 0;
    scenario.reconfigured_per_hour = random.chance(0.7) ? 20 * random.unit() : 0;
    scenario.crashes_per_hour = random.chance(0.5) ? 6 * random.unit() : 0;
    return scenario;
}

// Hosts are well most of the time, so that nothing but policies decides who starts.
Scenario random_policy_scenario(std::uint64_t seed) {
    Random random(seed ^ 0x9011C7);
    Scenario scenario = random_scenario(seed);
    scenario.title = "policies made up from seed " + std::to_string(seed);
    scenario.faults_for = Duration(60'000 * static_cast<std::int64_t>(2 + random.below(12)));
    scenario.core.concurrency_max = static_cast<std::uint32_t>(5 + random.below(60));
    scenario.core.destination_concurrency = static_cast<std::uint32_t>(2 + random.below(20));
    for (auto& [name, host] : scenario.hosts) {
        constexpr Mood moods[] = {Mood::closes_each, Mood::drops_idle, Mood::greylists, Mood::throttles, Mood::dead};
        host.mood = random.chance(0.8) ? Mood::obedient : moods[random.below(std::size(moods))];
    }
    for (auto& [name, domain] : scenario.domains) domain.dns = DnsMood::fine;
    for (Stream& stream : scenario.workload) {
        stream.items = static_cast<std::uint32_t>(20 + random.below(120));
        stream.per_second = 1 + 30 * random.unit();
        stream.varied = random.chance(0.7);
    }
    scenario.operator_per_hour = random.chance(0.15) ? 60 : 0;
    scenario.reconfigured_per_hour = random.chance(0.6) ? 40 : 0;
    scenario.crashes_per_hour = random.chance(0.1) ? 6 : 0;
    return scenario;
}

}  // namespace sluice::sim
