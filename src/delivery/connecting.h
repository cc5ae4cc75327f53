#pragma once

#include <cstdint>
#include <vector>

#include "async/task_group.h"
#include "net/stream.h"

namespace sluice::delivery {

// What became of a race. Value.
struct RaceResult {
    net::StreamPtr winner;        // null: nobody could be reached
    std::size_t winner_index = 0; // in the runners
    std::vector<std::size_t> unreachable;  // runners that failed before the winner was there, by their own fault
    std::vector<std::size_t> overtaken;    // runners that were silent for 250 ms or more when a later one won
    Error error{Errc::unreachable, "no address to connect to"};  // the first failure, when there is no winner
};

// Connects to the first of several addresses that answers (RFC 8305 §5): they are tried in order, the next one when the
// one before has failed or has not answered for 250 ms; the first connection wins, the others are dropped.
// A failure of our own (bad_source, out_of_resources, address_in_use) makes no runner unreachable.
// Shard-owned; one run() at a time.
class Race {
public:
    Race(async::Executor executor, net::Network& network) : executor_(executor), network_(network) {}

    Task<RaceResult> run(std::vector<net::ConnectOptions> runners);
    // Ends a run() under way with Errc::cancelled.
    void cancel();

private:
    struct Track;
    static Task<> run_one(Track& track, std::size_t index);
    static Task<> stagger(Track& track, std::size_t started);
    void start_next(Track& track, async::TaskGroup& group);

    async::Executor executor_;
    net::Network& network_;
    Track* track_ = nullptr;  // of the run under way
};

// Our own failure, not the peer's.
bool is_source_fault(Errc code);

}  // namespace sluice::delivery
