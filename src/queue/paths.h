#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "queue/names.h"
#include "queue/route.h"
#include "queue/sources.h"

namespace sluice::queue {

// A remote address and what is remembered of it, shared by every route that leads there. It stays until nobody refers to it and the mark ends.
struct Remote {
    using Key = NameId;
    NameId address = Names::empty;
    std::uint32_t holders = 0;
    Instant avoided_until;  // could not be reached; the epoch: nothing is remembered
    Chain watches;
    Key key() const { return address; }
};

// A route, prepared for decisions: a candidate is a hop. Shared by its domain, the items being tried on it and its sessions.
struct Path {
    struct Hop {
        Index remote = none;
        NameId address = Names::empty;
        NameId mx_host = Names::empty;
        NameId mx = Names::empty;  // the same in lower case, as policies see it
        NameId ip = Names::empty;  // of the address, without its port; empty for sockets of this machine
        Family family = Family::ipv4;
        std::uint32_t level = 0;
        std::uint32_t preference = 0;
        std::uint32_t first_level = 0;  // of its preference
    };
    RoutePtr route;
    std::vector<Hop> hops;
    NameId transport = Names::empty;
    NameId bind4 = Names::empty, bind6 = Names::empty;  // demanded by the route
    // Where the route demands that hosts of this family are called from; empty: nowhere.
    NameId demanded(Family family) const {
        return family == Family::ipv6 ? bind6 : family == Family::ipv4 ? bind4 : Names::empty;
    }
    std::uint32_t holders = 0;
    std::vector<Index> watches;  // one for each hop, while lanes wait for hosts of this path
};

// Lanes of a destination wait for this host, or for another because of what is believed of this one.
struct Watch {
    Index destination = none;
    Index remote = none;
    Links links;
};

// All paths in use, and the health of the remotes on them. Core-owned.
class Paths {
public:
    explicit Paths(Names& names) : names_(names) {}

    // Prepares a route that has candidates; held once.
    Index add(RoutePtr route);
    Index hold(Index path) {
        ++paths_[path].holders;
        return path;
    }
    void drop(Index path);

    const Path& operator[](Index path) const { return paths_[path]; }
    bool is_avoided(const Path::Hop& hop, Instant now) const { return remotes_[hop.remote].avoided_until > now; }
    std::optional<Instant> avoided_until(const Path::Hop& hop, Instant now) const {
        return is_avoided(hop, now) ? std::optional(remotes_[hop.remote].avoided_until) : std::nullopt;
    }
    void avoid(const Path::Hop& hop, Instant until, Instant now);
    void reached(const Path::Hop& hop, Instant now);
    // Time has come to `now`: marks end.
    void advance(Instant now);
    // When the next mark ends.
    Instant next() const { return ends_.empty() ? Instant::max() : ends_.begin()->first; }

    // From now on, while the path is in use, take_changed() gives this destination when one of the path's hosts comes to be avoided or is not
    // avoided any more.
    void watch(Index path, Index destination);
    bool is_watched(Index path) const { return !paths_[path].watches.empty(); }
    // Destinations, some perhaps gone by now, some more than once; none when that is all.
    Index take_changed();

    std::size_t size() const { return paths_.size(); }
    void audit(Instant now) const;

private:
    Path::Hop hop_to(const Candidate& candidate);
    void set_mark(Index remote, Instant until);
    void tell_changed(Index remote);
    void release(Index remote);

    Names& names_;
    Slab<Path> paths_;
    Registry<Remote> remotes_;
    Slab<Watch> watches_;
    std::set<std::pair<Instant, Index>> ends_;  // of marks
    std::vector<Index> changed_;
};

}  // namespace sluice::queue
