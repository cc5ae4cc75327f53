#include "net/listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/this_coro.hpp>
#include <cerrno>

#include "net/deadline.h"
#include "net/socket.h"
#include "net/socket_stream.h"
#include "net/wait_token.h"

namespace sluice::net {
namespace {

constexpr int backlog = 4096;
// So many clients are taken at one wake-up before other tasks of the shard get their turn.
constexpr int accepts_per_wake_up = 64;
constexpr std::chrono::milliseconds pause_without_descriptors(100);

bool ran_out(int error_number) {
    return error_number == EMFILE || error_number == ENFILE || error_number == ENOBUFS ||
           error_number == ENOMEM;
}

// The file of a Unix socket, to be removed only while it is still ours. Value.
struct SocketFile {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;

    explicit SocketFile(std::string path_) : path(std::move(path_)) {
        struct stat found{};
        if (path.empty() || ::stat(path.c_str(), &found) != 0) return;
        device = found.st_dev;
        inode = found.st_ino;
    }
    void remove() const {
        struct stat found{};
        if (path.empty() || ::stat(path.c_str(), &found) != 0) return;
        if (found.st_dev == device && found.st_ino == inode) ::unlink(path.c_str());
    }
};

// Removes a socket file that nobody listens on any more. Anything else in its place stays, and binding fails.
Result<> clear_stale_socket(const Endpoint& endpoint) {
    struct stat found{};
    if (::lstat(endpoint.path.c_str(), &found) != 0) return {};
    if (!S_ISSOCK(found.st_mode))
        return fail(Errc::address_in_use, endpoint.path + ": exists and is not a socket");
    TRY(const Descriptor probe, open_socket(AF_UNIX));
    const SocketAddress address(endpoint);
    const bool refused =
        ::connect(probe.get(), address.get(), address.length()) != 0 && errno == ECONNREFUSED;
    if (!refused) return fail(Errc::address_in_use, endpoint.path + ": another process listens there");
    ::unlink(endpoint.path.c_str());
    return {};
}

void set_options(const Descriptor& socket, const Endpoint& endpoint) {
    if (!endpoint.path.empty()) {
        // The kernel gives the file the mode of the socket, so there is no moment with a wider one.
        ::fchmod(socket.get(), S_IRUSR | S_IWUSR);
        return;
    }
    set_flag(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    set_flag(socket.get(), SOL_SOCKET, SO_REUSEPORT, 1);
    // "[::]:25" serves IPv4 clients too, as people expect from Haraka's configuration.
    if (!endpoint.address.is_v4()) set_flag(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
}

Result<Descriptor> open_for(Endpoint& endpoint) {
    if (!endpoint.path.empty()) return open_socket(AF_UNIX);
    if (endpoint.address.is_v4()) return open_socket(AF_INET);
    auto socket = open_socket(AF_INET6);
    const bool no_ipv6 = !socket && socket.error().code == Errc::unreachable;
    if (!no_ipv6 || !endpoint.address.is_unspecified()) return socket;
    // A host without IPv6: "every address" then means every IPv4 address.
    endpoint.address = IpAddress();
    return open_socket(AF_INET);
}

class SocketListener final : public Listener {
public:
    SocketListener(async::Executor executor, Endpoint local, std::string path)
        : socket_(executor), pause_(executor), local_(std::move(local)), file_(std::move(path)) {}
    ~SocketListener() override { stop(); }

    boost::system::error_code adopt(Descriptor& socket, int family) {
        boost::system::error_code error;
        socket_.assign(boost::asio::generic::stream_protocol(family, 0), socket.get(), error);
        if (!error) (void)socket.release();
        return error;
    }

    Endpoint local() const override { return local_; }
    Task<> run(OnAccept on_accept) override;
    void stop() override;

private:
    using Clock = std::chrono::steady_clock;
    enum class Round { waits_for_clients, out_of_descriptors, more_waiting };

    Round accept_waiting(const OnAccept& on_accept);
    void welcome(Descriptor client, const SocketAddress& peer, const OnAccept& on_accept);

    boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol, async::Executor> socket_;
    boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, async::Executor> pause_;
    Endpoint local_;
    SocketFile file_;
    bool stopped_ = false;
};

Task<> SocketListener::run(OnAccept on_accept) {
    while (!stopped_) {
        auto waiting = socket_.async_wait(boost::asio::socket_base::wait_read, as_values);
        const auto [error] = co_await std::move(waiting);
        if (error || stopped_) break;
        if (accept_waiting(on_accept) != Round::out_of_descriptors) continue;

        // The clients stay in the backlog; asking again at once would only spin (DoS-8).
        pause_.expires_after(pause_without_descriptors);
        auto pausing = pause_.async_wait(as_values);
        const auto [interrupted] = co_await std::move(pausing);
        if (interrupted) break;
    }
}

SocketListener::Round SocketListener::accept_waiting(const OnAccept& on_accept) {
    for (int i = 0; i < accepts_per_wake_up && !stopped_; ++i) {
        SocketAddress peer;
        Descriptor client(
            ::accept4(socket_.native_handle(), peer.get(), peer.length_out(), SOCK_NONBLOCK | SOCK_CLOEXEC)
        );
        if (client.valid()) {
            // Who comes by a Unix socket is the operator, for whom some are kept.
            if (local_.path.empty() && is_kept_back(client.get())) return Round::out_of_descriptors;
            welcome(std::move(client), peer, on_accept);
            continue;
        }
        if (ran_out(errno)) return Round::out_of_descriptors;
        if (errno == EAGAIN) return Round::waits_for_clients;
        // Anything else is the fate of that one client (accept(2)): it has gone already.
    }
    return Round::more_waiting;
}

// TCP_NODELAY was set on the listening socket, and Linux hands it on.
void SocketListener::welcome(Descriptor client, const SocketAddress& peer, const OnAccept& on_accept) {
    Endpoint remote = local_.path.empty() ? peer.endpoint() : local_;
    auto stream = SocketStream::adopt(socket_.get_executor(), std::move(client), std::move(remote));
    if (stream) on_accept(std::move(*stream));
}

void SocketListener::stop() {
    if (std::exchange(stopped_, true)) return;
    boost::system::error_code ignored;
    socket_.close(ignored);
    pause_.cancel();
    file_.remove();
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(async::Executor executor, const Endpoint& wanted) {
    Endpoint endpoint = wanted;
    TRY(Descriptor socket, open_for(endpoint));
    if (!endpoint.path.empty()) TRY_VOID(clear_stale_socket(endpoint));
    set_options(socket, endpoint);

    SocketAddress address(endpoint);
    const bool listens =
        ::bind(socket.get(), address.get(), address.length()) == 0 && ::listen(socket.get(), backlog) == 0;
    if (!listens) return fail(bind_errc(errno), "cannot listen on " + describe(endpoint, errno));

    const int family = address.family();
    ::getsockname(socket.get(), address.get(), address.length_out());
    auto listener = std::make_unique<SocketListener>(executor, address.endpoint(), endpoint.path);
    if (const auto error = listener->adopt(socket, family)) {
        return fail(Errc::out_of_resources, describe(endpoint, error.value()));
    }
    return listener;
}

}  // namespace sluice::net
