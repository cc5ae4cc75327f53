#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "net/stream.h"

namespace sluice::net {

// How a pipe behaves. Value.
struct PipeOptions {
    std::size_t read_bytes_max =
        SIZE_MAX;  // one read_some() gives at most so many: 1 shows every fragmentation
    std::size_t capacity_bytes = 1024 * 1024;  // writers wait while so much is unread
    Endpoint left = Endpoint(IpAddress::v4(0x7F000001), 49152);
    Endpoint right = Endpoint(IpAddress::v4(0x7F000001), 25);

    PipeOptions() = default;
};

// Two connected streams in memory on one shard, for tests of dialogues: what one end writes, the other reads.
// They keep the contract of Stream, deadlines included, except that TLS is unsupported. Each end may outlive
// the other.
std::pair<StreamPtr, StreamPtr> make_pipe(
    async::Executor executor, const PipeOptions& options = PipeOptions()
);

}  // namespace sluice::net
