#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/settings.h"
#include "dns/finding.h"
#include "queue/route.h"

namespace sluice::dns {

// A route has no more candidates than this, however many hosts and addresses DNS names (DNS-2).
inline constexpr std::size_t candidates_max = 256;

// One host that may take the mail, and what DNS said about its addresses. Value.
struct MxHost {
    std::uint16_t preference = 0;
    std::string name;
    std::vector<net::IpAddress> v4, v6;
    std::optional<Error> trouble;             // an address question that got no certain answer
    std::optional<std::chrono::seconds> ttl;  // of the shortest-lived addresses
};

// Who we are and what we may contact, for one plan. Borrows; lives as long as the call.
struct PlanRules {
    std::string_view me;
    const std::vector<net::IpAddress>& ourselves;
    bool local_ok = false;  // addresses of this host and of private networks may be contacted
};

// Whether a mail host on the Internet can have the address: it is no private one (net::IpAddress::is_private), no multicast,
// reserved or abolished one, and no IPv6 form by which a translator or tunnel would reach an IPv4 address that cannot.
bool is_mail_host_address(const net::IpAddress& address);

// The hosts worth asking about, best first: null entries ("." as host) and all beyond mx_records_max are
// gone. null_mx if nothing but null entries is there (RFC 7505), whatever their preference.
Result<std::vector<MxHost>> plan_hosts(const std::string& domain, const std::vector<MxRecord>& records);

// Removes ourselves and everything not better (RFC 5321 §5.1), then addresses that mail from the Internet
// must not lead to (DNS-4). When no address is left: dns_temporary if a question is open, mail_loop if what
// was removed was this host, not_found otherwise.
Result<> remove_unreachable(const std::string& domain, std::vector<MxHost>& hosts, const PlanRules& rules);

// The addresses of hosts in the order of their preference, at most addresses_max of each, no address twice.
// Hosts of one preference share a level. There the addresses of each host alternate between IPv6 and IPv4,
// beginning with IPv6, so that racing them tries both families early (RFC 8305 §4); with inet_prefer the
// wanted family of all these hosts comes first, as a level of its own.
std::vector<queue::Candidate> arrange(
    const std::vector<MxHost>& hosts, config::OutboundSettings::InetPrefer prefer, std::uint16_t port
);

}  // namespace sluice::dns
