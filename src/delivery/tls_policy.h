#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "config/settings.h"
#include "delivery/client_session.h"
#include "delivery/host_memory.h"
#include "net/address.h"
#include "net/tls.h"
#include "queue/route.h"

namespace sluice::delivery {

// Under which policy a connection was opened. Value.
struct TlsState {
    TlsMode mode = TlsMode::off;
    std::uint64_t generation = 0;
};

// Whether mail to a host goes in TLS, with which context, and which hosts' TLS is known to be broken. Shard-owned.
//
// Mandatory and verified: the route demands it, or force_tls_hosts names the address, MX host or recipient domain; nothing beats that. Then
// as delivery.yaml demands. Then off: enable_tls is off, or no_tls_hosts names them (addresses and networks too). Opportunistic otherwise.
// Where any certificate is good enough and TLS need not be, a host whose TLS failed in the last broken_tls_expiry gets mail in clear.
class TlsPolicy {
public:
    // Reads the certificate files; the error names the one that is wrong, and the policy stays as it was.
    Result<> configure(const config::Settings& settings);

    using Demand = std::optional<policy::TlsDemand>;
    TlsMode mode_for(const queue::Route& route, const queue::Candidate& candidate, Demand demand, Instant now) const;
    std::shared_ptr<net::TlsContext> context_for(TlsMode mode) const;
    // For a new connection of this mode.
    TlsState state_of(TlsMode mode) const { return {mode, generation_}; }
    // Whether mail on this route may use a connection that was opened in that state, to that host: only when nothing
    // that it demands is missing, and the settings are still the same (ST-10).
    bool may_carry(
        const TlsState& state, const queue::Route& route, const queue::Candidate& candidate, Demand demand, Instant now) const;
    // The handshake failed where it was opportunistic: this host gets mail in clear for broken_tls_expiry (TL-3).
    void remember_broken(const queue::Candidate& candidate, Instant now);

private:
    struct HostList {
        std::vector<std::string> names;  // lower case
        std::vector<net::Cidr> networks;
        void assign(const std::vector<std::string>& entries);
        bool has(const queue::Route& route, const queue::Candidate& candidate) const;
    };

    config::OutboundTlsSettings applied_;
    std::uint64_t generation_ = 0;  // of the settings
    bool enabled_ = true;
    HostList never_, always_;
    Duration broken_expiry_{0};
    std::shared_ptr<net::TlsContext> trusting_, verifying_;
    HostMemory broken_;
};

}  // namespace sluice::delivery
