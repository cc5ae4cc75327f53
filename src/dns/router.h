#pragma once

#include "base/clock.h"
#include "config/settings.h"
#include "dns/mx_plan.h"
#include "dns/nexthop.h"
#include "dns/resolver.h"
#include "queue/route.h"

namespace sluice::dns {

// Makes the route of a routing key (domain or address literal): static routes of relay_dest_domains.ini
// first, then the MX plan (RFC 5321 §5.1): MX, implicit MX only on a certain "no such data", null MX (RFC
// 7505), A and AAAA of every host, inet_prefer within a preference, ourselves and everything not better
// removed, caps against hostile answers.
//
// A domain's own rule wins over `any`, even when it names no nexthop and so means DNS. A nexthop that is a
// name is looked up by address, never by MX; "localhost" there is this machine. Static routes may lead to
// local addresses.
//
// Errors decide the items: dns_no_domain, dns_no_data (neither MX nor address), null_mx, mail_loop (5.4.6)
// are permanent; dns_temporary is not; not_found: no MX host has an address that may be contacted (temporary
// until the lifetime ends); config: the nexthop is malformed (temporary); bad_input: the key is a malformed
// literal; cancelled. Shard-owned, like its resolver.
class Router {
public:
    // `ourselves`: the addresses of this host; smtp.ini's public_ip counts besides them.
    Router(
        Resolver& resolver, const Clock& clock, config::SettingsPtr settings,
        std::vector<net::IpAddress> ourselves
    );
    // The key comes from Address::routing_domain(). Takes as long as two questions of the resolver at most.
    // `via`: a nexthop that wins over every rule; empty: none.
    Task<Result<queue::RoutePtr>> resolve(std::string key, std::string via = {});
    // The route to hosts that a plugin names, in the order given, each on a level of its own. They share the transport of
    // the first. Hosts that have no address now are left out; an error when none is left: the first host's.
    Task<Result<queue::RoutePtr>> to_hosts(std::string key, std::vector<Nexthop> hosts);
    // Resolutions under way end with the settings they began with.
    void configure(config::SettingsPtr settings);

private:
    using Settings = config::SettingsPtr;
    struct MxPlan {
        std::vector<MxHost> hosts;
        bool implicit = false;  // no MX: the domain itself (RFC 5321 §5.1)
        std::optional<std::chrono::seconds> ttl;
    };

    Task<Result<queue::RoutePtr>> by_dns(std::string key, Settings settings);
    Task<Result<queue::RoutePtr>> by_rule(std::string key, std::string nexthop, Settings settings);
    Result<queue::RoutePtr> by_literal(const std::string& key, const config::Settings& settings) const;

    Task<Result<MxPlan>> ask_mx(std::string domain);
    Task<Result<MxPlan>> ask_nexthop(Nexthop nexthop);
    Task<> look_up(std::vector<MxHost>& hosts);
    Result<> keep_reachable(
        const std::string& key, std::vector<MxHost>& hosts, const config::Settings& settings
    ) const;
    queue::RoutePtr finish(queue::Route route, std::chrono::seconds ttl, const config::DnsSettings& settings)
        const;
    std::chrono::seconds shortest_ttl(const MxPlan& plan) const;

    Resolver& resolver_;
    const Clock& clock_;
    config::SettingsPtr settings_;
    std::vector<net::IpAddress> ourselves_;
};

}  // namespace sluice::dns
