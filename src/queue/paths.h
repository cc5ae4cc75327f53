#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "queue/names.h"
#include "queue/route.h"
#include "queue/sources.h"

namespace sluice::queue {

// A remote address and what is remembered of it, shared by every route that leads there.
struct Remote {
    using Key = NameId;
    NameId address = Names::empty;
    std::uint32_t holders = 0;
    Instant avoided_until;  // could not be reached
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
    void avoid(const Path::Hop& hop, Instant until) { remotes_[hop.remote].avoided_until = until; }
    void reached(const Path::Hop& hop) { remotes_[hop.remote].avoided_until = {}; }
    std::size_t size() const { return paths_.size(); }

private:
    Path::Hop hop_to(const Candidate& candidate);

    Names& names_;
    Slab<Path> paths_;
    Registry<Remote> remotes_;
};

}  // namespace sluice::queue
