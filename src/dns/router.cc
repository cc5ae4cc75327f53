#include "dns/router.h"

#include <zlib.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>

#include "async/signal.h"
#include "async/task_group.h"
#include "base/text.h"
#include "dns/nexthop.h"

namespace sluice::dns {
namespace {

using std::chrono::seconds;

constexpr seconds no_limit(2'147'483'647);  // the longest TTL there is (RFC 2181 §8)
// No route is older the moment it is made, even where settings and answers say zero: it is to be used once at
// least.
constexpr seconds route_ttl_min(1);
// A route that lacks hosts because DNS was in trouble is made anew soon.
constexpr seconds incomplete_route_ttl(60);

// Wakes one waiter when as many answers are in as were asked for.
struct Countdown {
    Countdown(async::Executor executor, std::size_t count) : left(count), done(executor) {}
    void one_less() {
        if (--left == 0) done.set();
    }
    std::size_t left;
    async::Signal done;
};

// Certain denials leave the host without addresses; anything else may be different next time.
void note(
    MxHost& host, std::vector<net::IpAddress> MxHost::* family,
    Result<Answer<std::vector<net::IpAddress>>> answer
) {
    if (answer) {
        host.*family = std::move(answer->records);
        host.ttl = std::min(host.ttl.value_or(answer->ttl), answer->ttl);
    } else if (answer.error().code != Errc::dns_no_domain && answer.error().code != Errc::dns_no_data) {
        host.trouble = std::move(answer.error());
    }
}

Task<> ask_v4(Resolver& resolver, MxHost& host, Countdown& countdown) {
    auto answer = co_await resolver.a(host.name);
    note(host, &MxHost::v4, std::move(answer));
    countdown.one_less();
}

Task<> ask_v6(Resolver& resolver, MxHost& host, Countdown& countdown) {
    auto answer = co_await resolver.aaaa(host.name);
    note(host, &MxHost::v6, std::move(answer));
    countdown.one_less();
}

// An AAAA record may hold an IPv4-mapped address, which is an IPv4 address.
void sort_families(MxHost& host) {
    std::ranges::copy_if(host.v6, std::back_inserter(host.v4), &net::IpAddress::is_v4);
    std::erase_if(host.v6, [](const net::IpAddress& address) { return address.is_v4(); });
}

bool was_cancelled(const MxHost& host) {
    return host.trouble && host.trouble->code == Errc::cancelled;
}

std::optional<std::string> nexthop_of(const std::string& key, const config::RelaySettings& relay) {
    const auto own = relay.domains.find(key);
    const config::DestinationRule* rule = own != relay.domains.end() ? &own->second : nullptr;
    if (rule == nullptr && relay.any) rule = &*relay.any;
    if (rule == nullptr || rule->nexthop.empty()) return std::nullopt;
    return rule->nexthop;
}

// "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3).
std::optional<net::IpAddress> parse_literal(std::string_view key) {
    if (key.size() < 3 || !key.ends_with(']')) return std::nullopt;
    std::string_view inner = key.substr(1, key.size() - 2);
    const bool tagged = istarts_with(inner, "IPv6:");
    if (tagged) inner.remove_prefix(5);
    const auto address = net::IpAddress::parse(inner);
    const bool looks_v6 = inner.find(':') != std::string_view::npos;
    if (!address || tagged != looks_v6) return std::nullopt;
    return address;
}

void add_address(MxHost& host, const net::IpAddress& address) {
    (address.is_v4() ? host.v4 : host.v6).push_back(address);
}

std::uint32_t hash_of(const std::vector<queue::Candidate>& candidates) {
    uLong crc = crc32(0, nullptr, 0);
    for (const queue::Candidate& candidate : candidates) {
        const std::string text = candidate.remote + "\n";
        crc = crc32(crc, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()));
    }
    return static_cast<std::uint32_t>(crc);
}

}  // namespace

Router::Router(
    Resolver& resolver, const Clock& clock, config::SettingsPtr settings,
    std::vector<net::IpAddress> ourselves
)
    : resolver_(resolver), clock_(clock), settings_(std::move(settings)), ourselves_(std::move(ourselves)) {}

void Router::configure(config::SettingsPtr settings) {
    settings_ = std::move(settings);
}

Task<Result<queue::RoutePtr>> Router::resolve(std::string key, std::string via) {
    const Settings settings = settings_;
    if (!via.empty()) return by_rule(std::move(key), std::move(via), settings);
    if (auto nexthop = nexthop_of(key, settings->relay))
        return by_rule(std::move(key), std::move(*nexthop), settings);
    return by_dns(std::move(key), settings);
}

Task<Result<queue::RoutePtr>> Router::by_dns(std::string key, Settings settings) {
    if (key.starts_with('[')) co_return by_literal(key, *settings);
    CO_TRY(MxPlan plan, co_await ask_mx(key));
    co_await look_up(plan.hosts);
    if (std::ranges::any_of(plan.hosts, was_cancelled))
        co_return fail(Errc::cancelled, key + ": resolver closed");
    const MxHost& first = plan.hosts.front();
    if (plan.implicit && !first.trouble && first.v4.empty() && first.v6.empty()) {
        co_return fail(Errc::dns_no_data, key + " has neither an MX nor an address");
    }
    CO_TRY_VOID(keep_reachable(key, plan.hosts, *settings));

    queue::Route route;
    route.candidates = arrange(plan.hosts, settings->outbound.inet_prefer, settings->outbound.smtp_port);
    route.key = std::move(key);
    co_return finish(std::move(route), shortest_ttl(plan), settings->dns);
}

Task<Result<Router::MxPlan>> Router::ask_mx(std::string domain) {
    MxPlan plan;
    const auto answer = co_await resolver_.mx(domain);
    if (!answer && answer.error().code != Errc::dns_no_data) co_return fail(answer.error());
    if (answer && !answer->records.empty()) {
        CO_TRY(plan.hosts, plan_hosts(domain, answer->records));
        plan.ttl = answer->ttl;
        co_return plan;
    }
    plan.implicit = true;
    plan.hosts.emplace_back();
    plan.hosts.front().name = std::move(domain);
    co_return plan;
}

// Asks for both families of all hosts at once. Ends when every answer is in, even if the caller is cancelled
// meanwhile: the questions refer to `hosts`, and the resolver ends each of them by its deadline.
Task<> Router::look_up(std::vector<MxHost>& hosts) {
    const bool throws = co_await boost::asio::this_coro::throw_if_cancelled();
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    const async::Executor executor = co_await boost::asio::this_coro::executor;
    async::TaskGroup questions(executor);
    Countdown countdown(executor, 2 * hosts.size());
    for (MxHost& host : hosts) {
        questions.spawn(ask_v6(resolver_, host, countdown));
        questions.spawn(ask_v4(resolver_, host, countdown));
    }
    co_await countdown.done.wait();
    co_await questions.close();
    co_await boost::asio::this_coro::throw_if_cancelled(throws);
    for (MxHost& host : hosts)
        sort_families(host);
}

Result<> Router::keep_reachable(
    const std::string& key, std::vector<MxHost>& hosts, const config::Settings& settings
) const {
    std::vector<net::IpAddress> ourselves = ourselves_;
    if (const auto outside = net::IpAddress::parse(settings.smtp.public_ip)) ourselves.push_back(*outside);
    return remove_unreachable(key, hosts, PlanRules{settings.me, ourselves, settings.outbound.local_mx_ok});
}

Result<queue::RoutePtr> Router::by_literal(const std::string& key, const config::Settings& settings) const {
    const auto address = parse_literal(key);
    if (!address) return fail(Errc::bad_input, printable(key) + " is not an address literal");
    std::vector<MxHost> hosts(1);
    hosts.front().name = address->text();
    add_address(hosts.front(), *address);
    TRY_VOID(keep_reachable(key, hosts, settings));

    queue::Route route;
    route.key = key;
    route.candidates = arrange(hosts, settings.outbound.inet_prefer, settings.outbound.smtp_port);
    return finish(std::move(route), no_limit, settings.dns);
}

// The operator's own word: nothing is removed, and no answer of DNS about the nexthop is final for the mail.
Task<Result<queue::RoutePtr>> Router::by_rule(std::string key, std::string text, Settings settings) {
    auto nexthop = parse_nexthop(text);
    if (!nexthop)
        co_return fail(Errc::config, "nexthop of " + key + ": " + nexthop.error().detail);

    queue::Route route;
    route.transport = std::move(nexthop->transport);
    seconds ttl(0
    );  // the rule may change with the next reload; making this route again costs next to nothing
    if (!nexthop->path.empty()) {
        route.candidates.push_back(queue::Candidate{nexthop->path, nexthop->path, 0});
    } else {
        CO_TRY(MxPlan plan, co_await ask_nexthop(*nexthop));
        route.candidates = arrange(plan.hosts, settings->outbound.inet_prefer, nexthop->port);
        if (plan.ttl) ttl = *plan.ttl;
    }
    route.key = std::move(key);
    co_return finish(std::move(route), ttl, settings->dns);
}

Task<Result<queue::RoutePtr>> Router::to_hosts(std::string key, std::vector<Nexthop> hosts) {
    const Settings settings = settings_;
    queue::Route route;
    std::optional<Error> trouble;
    seconds ttl = no_limit;
    std::uint32_t level = 0;
    for (const Nexthop& host : hosts) {
        if (!host.path.empty()) {
            route.candidates.push_back(queue::Candidate{host.path, host.path, level++});
            continue;
        }
        auto plan = co_await ask_nexthop(host);
        if (!plan) {
            if (plan.error().code == Errc::cancelled) co_return fail(plan.error());
            if (!trouble) trouble = plan.error();
            continue;
        }
        if (plan->ttl) ttl = std::min(ttl, *plan->ttl);
        std::uint32_t next_level = level;
        for (queue::Candidate& candidate : arrange(plan->hosts, settings->outbound.inet_prefer, host.port)) {
            candidate.level += level;
            next_level = std::max(next_level, candidate.level + 1);
            if (route.candidates.size() < candidates_max) route.candidates.push_back(std::move(candidate));
        }
        level = next_level;
    }
    if (route.candidates.empty()) co_return fail(trouble.value_or(Error(Errc::not_found, "no host was named")));
    route.transport = hosts.front().transport;
    route.key = std::move(key);
    co_return finish(std::move(route), ttl, settings->dns);
}

// The addresses of the nexthop as a plan of one host.
Task<Result<Router::MxPlan>> Router::ask_nexthop(Nexthop nexthop) {
    MxPlan plan;
    MxHost& host = plan.hosts.emplace_back();
    host.name = nexthop.address ? nexthop.address->text() : nexthop.host;
    if (nexthop.address) {
        add_address(host, *nexthop.address);
        co_return plan;
    }
    if (host.name == "localhost") {  // the operator means this machine (RFC 6761 §6.3), whatever DNS says
        add_address(host, *net::IpAddress::parse("127.0.0.1"));
        add_address(host, *net::IpAddress::parse("::1"));
        co_return plan;
    }
    co_await look_up(plan.hosts);
    if (was_cancelled(host)) co_return fail(*host.trouble);
    if (host.v4.empty() && host.v6.empty()) {
        if (host.trouble) co_return fail(*host.trouble);
        co_return fail(Errc::not_found, "nexthop " + host.name + " has no address");
    }
    plan.ttl = shortest_ttl(plan);
    co_return plan;
}

seconds Router::shortest_ttl(const MxPlan& plan) const {
    seconds ttl = plan.ttl.value_or(no_limit);
    for (const MxHost& host : plan.hosts) {
        if (host.ttl) ttl = std::min(ttl, *host.ttl);
        if (host.trouble) ttl = std::min(ttl, incomplete_route_ttl);
    }
    return ttl;
}

queue::RoutePtr Router::finish(queue::Route route, seconds ttl, const config::DnsSettings& settings) const {
    const Duration longest = std::max<Duration>(settings.cache_ttl_max, route_ttl_min);
    const Duration shortest = std::clamp<Duration>(settings.cache_ttl_min, route_ttl_min, longest);
    const Duration kept = std::clamp<Duration>(ttl, shortest, longest);
    route.mx_hash = hash_of(route.candidates);
    route.expires = clock_.now() + kept;
    return std::make_shared<const queue::Route>(std::move(route));
}

}  // namespace sluice::dns
