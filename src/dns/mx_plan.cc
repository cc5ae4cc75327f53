#include "dns/mx_plan.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <array>
#include <span>
#include <tuple>

#include "base/text.h"

namespace sluice::dns {
namespace {

using InetPrefer = config::OutboundSettings::InetPrefer;
using Addresses = std::vector<net::IpAddress>;

bool contains(const Addresses& addresses, const net::IpAddress& wanted) {
    return std::ranges::find(addresses, wanted) != addresses.end();
}

// Loopback is not counted here: an MX that points to it is a mistake of that domain, and its other hosts stay
// good.
bool is_this_host(const net::IpAddress& address, const PlanRules& rules) {
    return !rules.local_ok && !address.is_loopback() && !address.is_unspecified() &&
           contains(rules.ourselves, address);
}

bool is_this_host(const MxHost& host, const PlanRules& rules) {
    const auto ours = [&rules](const net::IpAddress& address) { return is_this_host(address, rules); };
    return iequals(host.name, rules.me) || std::ranges::any_of(host.v4, ours) ||
           std::ranges::any_of(host.v6, ours);
}

// The name of the best host that is us, if one is.
std::optional<std::string> remove_ourselves(std::vector<MxHost>& hosts, const PlanRules& rules) {
    const auto us =
        std::ranges::find_if(hosts, [&rules](const MxHost& host) { return is_this_host(host, rules); });
    if (us == hosts.end()) return std::nullopt;
    std::string name = us->name;
    const std::uint16_t preference = us->preference;
    std::erase_if(hosts, [preference](const MxHost& host) { return host.preference >= preference; });
    return name;
}

net::IpAddress embedded_v4(const net::IpAddress& address, std::size_t from) {
    std::uint32_t v4 = 0;
    for (std::size_t i = from; i < from + 4; ++i) v4 = v4 << 8 | address.bytes().at(i);
    return net::IpAddress::v4(v4);
}

struct Removed {
    bool loopback = false;
    bool other = false;
};

void remove_local(Addresses& addresses, Removed& removed) {
    std::erase_if(addresses, [&removed](const net::IpAddress& address) {
        const bool loopback = address.is_loopback() || address.is_unspecified();
        const bool other = !loopback && !is_mail_host_address(address);
        removed.loopback |= loopback;
        removed.other |= other;
        return loopback || other;
    });
}

bool has_address(const MxHost& host) {
    return !host.v4.empty() || !host.v6.empty();
}

Addresses first_of(Addresses addresses) {
    if (addresses.size() > addresses_max) addresses.resize(addresses_max);
    return addresses;
}

// IPv6 and IPv4 in turn, as long as there are any of each.
Addresses interleave(const MxHost& host) {
    Addresses mixed;
    for (std::size_t i = 0; i < std::max(host.v4.size(), host.v6.size()); ++i) {
        if (i < host.v6.size()) mixed.push_back(host.v6[i]);
        if (i < host.v4.size()) mixed.push_back(host.v4[i]);
    }
    return first_of(std::move(mixed));
}

// Collects candidates, level by level.
class Arrangement {
public:
    explicit Arrangement(std::uint16_t port) : port_(port) {}

    void add(const MxHost& host, const Addresses& addresses) {
        for (const net::IpAddress& address : addresses) {
            if (candidates_.size() == candidates_max) return;
            if (!seen_.insert(address).second) continue;
            candidates_.push_back(queue::Candidate{host.name, net::Endpoint(address, port_).text(), level_, preference_});
        }
    }
    // What follows is less preferred. Levels have no gaps.
    void end_level() {
        if (!candidates_.empty() && candidates_.back().level == level_) ++level_;
    }
    // What follows has another MX preference.
    void end_preference() { preference_ = level_; }
    std::vector<queue::Candidate> take() { return std::move(candidates_); }

private:
    std::uint16_t port_;
    std::uint32_t level_ = 0;
    std::uint32_t preference_ = 0;
    absl::flat_hash_set<net::IpAddress> seen_;
    std::vector<queue::Candidate> candidates_;
};

void add_group(std::span<const MxHost> group, InetPrefer prefer, Arrangement& arrangement) {
    if (prefer == InetPrefer::standard) {
        for (const MxHost& host : group)
            arrangement.add(host, interleave(host));
        arrangement.end_level();
        return;
    }
    const auto wanted = prefer == InetPrefer::v4 ? &MxHost::v4 : &MxHost::v6;
    const auto other = prefer == InetPrefer::v4 ? &MxHost::v6 : &MxHost::v4;
    for (const MxHost& host : group)
        arrangement.add(host, first_of(host.*wanted));
    arrangement.end_level();
    for (const MxHost& host : group) {
        Addresses rest = host.*other;
        rest.resize(std::min(rest.size(), addresses_max - std::min(addresses_max, (host.*wanted).size())));
        arrangement.add(host, rest);
    }
    arrangement.end_level();
}

}  // namespace

bool is_mail_host_address(const net::IpAddress& address) {
    // Those of the IANA special-purpose registries (RFC 6890) that lead nowhere, or somewhere else than to one host. The
    // networks of examples (RFC 5737, RFC 3849) are not among them: nothing answers there.
    static const std::array<net::Cidr, 9> elsewhere = {
        *net::Cidr::parse("192.0.0.0/24"),    // of protocols
        *net::Cidr::parse("198.18.0.0/15"),   // of test beds (RFC 2544)
        *net::Cidr::parse("224.0.0.0/4"),     // multicast
        *net::Cidr::parse("240.0.0.0/4"),     // reserved, and broadcast
        *net::Cidr::parse("::/96"),           // IPv4-compatible, abolished (RFC 4291 §2.5.5.1)
        *net::Cidr::parse("64:ff9b:1::/48"),  // a network's own translators (RFC 8215)
        *net::Cidr::parse("100::/64"),        // discarded (RFC 6666)
        *net::Cidr::parse("fec0::/10"),       // site-local, abolished (RFC 3879)
        *net::Cidr::parse("ff00::/8")         // multicast
    };
    static const net::Cidr nat64 = *net::Cidr::parse("64:ff9b::/96");     // RFC 6052
    static const net::Cidr six_to_four = *net::Cidr::parse("2002::/16");  // RFC 3056

    if (address.is_private()) return false;
    if (nat64.contains(address)) return is_mail_host_address(embedded_v4(address, 12));
    if (six_to_four.contains(address)) return is_mail_host_address(embedded_v4(address, 2));
    return std::ranges::none_of(elsewhere, [&](const net::Cidr& network) { return network.contains(address); });
}

Result<std::vector<MxHost>> plan_hosts(const std::string& domain, const std::vector<MxRecord>& records) {
    std::vector<MxHost> hosts;
    for (const MxRecord& record : records) {
        if (record.host.empty()) continue;
        MxHost host;
        host.preference = record.preference;
        host.name = record.host;
        hosts.push_back(std::move(host));
    }
    if (hosts.empty()) return fail(Errc::null_mx, domain + " accepts no mail (null MX)");
    std::ranges::sort(hosts, {}, [](const MxHost& host) { return std::tie(host.preference, host.name); });
    if (hosts.size() > mx_records_max) hosts.resize(mx_records_max);
    return hosts;
}

Result<> remove_unreachable(const std::string& domain, std::vector<MxHost>& hosts, const PlanRules& rules) {
    const auto us = remove_ourselves(hosts, rules);
    Removed removed;
    if (!rules.local_ok) {
        for (MxHost& host : hosts) {
            remove_local(host.v4, removed);
            remove_local(host.v6, removed);
        }
    }
    if (std::ranges::any_of(hosts, has_address)) return {};

    const auto open =
        std::ranges::find_if(hosts, [](const MxHost& host) { return host.trouble.has_value(); });
    if (open != hosts.end()) return fail(*open->trouble);
    if (us) return fail(Errc::mail_loop, "mail for " + domain + " would come back: " + *us + " is this host");
    if (removed.loopback && !removed.other) {
        return fail(
            Errc::mail_loop, "mail for " + domain + " would come back: its MX points to a loopback address"
        );
    }
    if (removed.other) {
        return fail(
            Errc::not_found, "the MX of " + domain + " has only addresses that are not public, which local_mx_ok forbids"
        );
    }
    return fail(Errc::not_found, "no MX host of " + domain + " has an address");
}

std::vector<queue::Candidate> arrange(
    const std::vector<MxHost>& hosts, config::OutboundSettings::InetPrefer prefer, std::uint16_t port
) {
    Arrangement arrangement(port);
    for (auto begin = hosts.begin(); begin != hosts.end();) {
        const auto end = std::find_if(begin, hosts.end(), [begin](const MxHost& host) {
            return host.preference != begin->preference;
        });
        add_group(std::span(begin, end), prefer, arrangement);
        arrangement.end_preference();
        begin = end;
    }
    return arrangement.take();
}

}  // namespace sluice::dns
