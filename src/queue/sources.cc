#include "queue/sources.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace sluice::queue {

Sources::~Sources() { release(); }

void Sources::release() {
    for (const Pool& pool : pools_) {
        if (pool.transport != Names::empty) names_.drop(pool.transport);
        for (const Row& row : pool.rows) {
            for (const Source& source : row) {
                names_.drop(source.local.address);
                names_.drop(source.local.helo);
            }
        }
    }
}

void Sources::configure(
    const std::vector<std::string>& ipv4, const std::vector<std::string>& ipv6, const std::vector<LocalPool>& transports) {
    LocalPool usual;
    usual.order = LocalPool::Order::sticky;
    for (const auto* const addresses : {&ipv4, &ipv6}) {
        for (const std::string& address : *addresses) usual.sources.push_back({address, 1, {}});
    }
    std::vector<Pool> pools{build(usual)};
    for (const LocalPool& pool : transports) {
        if (!pool.sources.empty() && !pool.transport.empty()) pools.push_back(build(pool));
    }
    release();
    pools_ = std::move(pools);
    by_transport_.clear();
    for (Index at = 1; at < pools_.size(); ++at) by_transport_.emplace(pools_[at].transport, at);
}

Sources::Pool Sources::build(const LocalPool& from) const {
    constexpr std::size_t size_max = std::numeric_limits<std::uint16_t>::max();
    Pool pool;
    pool.order = from.order;
    if (!from.transport.empty()) pool.transport = names_.intern(from.transport);
    for (const LocalPool::Source& source : from.sources) {
        const bool is_ipv6 = source.address.find(':') != std::string::npos;
        Row& row = pool.rows[static_cast<unsigned>(is_ipv6 ? Family::ipv6 : Family::ipv4)];
        if (row.size() == size_max) continue;
        const NameId address = names_.intern(source.address);
        const Local local{address, names_.intern(source.helo)};
        row.push_back({local, avoided_until(address), std::max<std::int64_t>(source.weight, 1), 0});
    }
    return pool;
}

Index Sources::pool_of(NameId transport) const {
    if (by_transport_.empty()) return 0;
    const auto found = by_transport_.find(transport);
    return found == by_transport_.end() ? 0 : found->second;
}

bool Sources::serves(Index pool, Family family) const {
    return pool == 0 || family == Family::local || !row_of(pool, family).empty();
}

SourceChoice Sources::choose(Index pool, std::uint32_t mx_hash, std::uint32_t source_hash) const {
    SourceChoice choice;
    if (!is_sticky(pool)) return choice;
    const std::uint32_t hash = mx_hash ^ source_hash;
    const Row& ipv4 = row_of(pool, Family::ipv4);
    const Row& ipv6 = row_of(pool, Family::ipv6);
    if (!ipv4.empty()) choice.ipv4 = static_cast<std::uint16_t>(hash % ipv4.size());
    if (!ipv6.empty()) choice.ipv6 = static_cast<std::uint16_t>(hash % ipv6.size());
    return choice;
}

// Whose turn it is, healthy or not; the row is not empty.
std::size_t Sources::first_of(const Pool& pool, Family family, SourceChoice choice) {
    const Row& row = pool.rows[static_cast<unsigned>(family)];
    switch (pool.order) {
        case LocalPool::Order::sticky: return (family == Family::ipv6 ? choice.ipv6 : choice.ipv4) % row.size();
        case LocalPool::Order::fill: return 0;
        case LocalPool::Order::spread: break;
    }
    const auto owed = [](const Source& source) { return source.credit + source.weight; };
    const auto most = std::max_element(row.begin(), row.end(), [&](const Source& a, const Source& b) { return owed(a) < owed(b); });
    return static_cast<std::size_t>(most - row.begin());
}

Local Sources::preferred(Index pool, Family family, SourceChoice choice, Instant now) const {
    if (family == Family::local || row_of(pool, family).empty()) return {};
    const Row& row = row_of(pool, family);
    const std::size_t first = first_of(pools_[pool], family, choice);
    for (std::size_t step = 0; step < row.size(); ++step) {
        const Source& source = row[(first + step) % row.size()];
        if (source.avoided_until <= now) return source.local;
    }
    return row[first].local;  // nothing works: no reason to prefer another
}

void Sources::list(Index pool, Family family, SourceChoice choice, Instant now, std::vector<Local>& locals) const {
    locals.clear();
    if (family == Family::local || row_of(pool, family).empty()) {
        if (serves(pool, family)) locals.push_back({});
        return;
    }
    const Row& row = row_of(pool, family);
    const bool by_credit = pools_[pool].order == LocalPool::Order::spread;
    const std::size_t first = by_credit ? 0 : first_of(pools_[pool], family, choice);
    std::array<std::uint16_t, considered_max> places{};
    const std::size_t count = std::min(row.size(), considered_max);
    for (std::size_t step = 0; step < count; ++step) places[step] = static_cast<std::uint16_t>((first + step) % row.size());
    const auto end = places.begin() + static_cast<std::ptrdiff_t>(count);
    const auto rank = [&](std::uint16_t place) {
        const Source& source = row[place];
        return std::tuple(source.avoided_until > now, by_credit ? -(source.credit + source.weight) : 0, (place + row.size() - first) % row.size());
    };
    std::sort(places.begin(), end, [&](std::uint16_t a, std::uint16_t b) { return rank(a) < rank(b); });
    for (auto place = places.begin(); place != end; ++place) locals.push_back(row[*place].local);
}

// An address that could not be used for a while is owed no more than one round: it does not get everything afterwards.
void Sources::count(Index pool, Family family, NameId address) {
    if (pools_[pool].order != LocalPool::Order::spread || family == Family::local) return;
    Row& row = pools_[pool].rows[static_cast<unsigned>(family)];
    std::int64_t total = 0;
    for (const Source& source : row) total += source.weight;
    for (Source& source : row) {
        source.credit += source.weight - (source.local.address == address ? total : 0);
        source.credit = std::clamp(source.credit, -total, total);
    }
}

void Sources::avoid(NameId address, Instant until) {
    for (Pool& pool : pools_) {
        for (Row& row : pool.rows) {
            for (Source& source : row) {
                if (source.local.address == address) source.avoided_until = std::max(source.avoided_until, until);
            }
        }
    }
}

Instant Sources::avoided_until(NameId address) const {
    for (const Pool& pool : pools_) {
        for (const Row& row : pool.rows) {
            for (const Source& source : row) {
                if (source.local.address == address) return source.avoided_until;
            }
        }
    }
    return {};
}

}  // namespace sluice::queue
