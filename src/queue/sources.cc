#include "queue/sources.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace sluice::queue {

Family family_of(std::string_view remote) {
    if (remote.starts_with('[')) return Family::ipv6;
    return remote.starts_with('/') ? Family::local : Family::ipv4;
}

std::string_view ip_of(std::string_view remote) {
    switch (family_of(remote)) {
        case Family::ipv4: return remote.substr(0, remote.rfind(':'));
        case Family::ipv6: return remote.substr(1, remote.find(']') - 1);
        case Family::local: return {};
    }
    UNREACHABLE();
}

Sources::~Sources() { configure({}, {}); }

void Sources::configure(const std::vector<std::string>& ipv4, const std::vector<std::string>& ipv6) {
    std::vector<Source> next4 = build(ipv4);
    std::vector<Source> next6 = build(ipv6);
    for (std::vector<Source>* const old : {&ipv4_, &ipv6_}) {
        for (const Source& source : *old) names_.drop(source.address);
    }
    ipv4_ = std::move(next4);
    ipv6_ = std::move(next6);
}

SourceChoice Sources::choose(std::uint32_t mx_hash, std::uint32_t source_hash) const {
    const std::uint32_t hash = mx_hash ^ source_hash;
    SourceChoice choice;
    if (!ipv4_.empty()) choice.ipv4 = static_cast<std::uint16_t>(hash % ipv4_.size());
    if (!ipv6_.empty()) choice.ipv6 = static_cast<std::uint16_t>(hash % ipv6_.size());
    return choice;
}

NameId Sources::address(Family family, SourceChoice choice, Instant now) const {
    const std::vector<Source>& pool = family == Family::ipv6 ? ipv6_ : ipv4_;
    if (family == Family::local || pool.empty()) return Names::empty;
    const std::size_t first = family == Family::ipv6 ? choice.ipv6 : choice.ipv4;
    for (std::size_t step = 0; step < pool.size(); ++step) {
        const Source& source = pool[(first + step) % pool.size()];
        if (source.avoided_until <= now) return source.address;
    }
    return pool[first % pool.size()].address;  // nothing works: no reason to prefer another
}

void Sources::avoid(NameId address, Instant until) {
    for (std::vector<Source>* const pool : {&ipv4_, &ipv6_}) {
        for (Source& source : *pool) {
            if (source.address == address) source.avoided_until = std::max(source.avoided_until, until);
        }
    }
}

std::vector<Sources::Source> Sources::build(const std::vector<std::string>& addresses) {
    constexpr std::size_t size_max = std::numeric_limits<std::uint16_t>::max();
    std::vector<Source> pool;
    for (std::size_t i = 0; i < std::min(addresses.size(), size_max); ++i) {
        const NameId address = names_.intern(addresses[i]);
        pool.push_back({address, avoided_until(address)});
    }
    return pool;
}

Instant Sources::avoided_until(NameId address) const {
    for (const std::vector<Source>* const pool : {&ipv4_, &ipv6_}) {
        for (const Source& source : *pool) {
            if (source.address == address) return source.avoided_until;
        }
    }
    return {};
}

}  // namespace sluice::queue
