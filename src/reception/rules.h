#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/settings.h"
#include "net/address.h"
#include "net/tls.h"

namespace sluice::reception {

// Waits and counts that no setting names. Value.
struct Patience {
    using Milliseconds = std::chrono::milliseconds;
    Milliseconds proxy_wait{30'000};       // for the PROXY header, then 421 (as Haraka)
    Milliseconds handshake{60'000};        // for a TLS handshake
    Milliseconds auth_delay_first{1'000};  // doubled with every failed AUTH ...
    Milliseconds auth_delay_max{16'000};   // ... up to this
    std::uint32_t auth_failures_max = 5;   // then 421
    Milliseconds linger{2'000};            // how long a refused client may go on talking, so that it reads our reply
};

// What the settings mean to a session, worked out once per configuration. Immutable, shared by sessions.
struct Rules {
    config::SettingsPtr settings;
    std::shared_ptr<net::TlsContext> tls;  // null: no STARTTLS, and no listener speaks TLS
    std::vector<net::Cidr> relay_allow;
    std::vector<net::Cidr> proxy_hosts;
    std::vector<net::Cidr> no_tls_hosts;
    std::map<std::string, std::string, std::less<>> destinations;  // routing domain → accept | continue | deny
    Patience patience;

    bool relays_for(const net::IpAddress& client) const;
    bool is_proxy(const net::IpAddress& peer) const;
    // Whether connections to this listener begin with a TLS handshake.
    bool implicit_tls(const net::Endpoint& listener) const;
    bool offers_starttls(const net::Endpoint& listener, const net::IpAddress& client) const;
    // Ports 587 and 465: MAIL asks for authentication first (RFC 6409 §4.3).
    bool submission_port(const net::Endpoint& listener) const;
};
using RulesPtr = std::shared_ptr<const Rules>;

// Errors: config, when an address range does not parse or a certificate cannot be used.
// `before`: the rules in force, whose TLS context is kept when its settings did not change; may be null.
Result<RulesPtr> make_rules(config::SettingsPtr settings, const RulesPtr& before = nullptr);

}  // namespace sluice::reception
