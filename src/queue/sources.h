#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "queue/names.h"

namespace sluice::queue {

enum class Family : std::uint8_t { ipv4, ipv6, local };
// Of a candidate's `remote`: "192.0.2.1:25", "[2001:db8::1]:25", "/run/lmtp".
Family family_of(std::string_view remote);
// The address in it, without brackets and port; empty for a socket path. Borrows.
std::string_view ip_of(std::string_view remote);

// Which addresses of the pools an item goes out from, as places in the pools. Value.
struct SourceChoice {
    std::uint16_t ipv4 = 0;
    std::uint16_t ipv6 = 0;
    friend bool operator==(const SourceChoice&, const SourceChoice&) = default;
};

// The pools of local addresses, and which of them do not work at present. Core-owned.
class Sources {
public:
    explicit Sources(Names& names) : names_(names) {}
    ~Sources();
    Sources(const Sources&) = delete;
    Sources& operator=(const Sources&) = delete;

    // Addresses that stay keep their memory. At most 65,535 of each family count.
    void configure(const std::vector<std::string>& ipv4, const std::vector<std::string>& ipv6);
    // pool[(mx_hash ^ source_hash) % pool.size()] of each family: the same correspondents keep the same source.
    SourceChoice choose(std::uint32_t mx_hash, std::uint32_t source_hash) const;
    // The chosen address, or the next one in the pool that works; Names::empty when the pool is empty.
    NameId address(Family family, SourceChoice choice, Instant now) const;
    void avoid(NameId address, Instant until);
    bool is_avoided(NameId address, Instant now) const { return avoided_until(address) > now; }

private:
    struct Source {
        NameId address;
        Instant avoided_until;
    };
    std::vector<Source> build(const std::vector<std::string>& addresses);
    Instant avoided_until(NameId address) const;

    Names& names_;
    std::vector<Source> ipv4_, ipv6_;
};

}  // namespace sluice::queue
