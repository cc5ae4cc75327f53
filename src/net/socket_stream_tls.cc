#include <array>
#include <boost/asio/post.hpp>

#include "base/assert.h"
#include "net/slices.h"
#include "net/socket_stream.h"
#include "net/wait_token.h"

// The part of SocketStream that speaks TLS.

namespace sluice::net {
namespace {

// The most that one TLS record carries (RFC 8446 §5.1).
constexpr std::size_t record_bytes_max = 16'384;

// Puts the next bytes into one record. After "wants ..." OpenSSL must see the same bytes again: the same
// cursor gives them. Several short slices are gathered, as each record costs a system call and 22 bytes or
// more.
TlsLink::Moved write_record(TlsLink& link, const SliceCursor& rest) {
    if (rest.in_last_slice() || rest.front().size() >= record_bytes_max) {
        return link.write(rest.front().substr(0, record_bytes_max));
    }
    std::array<char, record_bytes_max> record;
    const std::size_t size = rest.copy_to(record);
    return link.write(std::string_view(record.data(), size));
}

}  // namespace

ssize_t SocketStream::SocketWire::send(std::string_view bytes) {
    return ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t SocketStream::SocketWire::receive(std::span<char> into) {
    return ::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
}

Task<Result<>> SocketStream::start_tls_client(std::shared_ptr<TlsContext> context, std::string server_name) {
    if (const auto code = obstacle()) co_return fail(refusal(*code));
    ASSERT(!tls_);
    CO_TRY(tls_, TlsLink::client(std::move(context), wire_, server_name, remote_));
    co_return co_await handshake();
}

Task<Result<>> SocketStream::start_tls_server(std::shared_ptr<TlsContext> context) {
    if (const auto code = obstacle()) co_return fail(refusal(*code));
    ASSERT(!tls_);
    CO_TRY(tls_, TlsLink::server(std::move(context), wire_));
    co_return co_await handshake();
}

Task<Result<>> SocketStream::handshake() {
    while (true) {
        const TlsLink::Progress progress = tls_->handshake();
        if (progress == TlsLink::Progress::done) co_return Result<>();
        CO_TRY_VOID(co_await wait_for(progress));
    }
}

Task<Result<>> SocketStream::wait_for(TlsLink::Progress progress) {
    switch (progress) {
        case TlsLink::Progress::done:
            break;
        case TlsLink::Progress::wants_read:
            co_return co_await wait(Socket::wait_read);
        case TlsLink::Progress::wants_write:
            co_return co_await wait(Socket::wait_write);
        case TlsLink::Progress::ended:
            // Before the handshake is done, an end is a failed handshake.
            if (tls_->session() == nullptr) {
                co_return fail(
                    stopped(Errc::tls_failed, remote_.text() + ": closed by the peer in the TLS handshake")
                );
            }
            co_return fail(stopped(Errc::link_closed, remote_.text() + ": closed by the peer"));
        case TlsLink::Progress::failed: {
            const Errc code = tls_->session() == nullptr ? Errc::tls_failed : Errc::link_closed;
            co_return fail(stopped(code, remote_.text() + ": " + tls_->failure()));
        }
    }
    co_return Result<>();
}

Task<Result<std::size_t>> SocketStream::read_tls(std::span<char> into) {
    // Records may arrive faster than they are read: other tasks of the shard get their turn, and the deadline
    // its chance, though nothing here waits.
    if (++reads_without_wait_ > reads_without_wait_max) {
        reads_without_wait_ = 0;
        deadline_.arm();
        auto turn = boost::asio::post(socket_.get_executor(), boost::asio::deferred);
        co_await std::move(turn);
    }
    while (true) {
        if (const auto code = obstacle()) co_return fail(refusal(*code));
        const auto [progress, size] = tls_->read(into);
        if (progress == TlsLink::Progress::done) co_return size;
        if (progress == TlsLink::Progress::ended) co_return note_read(into.size(), 0);
        reads_without_wait_ = 0;
        CO_TRY_VOID(co_await wait_for(progress));
    }
}

Task<Result<>> SocketStream::write_tls(std::span<const std::string_view> slices) {
    SliceCursor rest(slices);
    while (!rest.done()) {
        if (const auto code = obstacle()) co_return fail(refusal(*code));
        const auto [progress, size] = write_record(*tls_, rest);
        rest.advance(size);
        CO_TRY_VOID(co_await wait_for(progress));
    }
    co_return Result<>();
}

}  // namespace sluice::net
