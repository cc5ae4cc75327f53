#include "drill/plan.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/random.h"
#include "base/text.h"
#include "yaml/reading.h"

namespace sluice::drill {
namespace {

constexpr std::array<const char*, mood_count> mood_names = {
    "obedient",     "greylists",     "tarpits",     "resets_after_dot", "resets_in_content", "closes_without_quit",
    "throttles",    "refuses_at_dot", "refuses_some", "lies_about_pipelining", "helo_only",  "broken_tls",
    "refuses_tls",  "expired_certificate", "floods", "bare_lf",         "never_reads",       "slow_octets",
    "drops_dot_reply", "talks_nonsense", "refuses_for_good", "closes_at_once", "unreachable", "refuses_connections"};
constexpr std::array dns_names = {"fine", "temporary", "no_domain", "flaky", "silent", "slow", "changing"};

using yaml::Fields;
using yaml::Reading;

void read_missing_extension(Reading& reading, const YAML::Node& node, HostPlan& host) {
    constexpr std::array names = {"PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN"};
    bool* const offered[] = {&host.pipelining, &host.chunking, &host.eight_bit, &host.smtputf8, &host.size, &host.dsn};
    if (const auto place = reading.choice(node, "without", names)) *offered[*place] = false;
}

HostPlan read_host(Reading& reading, const YAML::Node& node) {
    const Fields fields = reading.fields(node, "host", {"moods", "after", "without", "starttls", "ipv6"});
    HostPlan host;
    if (fields.has("moods")) {
        host.moods.clear();
        for (const YAML::Node& mood : fields.list("moods")) {
            host.moods.push_back(static_cast<Mood>(reading.choice(mood, "mood", mood_names).value_or(0)));
        }
        if (host.moods.empty()) reading.error(node, "a host needs a mood");
    }
    fields.read("after", host.after);
    fields.read("starttls", host.starttls);
    fields.read("ipv6", host.ipv6);
    for (const YAML::Node& missing : fields.list("without")) read_missing_extension(reading, missing, host);
    return host;
}

DomainPlan read_domain(Reading& reading, const YAML::Node& node) {
    const Fields fields = reading.fields(node, "domain", {"mx", "dns", "ttl"});
    DomainPlan domain;
    for (const YAML::Node& mx : fields.list("mx")) {
        const std::string text = reading.text(mx, "mx").value_or("");
        const auto words = split(text, ' ');
        const auto preference = words.size() == 2 ? parse_number<std::uint16_t>(words[1]) : std::optional<std::uint16_t>(10);
        if (words.size() > 2 || !preference) reading.error(mx, "mx: expected `host` or `host PREFERENCE`");
        domain.mx.emplace_back(std::string(words[0]), preference.value_or(10));
    }
    if (fields.has("dns")) domain.dns = static_cast<DnsMood>(reading.choice(fields["dns"], "dns", dns_names).value_or(0));
    fields.read("ttl", domain.ttl_s);
    return domain;
}

StreamPlan read_stream(Reading& reading, const YAML::Node& node, const Plan& plan) {
    const Fields fields = reading.fields(node, "client", {"to", "messages", "per_hour", "recipients_max", "bytes_max", "pipelining", "chunking",
                                                          "starttls", "injects", "aborts", "null_senders", "wants_dsn"});
    StreamPlan stream;
    fields.read("to", stream.to);
    for (const std::string& domain : stream.to) {
        if (!plan.domains.contains(domain)) reading.error(node, "no such domain: " + domain);
    }
    if (stream.to.empty()) reading.error(node, "a stream needs `to`");
    fields.read("messages", stream.messages);
    fields.read("per_hour", stream.per_hour);
    fields.read("recipients_max", stream.recipients_max);
    fields.read("bytes_max", stream.bytes_max);
    fields.read("pipelining", stream.pipelining);
    fields.read("chunking", stream.chunking);
    fields.read("starttls", stream.starttls);
    fields.read("injects", stream.injects);
    fields.read("aborts", stream.aborts);
    fields.read("null_senders", stream.null_senders);
    fields.read("wants_dsn", stream.wants_dsn);
    return stream;
}

void read_engine(Reading& reading, const YAML::Node& node, Plan& plan) {
    const Fields fields = reading.fields(node, "engine", {"shards", "concurrency_max", "destination_concurrency", "messages_per_connection",
                                                          "lifetime_hours", "intervals", "always_split", "verify_tls", "sync", "segment_bytes",
                                                          "fresh_bytes_max", "group_bytes_max"});
    fields.read("shards", plan.shards);
    fields.read("concurrency_max", plan.concurrency_max);
    fields.read("destination_concurrency", plan.destination_concurrency);
    fields.read("messages_per_connection", plan.messages_per_connection);
    if (std::optional<std::uint32_t> hours; fields.read("lifetime_hours", hours), hours) plan.lifetime = Duration(std::int64_t{*hours} * 3'600'000);
    if (fields.has("intervals")) {
        plan.intervals.clear();
        for (const YAML::Node& seconds : fields.list("intervals")) {
            plan.intervals.push_back(reading.seconds(seconds, "intervals", Fields::seconds_max).value_or(Duration{0}));
        }
        if (plan.intervals.empty()) reading.error(node, "intervals: expected seconds");
    }
    fields.read("always_split", plan.always_split);
    fields.read("verify_tls", plan.verify_tls);
    fields.read("sync", plan.sync);
    fields.read("segment_bytes", plan.segment_bytes);
    fields.read("fresh_bytes_max", plan.fresh_bytes_max);
    fields.read("group_bytes_max", plan.group_bytes_max);
}

void read_troubles(Reading& reading, const YAML::Node& node, Plan& plan) {
    const Fields fields = reading.fields(node, "troubles", {"kills", "power_cuts", "restarts", "disk_errors", "sync_failures", "disk_full",
                                                            "slow_disk", "clock_jumps", "operators", "reconfigured", "link_resets"});
    fields.read("kills", plan.kills);
    fields.read("power_cuts", plan.power_cuts);
    fields.read("restarts", plan.restarts);
    fields.read("disk_errors", plan.disk_errors);
    fields.read("sync_failures", plan.sync_failures);
    fields.read("disk_full", plan.disk_full);
    fields.read("slow_disk", plan.slow_disk);
    fields.read("clock_jumps", plan.clock_jumps);
    fields.read("operators", plan.operators);
    fields.read("reconfigured", plan.reconfigured);
    fields.read("link_resets", plan.link_resets);
}

// Where notifications go, unless the plan says otherwise.
void add_senders(Plan& plan) {
    if (plan.domains.contains("senders.test")) return;
    plan.hosts["senders.mx.test"];
    plan.domains["senders.test"].mx = {{"senders.mx.test", std::uint16_t{10}}};
}

Plan read_plan(Reading& reading, const YAML::Node& root) {
    const Fields fields = reading.fields(root, "scenario", {"title", "hours", "hosts", "domains", "clients", "engine", "troubles_per_hour",
                                                            "latency_max_ms", "read_bytes_max", "expect"});
    Plan plan;
    fields.read("title", plan.title);
    if (std::optional<double> hours; fields.read("hours", hours), hours) plan.faults_for = Duration(static_cast<std::int64_t>(*hours * 3'600'000));
    for (const Reading::Entry& host : fields.map("hosts")) plan.hosts[host.key] = read_host(reading, host.value);
    for (const Reading::Entry& entry : fields.map("domains")) {
        const DomainPlan domain = read_domain(reading, entry.value);
        for (const auto& [host, preference] : domain.mx) {
            if (!plan.hosts.contains(host)) reading.error(entry.value, "no such host: " + host);
        }
        plan.domains[entry.key] = domain;
    }
    for (const YAML::Node& stream : fields.list("clients")) plan.streams.push_back(read_stream(reading, stream, plan));
    if (plan.streams.empty()) reading.error(root, "a scenario needs `clients`");
    if (fields.has("engine")) read_engine(reading, fields["engine"], plan);
    if (fields.has("troubles_per_hour")) read_troubles(reading, fields["troubles_per_hour"], plan);
    fields.read("latency_max_ms", plan.latency_max_ms);
    fields.read("read_bytes_max", plan.read_bytes_max);
    if (fields.has("expect")) {
        const Fields expect = reading.fields(fields["expect"], "expect", {"delivered", "bounced", "duplicates_max", "lives_min"});
        expect.read("delivered", plan.expect.delivered);
        expect.read("bounced", plan.expect.bounced);
        expect.read("duplicates_max", plan.expect.duplicates_max);
        expect.read("lives_min", plan.expect.lives_min);
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
        if (maybe(0.4)) plan_.group_bytes_max = maybe(0.5) ? 1 : 8'192;
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
    Problems problems;
    Reading reading("scenario", problems);
    const YAML::Node root = reading.load(yaml);
    Plan plan = reading.failed() ? Plan() : read_plan(reading, root);
    if (reading.failed()) return fail(Errc::config, problems.all().front().text());
    return plan;
}

Plan random_plan(std::uint64_t seed) { return Swarm(seed).plan(seed); }

}  // namespace sluice::drill
