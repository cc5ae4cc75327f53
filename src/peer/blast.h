#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"

namespace sluice::peer {

struct BlastOptions {
    net::Endpoint target;
    std::uint32_t sessions = 10;
    std::uint32_t threads = 1;
    std::uint64_t messages = 1000;          // in all
    std::uint32_t per_connection = 0;       // messages before QUIT and a new connection; 0: all of them
    std::uint32_t size = 4096;              // octets of a message, about
    std::string from = "blast@src.test";
    std::string to = "user%n@d%d.test";     // %n: recipient number, %d: domain number
    std::uint32_t domains = 1;
    std::uint32_t recipients = 1;           // per message
    double rate = 0;                        // messages per second, open loop; 0: as fast as answers come
    enum class Protocol { plain, pipelining, chunking } protocol = Protocol::pipelining;
    std::uint32_t window = 1;               // messages on their way per connection; plain: always one
    bool starttls = false;
    bool implicit_tls = false;
    bool resumption = true;                 // of TLS sessions, where the server offers it
    std::string user, password;             // AUTH PLAIN when set
    std::string ledger;                     // one JSON line for each message that was answered 250, with the instant at which that was read
    std::string id_prefix = "m";            // of X-Ledger-Id
    std::uint64_t seed = 1;
    bool keep_going = false;                // reconnect after lost links (for fault tests) until all messages were tried
};

struct BlastReport {
    std::uint64_t accepted = 0, refused_temporary = 0, refused_permanent = 0, lost = 0;  // messages
    std::uint64_t connections = 0, connect_failures = 0;
    double seconds = 0;
    double latency_ms_p50 = 0, latency_ms_p90 = 0, latency_ms_p99 = 0, latency_ms_max = 0;  // MAIL, in an open loop its intended time, to the answer to content
    std::string first_refusal;
};

// Sends the load and returns when every message was answered or lost. Blocking; threads of its own.
Result<BlastReport> blast(const BlastOptions& options);

}  // namespace sluice::peer
