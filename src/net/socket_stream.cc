#include "net/socket_stream.h"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <cerrno>

#include "base/assert.h"
#include "net/slices.h"
#include "net/wait_token.h"

namespace sluice::net {
namespace {

// Sends what is left as far as the kernel takes it; -1 and errno as sendmsg.
ssize_t send_now(int fd, const SliceCursor& rest) {
    std::array<iovec, SliceCursor::pieces_max> pieces;
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = rest.gather(pieces);
    return ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool would_wait(int error_number) {
    return error_number == EAGAIN || error_number == EINTR;
}

}  // namespace

SocketStream::SocketStream(async::Executor executor, Endpoint remote)
    : socket_(executor), deadline_(executor, *this), remote_(std::move(remote)) {}

SocketStream::~SocketStream() = default;

Result<std::unique_ptr<SocketStream>> SocketStream::adopt(
    async::Executor executor, Descriptor socket, Endpoint remote
) {
    const int family = remote.path.empty() ? (remote.address.is_v4() ? AF_INET : AF_INET6) : AF_UNIX;
    std::unique_ptr<SocketStream> stream(new SocketStream(executor, std::move(remote)));
    boost::system::error_code error;
    stream->socket_.assign(boost::asio::generic::stream_protocol(family, 0), socket.get(), error);
    if (error) return fail(Errc::out_of_resources, describe(stream->remote_, error.value()));
    (void)socket.release();
    return stream;
}

Task<Result<>> SocketStream::finish_connecting() {
    CO_TRY_VOID(co_await wait(Socket::wait_write));
    int error_number = 0;
    socklen_t length = sizeof error_number;
    ::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &error_number, &length);
    if (error_number != 0) co_return fail(connect_errc(error_number), describe(remote_, error_number));
    co_return Result<>();
}

std::optional<Errc> SocketStream::obstacle() const {
    if (failed_) return failed_;
    if (deadline_.passed()) return Errc::timed_out;
    return std::nullopt;
}

Error SocketStream::stopped(Errc code, std::string detail) {
    if (!failed_) failed_ = code;
    return Error(code, std::move(detail));
}

Error SocketStream::stopped_by(const boost::system::error_code& error) {
    if (const auto code = obstacle()) return stopped(*code, refusal(*code).detail);
    if (error == boost::asio::error::operation_aborted)
        return stopped(Errc::cancelled, "the task was cancelled");
    return stopped(link_errc(error.value()), describe(remote_, error.value()));
}

Error SocketStream::refusal(Errc code) const {
    switch (code) {
        case Errc::timed_out:
            return Error(code, remote_.text() + ": the deadline passed");
        case Errc::cancelled:
            return Error(code, "the stream was aborted");
        default:
            return Error(code, remote_.text() + ": the link had failed before");
    }
}

void SocketStream::deadline_passed() {
    boost::system::error_code ignored;
    socket_.cancel(ignored);
}

std::optional<std::size_t> SocketStream::read_now(std::span<char> into) {
    if (!last_read_was_full_ || ++reads_without_wait_ > reads_without_wait_max) return std::nullopt;
    const ssize_t size = ::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
    if (size < 0) return std::nullopt;  // the waiting path finds out whether this was an error
    return static_cast<std::size_t>(size);
}

Result<std::size_t> SocketStream::note_read(std::size_t wanted, std::size_t size) {
    last_read_was_full_ = size == wanted;
    if (size > 0) return size;
    read_ended_ = true;
    return fail(Errc::link_closed, remote_.text() + ": closed by the peer");
}

Task<Result<std::size_t>> SocketStream::read_some(std::span<char> into) {
    ASSERT(!into.empty());
    if (const auto code = obstacle()) co_return fail(refusal(*code));
    if (read_ended_) co_return fail(refusal(Errc::link_closed));
    if (tls_) co_return co_await read_tls(into);

    if (const auto size = read_now(into)) co_return note_read(into.size(), *size);
    reads_without_wait_ = 0;
    deadline_.arm();
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) {
        co_return fail(stopped(Errc::cancelled, "the task was cancelled"));
    }
    auto reading = socket_.async_read_some(boost::asio::buffer(into.data(), into.size()), as_values);
    const auto [error, size] = co_await std::move(reading);
    if (error == boost::asio::error::eof) co_return note_read(into.size(), 0);
    if (error) co_return fail(stopped_by(error));
    co_return note_read(into.size(), size);
}

Task<Result<>> SocketStream::write_all(std::span<const std::string_view> slices) {
    if (tls_) co_return co_await write_tls(slices);

    SliceCursor rest(slices);
    while (!rest.done()) {
        if (const auto code = obstacle()) co_return fail(refusal(*code));
        const ssize_t sent = send_now(socket_.native_handle(), rest);
        if (sent >= 0) {
            rest.advance(static_cast<std::size_t>(sent));
            continue;
        }
        if (!would_wait(errno)) co_return fail(stopped(link_errc(errno), describe(remote_, errno)));
        CO_TRY_VOID(co_await wait(Socket::wait_write));
    }
    co_return Result<>();
}

Task<Result<>> SocketStream::wait(WaitType what) {
    if (const auto code = obstacle()) co_return fail(refusal(*code));
    deadline_.arm();
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) {
        co_return fail(stopped(Errc::cancelled, "the task was cancelled"));
    }
    auto waiting = socket_.async_wait(what, as_values);
    const auto [error] = co_await std::move(waiting);
    if (error || obstacle()) co_return fail(stopped_by(error));
    co_return Result<>();
}

bool SocketStream::idle_link_is_dead() {
    if (obstacle() || read_ended_ || !socket_.is_open()) return true;
    if (tls_) return tls_->is_dead_or_readable();
    char byte = 0;
    const ssize_t size = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return size >= 0 || !would_wait(errno);
}

Task<> SocketStream::close() {
    if (tls_ && !obstacle()) tls_->say_goodbye();
    if (socket_.is_open()) shut();
    if (!failed_) failed_ = Errc::link_closed;
    co_return;
}

// Closing a socket with unread bytes makes the kernel reset the connection, which may take our last reply
// away from the peer. So we end our side first and read what has already arrived.
void SocketStream::shut() {
    const int fd = socket_.native_handle();
    if (::shutdown(fd, SHUT_WR) == 0) {
        std::array<char, 4096> dropped;
        for (int i = 0; i < 16; ++i) {
            if (::recv(fd, dropped.data(), dropped.size(), MSG_DONTWAIT) <= 0) break;
        }
    }
    deadline_.stop();
    boost::system::error_code ignored;
    socket_.close(ignored);
}

void SocketStream::abort() {
    if (!failed_) failed_ = Errc::cancelled;
    deadline_.stop();
    boost::system::error_code ignored;
    socket_.close(ignored);
}

Endpoint SocketStream::local() const {
    if (!remote_.path.empty()) return remote_;
    SocketAddress address;
    auto& socket = const_cast<Socket&>(socket_);  // native_handle() is not const, yet changes nothing
    if (::getsockname(socket.native_handle(), address.get(), address.length_out()) != 0) return Endpoint();
    return address.endpoint();
}

}  // namespace sluice::net
