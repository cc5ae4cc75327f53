#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>
#include <optional>
#include <string>

#include "net/deadline.h"
#include "net/socket.h"
#include "net/stream.h"
#include "net/tls_link.h"

namespace sluice::net {

// A stream over a connected TCP or Unix socket, in clear or, after a handshake, in TLS. Shard-owned.
//
// Cheap by design: writing is one system call as long as the kernel has room; reading goes through the
// reactor, which asks the kernel only after it reported data, unless the last read filled its buffer. An idle
// stream in clear holds no buffer.
class SocketStream final : public Stream, private Deadline::Owner {
public:
    // Takes a connected or connecting socket in non-blocking mode.
    static Result<std::unique_ptr<SocketStream>> adopt(
        async::Executor executor, Descriptor socket, Endpoint remote
    );
    ~SocketStream() override;

    // Waits until a connection under way is established or has failed.
    Task<Result<>> finish_connecting();

    Task<Result<std::size_t>> read_some(std::span<char> into) override;
    Task<Result<>> write_all(std::span<const std::string_view> slices) override;
    void set_deadline(TimePoint when) override { deadline_.set(when); }
    Task<Result<>> start_tls_client(std::shared_ptr<TlsContext> context, std::string server_name) override;
    Task<Result<>> start_tls_server(std::shared_ptr<TlsContext> context) override;
    const TlsSession* tls() const override { return tls_ ? tls_->session() : nullptr; }
    bool idle_link_is_dead() override;
    Task<> close() override;
    void abort() override;
    Endpoint local() const override;
    Endpoint remote() const override { return remote_; }

private:
    using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol, async::Executor>;
    using WaitType = boost::asio::socket_base::wait_type;

    // After so many reads in a row that found bytes waiting, other tasks of the shard get their turn.
    static constexpr int reads_without_wait_max = 16;

    // OpenSSL's own writes without MSG_NOSIGNAL: a peer that has gone would kill us.
    class SocketWire final : public Wire {
    public:
        explicit SocketWire(Socket& socket) : socket_(socket) {}
        ssize_t send(std::string_view bytes) override;
        ssize_t receive(std::span<char> into) override;

    private:
        Socket& socket_;
    };

    SocketStream(async::Executor executor, Endpoint remote);

    void deadline_passed() override;

    // Why no operation can be started now, if so.
    std::optional<Errc> obstacle() const;
    // Remembers the first failure, which every later operation repeats, and words it.
    Error stopped(Errc code, std::string detail);
    Error stopped_by(const boost::system::error_code& error);
    Error refusal(Errc code) const;

    // Reads without waiting: a size (0: the peer closed), or nothing when that would wait or fail.
    std::optional<std::size_t> read_now(std::span<char> into);
    Result<std::size_t> note_read(std::size_t wanted, std::size_t size);
    Task<Result<>> wait(WaitType what);
    Task<Result<>> wait_for(TlsLink::Progress progress);
    Task<Result<>> handshake();
    Task<Result<std::size_t>> read_tls(std::span<char> into);
    Task<Result<>> write_tls(std::span<const std::string_view> slices);
    void shut();

    Socket socket_;
    Deadline deadline_;
    Endpoint remote_;
    SocketWire wire_{socket_};
    std::unique_ptr<TlsLink> tls_;
    std::optional<Errc> failed_;
    bool read_ended_ = false;
    int reads_without_wait_ = 0;
    bool last_read_was_full_ = false;
};

}  // namespace sluice::net
