#include "queue/paths.h"

#include <string>
#include <utility>

#include "policy/pattern.h"

namespace sluice::queue {
namespace {

// Equal texts if and only if equal transports; no part can contain NUL.
std::string identity(const Transport& transport) {
    std::string text;
    for (const std::string* const part : {&transport.auth_user, &transport.auth_password, &transport.auth_type,
                                          &transport.helo, &transport.bind}) {
        text += *part;
        text += '\0';
    }
    text += static_cast<char>('0' + (transport.lmtp ? 1 : 0) + (transport.force_tls ? 2 : 0) + (transport.from_dns ? 4 : 0));
    return text;
}

}  // namespace

Index Paths::add(RoutePtr route) {
    ASSERT(route != nullptr && !route->candidates.empty());
    const Index at = paths_.add();
    Path& path = paths_[at];
    for (const Candidate& candidate : route->candidates) {
        Path::Hop hop = hop_to(candidate);
        const bool goes_on = !path.hops.empty() && path.hops.back().preference == hop.preference;
        hop.first_level = goes_on ? path.hops.back().first_level : hop.level;
        path.hops.push_back(hop);
    }
    path.transport = names_.intern(identity(route->transport));
    const std::string& bind = route->transport.bind;
    const bool is_ipv6 = bind.find(':') != std::string::npos;
    path.bind4 = names_.intern(is_ipv6 ? std::string() : bind);
    path.bind6 = names_.intern(is_ipv6 ? bind : std::string());
    path.route = std::move(route);
    path.holders = 1;
    return at;
}

void Paths::drop(Index at) {
    Path& path = paths_[at];
    ASSERT(path.holders > 0);
    if (--path.holders > 0) return;
    for (const Path::Hop& hop : path.hops) {
        names_.drop(hop.mx_host);
        names_.drop(hop.address);
        names_.drop(hop.mx);
        names_.drop(hop.ip);
        if (--remotes_[hop.remote].holders == 0) remotes_.remove(hop.remote);
    }
    for (const NameId name : {path.transport, path.bind4, path.bind6}) names_.drop(name);
    paths_.remove(at);
}

Path::Hop Paths::hop_to(const Candidate& candidate) {
    Path::Hop hop;
    hop.address = names_.intern(candidate.remote);
    hop.mx_host = names_.intern(candidate.mx_host);
    hop.mx = names_.intern(policy::normal(policy::FieldType::domain, candidate.mx_host));
    hop.ip = names_.intern(ip_of(candidate.remote));
    hop.family = family_of(candidate.remote);
    hop.level = candidate.level;
    hop.preference = candidate.preference;
    hop.remote = remotes_.find(hop.address);
    if (hop.remote == none) hop.remote = remotes_.add(Remote{hop.address, 0, {}});
    ++remotes_[hop.remote].holders;
    return hop;
}

}  // namespace sluice::queue
