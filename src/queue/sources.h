#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "queue/core.h"
#include "queue/names.h"
#include "queue/remote.h"

namespace sluice::queue {

// An address to call from, and the EHLO name that belongs to it. Empty: the kernel's choice, the usual name. Value.
struct Local {
    NameId address = Names::empty;
    NameId helo = Names::empty;
    friend bool operator==(const Local&, const Local&) = default;
};

// Which addresses of a sticky pool an item prefers, as places in it. Value.
struct SourceChoice {
    std::uint16_t ipv4 = 0;
    std::uint16_t ipv6 = 0;
    friend bool operator==(const SourceChoice&, const SourceChoice&) = default;
};

// The pools of local addresses, and which of them do not work at present. Pool 0 is for mail whose transport has none of its own.
// Core-owned.
class Sources {
public:
    // A decision looks at no more addresses of a family; of a larger pool at those from the preferred one on.
    static constexpr std::size_t considered_max = policy::local_addresses_max;

    explicit Sources(Names& names) : names_(names) {}
    ~Sources();
    Sources(const Sources&) = delete;
    Sources& operator=(const Sources&) = delete;

    // Addresses that stay keep their memory. At most 65,535 of each family count.
    void configure(const std::vector<std::string>& ipv4, const std::vector<std::string>& ipv6, const std::vector<LocalPool>& transports);
    Index pool_of(NameId transport) const;
    bool is_sticky(Index pool) const { return pools_[pool].order == LocalPool::Order::sticky; }
    // False: the pool has addresses, but none of this family.
    bool serves(Index pool, Family family) const;
    // Of a sticky pool place (mx_hash ^ source_hash) % size in each family: the same correspondents keep the same source.
    SourceChoice choose(Index pool, std::uint32_t mx_hash, std::uint32_t source_hash) const;
    // The address to call from unless something speaks against it.
    Local preferred(Index pool, Family family, SourceChoice choice, Instant now) const;
    // All to be considered, the preferred first, those that do not work last; replaces what is in `locals`.
    void list(Index pool, Family family, SourceChoice choice, Instant now, std::vector<Local>& locals) const;
    // A message goes out from this address: what the weights are about.
    void count(Index pool, Family family, NameId address);
    void avoid(NameId address, Instant until);
    bool is_avoided(NameId address, Instant now) const { return avoided_until(address) > now; }

private:
    struct Source {
        Local local;
        Instant avoided_until;
        std::int64_t weight = 1;
        std::int64_t credit = 0;  // smooth weighted round robin: who is owed most goes first
    };
    using Row = std::vector<Source>;
    struct Pool {
        NameId transport = Names::empty;
        LocalPool::Order order = LocalPool::Order::sticky;
        std::array<Row, 2> rows;  // by family
    };
    Pool build(const LocalPool& pool) const;
    void release();
    static std::size_t first_of(const Pool& pool, Family family, SourceChoice choice);
    Instant avoided_until(NameId address) const;
    const Row& row_of(Index pool, Family family) const { return pools_[pool].rows[static_cast<unsigned>(family)]; }

    Names& names_;
    std::vector<Pool> pools_{Pool()};
    absl::flat_hash_map<NameId, Index> by_transport_;
};

}  // namespace sluice::queue
