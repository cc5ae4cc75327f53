#pragma once

#include <functional>
#include <memory>

#include "async/task.h"
#include "async/task_group.h"
#include "net/stream.h"

namespace sluice::net {

// Accepts connections on one shard. With SO_REUSEPORT several shards listen on the same port and the kernel
// spreads clients. When descriptors run out it pauses without spinning and goes on when some are free
// (DoS-8). Shard-owned.
class Listener {
public:
    using OnAccept = std::function<void(StreamPtr)>;

    // Binds and listens; the error says which endpoint and why. A Unix socket path left over by a dead
    // process is replaced; mode is set to 0600.
    static Result<std::unique_ptr<Listener>> open(async::Executor executor, const Endpoint& endpoint);
    virtual ~Listener() = default;

    // The endpoint bound to; tells the port when 0 was asked for.
    virtual Endpoint local() const = 0;
    // Accepts until stopped.
    virtual Task<> run(OnAccept on_accept) = 0;
    virtual void stop() = 0;
};

}  // namespace sluice::net
