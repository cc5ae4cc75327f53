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

using Watching = Chained<&Watch::links>;

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
        --remotes_[hop.remote].holders;
    }
    for (const Index watch : path.watches) {
        Watching::remove(watches_, remotes_[watches_[watch].remote].watches, watch);
        watches_.remove(watch);
    }
    for (const Path::Hop& hop : path.hops) {
        if (remotes_.contains(hop.remote)) release(hop.remote);
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
    if (hop.remote == none) hop.remote = remotes_.add(Remote{names_.hold(hop.address), 0, {}, {}});
    ++remotes_[hop.remote].holders;
    return hop;
}

void Paths::release(Index at) {
    const Remote& remote = remotes_[at];
    if (remote.holders > 0 || remote.avoided_until != Instant{}) return;
    const NameId address = remote.address;
    remotes_.remove(at);
    names_.drop(address);
}

// ---- what is believed of hosts ---------------------------------------------------------------------------------

void Paths::avoid(const Path::Hop& hop, Instant until, Instant now) {
    const bool was_avoided = is_avoided(hop, now);
    if (until <= now) return reached(hop, now);
    set_mark(hop.remote, until);
    if (!was_avoided) tell_changed(hop.remote);
}

void Paths::reached(const Path::Hop& hop, Instant now) {
    const bool was_avoided = is_avoided(hop, now);
    set_mark(hop.remote, {});
    if (was_avoided) tell_changed(hop.remote);
}

void Paths::advance(Instant now) {
    while (next() <= now) {
        const Index remote = ends_.begin()->second;
        set_mark(remote, {});
        tell_changed(remote);
        release(remote);
    }
}

// Without a mark when `until` is the epoch.
void Paths::set_mark(Index at, Instant until) {
    Remote& remote = remotes_[at];
    if (remote.avoided_until != Instant{}) ends_.erase({remote.avoided_until, at});
    remote.avoided_until = until;
    if (until != Instant{}) ends_.emplace(until, at);
}

void Paths::watch(Index at, Index destination) {
    Path& path = paths_[at];
    if (!path.watches.empty()) return;
    for (const Path::Hop& hop : path.hops) {
        const Index watch = watches_.add();
        watches_[watch] = Watch{destination, hop.remote, {}};
        Watching::push_back(watches_, remotes_[hop.remote].watches, watch);
        path.watches.push_back(watch);
    }
}

void Paths::tell_changed(Index remote) {
    for (Index watch = remotes_[remote].watches.head; watch != none; watch = watches_[watch].links.next) {
        changed_.push_back(watches_[watch].destination);
    }
}

Index Paths::take_changed() {
    if (changed_.empty()) return none;
    const Index destination = changed_.back();
    changed_.pop_back();
    return destination;
}

// Every address is held by its paths or by its mark, and watched for paths that are in use.
void Paths::audit(Instant now) const {
    std::size_t marks = 0, watches = 0;
    for (Index at = 0; at < remotes_.end(); ++at) {
        if (!remotes_.contains(at)) continue;
        const Remote& remote = remotes_[at];
        const bool marked = remote.avoided_until != Instant{};
        ASSERT(remote.holders > 0 || marked);
        ASSERT(!marked || (remote.avoided_until > now && ends_.contains({remote.avoided_until, at})));
        if (marked) ++marks;
        for (Index watch = remote.watches.head; watch != none; watch = watches_[watch].links.next) {
            ASSERT(watches_[watch].remote == at);
            ++watches;
        }
        ASSERT(remote.holders > 0 || remote.watches.empty());
    }
    ASSERT(marks == ends_.size() && watches == watches_.size());
}

}  // namespace sluice::queue
