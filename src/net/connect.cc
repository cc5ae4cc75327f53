#include <boost/asio/this_coro.hpp>
#include <cerrno>

#include "net/socket.h"
#include "net/socket_stream.h"

namespace sluice::net {
namespace {

int family_of(const Endpoint& endpoint) {
    if (!endpoint.path.empty()) return AF_UNIX;
    return endpoint.address.is_v4() ? AF_INET : AF_INET6;
}

Result<> bind_source(const Descriptor& socket, const IpAddress& source, const Endpoint& remote) {
    const Endpoint endpoint(source, 0);
    if (family_of(endpoint) != family_of(remote)) {
        return fail(
            Errc::bad_source, source.text() + " cannot reach " + remote.text() + ": another address family"
        );
    }
    // The port is chosen by connect(), when the kernel knows the peer: one source then has 28,000 ports per
    // peer, not in all.
    set_flag(socket.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    const SocketAddress address(endpoint);
    if (::bind(socket.get(), address.get(), address.length()) == 0) return {};
    return fail(bind_errc(errno), "source " + describe(endpoint, errno));
}

// An open socket on its way to the remote end; true when it has arrived already.
Result<bool> begin_connecting(const Descriptor& socket, const ConnectOptions& options) {
    if (options.bind) TRY_VOID(bind_source(socket, *options.bind, options.remote));
    const SocketAddress address(options.remote);
    if (::connect(socket.get(), address.get(), address.length()) == 0) return true;
    if (errno == EINPROGRESS) return false;
    return fail(connect_errc(errno), describe(options.remote, errno));
}

}  // namespace

Task<Result<StreamPtr>> connect(ConnectOptions options) {
    const async::Executor executor = co_await boost::asio::this_coro::executor;
    CO_TRY(Descriptor socket, open_socket(family_of(options.remote)));
    CO_TRY(const bool arrived, begin_connecting(socket, options));
    CO_TRY(auto stream, SocketStream::adopt(executor, std::move(socket), options.remote));
    if (!arrived) {
        stream->set_timeout(options.timeout);
        CO_TRY_VOID(co_await stream->finish_connecting());
        stream->set_deadline(Stream::TimePoint::max());
    }
    co_return StreamPtr(std::move(stream));
}

Network& system_network() {
    class System final : public Network {
        Task<Result<StreamPtr>> connect(ConnectOptions options) override { return net::connect(std::move(options)); }
    };
    static System system;
    return system;
}

}  // namespace sluice::net
