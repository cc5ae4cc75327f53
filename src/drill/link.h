#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "base/random.h"
#include "net/stream.h"

namespace sluice::drill {

// How octets travel. Value.
struct LinkTerms {
    std::int64_t latency_min_ns = 1'000'000;
    std::int64_t latency_max_ns = 40'000'000;
    std::size_t read_bytes_max = 16 * 1024;      // one read gives at most so many
    std::size_t capacity_bytes = 64 * 1024;      // writers wait while so much is on its way or unread
    std::uint64_t seed = 1;
};

// A connection in memory: two streams that keep the contract of net::Stream, TLS included, with latency, and what the
// world does to connections. The two ends may live on different loops of one thread. Each may outlive the other.
class Link {
public:
    static std::shared_ptr<Link> make(
        async::Executor near, async::Executor far, net::Endpoint near_end, net::Endpoint far_end, const LinkTerms& terms);
    virtual ~Link() = default;

    // Each may be taken once.
    virtual net::StreamPtr take_near() = 0;
    virtual net::StreamPtr take_far() = 0;

    // What is on its way is lost, and both ends learn that the connection is gone.
    virtual void reset() = 0;
    // Nothing arrives any more, and nobody learns of it.
    virtual void swallow() = 0;
    // Octets that the far end has written, and those of them that the near end has read.
    virtual std::uint64_t written_by_far() const = 0;
    virtual std::uint64_t read_by_near() const = 0;
    virtual std::uint64_t read_by_far() const = 0;
    // The near end is closed or destroyed, or the link was reset.
    virtual bool near_is_gone() const = 0;
};
using LinkPtr = std::shared_ptr<Link>;

}  // namespace sluice::drill
