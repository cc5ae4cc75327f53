#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "net/stream.h"
#include "net/tls.h"
#include "peer/blast.h"

namespace sluice::peer {

// What the sessions of a blast share; counters from all threads.
struct BlastShared {
    const BlastOptions& options;
    std::shared_ptr<net::TlsContext> tls = nullptr;
    int ledger_fd = -1;
    std::chrono::steady_clock::time_point start{};
    std::atomic<std::uint64_t> next{0};  // number of the next message
    std::atomic<std::uint64_t> accepted{0}, refused_temporary{0}, refused_permanent{0}, lost{0}, connections{0},
        connect_failures{0};
};

// Latencies and the first refusal of one thread.
struct BlastThreadResult {
    std::vector<float> latencies_ms;
    std::string first_refusal;
};

// One session: connects, sends messages until none are left, reconnects as told.
Task<> run_blast_session(BlastShared& shared, BlastThreadResult& result);

}  // namespace sluice::peer
