#pragma once

#include "base/clock.h"
#include "config/settings.h"
#include "dns/resolver.h"
#include "queue/route.h"

namespace sluice::dns {

// Makes the route of a routing key (domain or address literal): static routes of relay_dest_domains.ini first, then the
// MX plan (RFC 5321 §5.1): MX, implicit MX only on a certain "no such data", null MX (RFC 7505), A and AAAA of every host,
// inet_prefer within a preference, ourselves and everything not better removed, caps against hostile answers.
//
// Errors decide the items: dns_no_domain, null_mx, mail_loop (5.4.6) are permanent; dns_temporary is not; not_found:
// no MX host has an address (temporary until the lifetime ends).
class Router {
public:
    Router(Resolver& resolver, const Clock& clock, config::SettingsPtr settings, std::vector<net::IpAddress> ourselves);
    Task<Result<queue::RoutePtr>> resolve(std::string key);
    void configure(config::SettingsPtr settings);

private:
    Resolver& resolver_;
    const Clock& clock_;
    config::SettingsPtr settings_;
    std::vector<net::IpAddress> ourselves_;
};

}  // namespace sluice::dns
