#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "async/task.h"
#include "base/result.h"
#include "net/address.h"

namespace sluice::net {

class TlsContext;

// What a finished handshake agreed on. Value.
struct TlsSession {
    std::string version;  // "TLSv1.3"
    std::string cipher;   // "TLS_AES_256_GCM_SHA384"
    int bits = 0;
    bool verified = false;     // the peer's certificate chain and name were verified
    std::string verify_error;  // why not, when it was checked and did not verify
    std::string peer_subject;  // certificate subject, empty if none was presented
    bool resumed = false;
};

// A byte stream with one deadline. Shard-owned; one reader and one writer at a time.
// After an error every later operation fails too, with one exception: the end of the stream (link_closed from
// read_some) ends reading only, since the peer may have closed one direction and still wait for our answer.
// Destroying a stream closes it abruptly; no operation may be under way then.
class Stream {
public:
    using TimePoint = std::chrono::steady_clock::time_point;

    virtual ~Stream() = default;

    // Reads at least one byte into `into`; link_closed at the end of the stream.
    virtual Task<Result<std::size_t>> read_some(std::span<char> into) = 0;
    // Writes all slices in order; they stay valid until it returns.
    virtual Task<Result<>> write_all(std::span<const std::string_view> slices) = 0;
    // Convenience for one slice.
    Task<Result<>> write(std::string_view bytes);

    // Every operation under way or started later fails with timed_out at this time. Changing it costs no
    // system call.
    virtual void set_deadline(TimePoint when) = 0;
    void set_timeout(std::chrono::milliseconds from_now) {
        set_deadline(std::chrono::steady_clock::now() + from_now);
    }

    // The handshake, as client (server_name: SNI and name to verify, empty for none) or as server. Bytes
    // received before it must have been consumed or dropped by the caller: nothing read in clear is ever seen
    // again inside TLS.
    virtual Task<Result<>> start_tls_client(std::shared_ptr<TlsContext> context, std::string server_name) = 0;
    virtual Task<Result<>> start_tls_server(std::shared_ptr<TlsContext> context) = 0;
    virtual const TlsSession* tls() const = 0;  // null in clear

    // The peer has closed, or sent something that nobody asked for: an idle connection that must not be
    // reused. Looks without waiting.
    virtual bool idle_link_is_dead() = 0;

    // Says goodbye (TLS close_notify where due) and closes. Never waits longer than the deadline.
    virtual Task<> close() = 0;
    // Ends every operation under way with Errc::cancelled and closes. May be called at any time on the shard.
    virtual void abort() = 0;

    virtual Endpoint local() const = 0;
    virtual Endpoint remote() const = 0;
};
using StreamPtr = std::unique_ptr<Stream>;

// How to connect. Value.
struct ConnectOptions {
    Endpoint remote;
    std::optional<IpAddress> bind;  // local address; bad_source when it is not configured here
    std::chrono::milliseconds timeout{30'000};
    ConnectOptions() = default;
    explicit ConnectOptions(Endpoint remote_) : remote(std::move(remote_)) {}
};

// Opens a TCP or Unix connection on the calling shard. TCP_NODELAY is set.
// Errors: refused, unreachable, timed_out, bad_source, out_of_resources, cancelled.
Task<Result<StreamPtr>> connect(ConnectOptions options);

// What there is to connect to. The machine's is below; the simulator makes its own.
class Network {
public:
    virtual ~Network() = default;
    // As connect() above.
    virtual Task<Result<StreamPtr>> connect(ConnectOptions options) = 0;
};
Network& system_network();  // has no state

}  // namespace sluice::net
