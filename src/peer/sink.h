#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/address.h"
#include "net/tls.h"
#include "peer/script.h"
#include "peer/wire_check.h"

namespace sluice::peer {

struct SinkOptions {
    std::vector<net::Endpoint> endpoints;
    std::vector<Rule> rules;
    std::uint64_t seed = 1;
    std::uint32_t threads = 1;
    bool lmtp = false;
    bool pipelining = true, chunking = true, eight_bit = true, smtputf8 = true, dsn = true;
    std::uint64_t size_max = 0;         // SIZE n; 0: not offered
    std::string extra_ehlo;             // further EHLO lines, separated by commas
    std::string directory;              // each message becomes a file here; empty: thrown away
    std::string ledger;                 // one JSON line a message, written before the answer; empty: none
    bool print = false;                 // one line a message on standard output
    bool check_wire = true;             // judge all that clients send: see wire_check.h
    std::uint64_t stop_after = 0;       // messages; 0: never
    std::string certificate, key;       // STARTTLS is offered when given
    bool implicit_tls = false;
    bool resumption = true;             // give TLS session tickets
};

struct SinkCounts {
    std::atomic<std::uint64_t> connections{0}, messages{0}, recipients{0}, bytes{0}, refused{0}, dropped{0};
};

// A receiving server that does what its script says. Runs on threads of its own until stop().
class Sink {
public:
    static Result<std::unique_ptr<Sink>> start(const SinkOptions& options);
    virtual ~Sink() = default;
    virtual std::vector<net::Endpoint> endpoints() const = 0;
    virtual const SinkCounts& counts() const = 0;
    virtual const WireReport& wire() const = 0;
    // Returns when stop_after messages have come, or `milliseconds` have passed: whether they had come.
    virtual bool wait(int milliseconds) = 0;
    virtual void stop() = 0;
};

}  // namespace sluice::peer
