#include "drill/link.h"

#include <algorithm>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <cerrno>
#include <deque>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "drill/virtual_time.h"
#include "net/slices.h"
#include "net/tls_link.h"
#include "net/wait_token.h"

namespace sluice::drill {
namespace {

using Clock = std::chrono::steady_clock;
using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, async::Executor>;

// By which one end waits for the other. The timer belongs to the end: it goes when the stream goes, which may be long before
// the link does, together with the loop that it runs on.
class Bell {
public:
    void hang(const async::Executor& executor) { timer_.emplace(executor); }
    void take_down() { timer_.reset(); }
    void ring() {
        if (timer_) timer_->cancel();
    }
    Timer& timer() { return *timer_; }

private:
    std::optional<Timer> timer_;
};

// Octets on their way from one end to the other.
class Direction {
public:
    Direction(const LinkTerms& terms, std::uint64_t seed) : terms_(terms), random_(seed) {}

    void put(std::string_view bytes) {
        const auto spread = static_cast<std::uint64_t>(terms_.latency_max_ns - terms_.latency_min_ns + 1);
        const std::int64_t took = terms_.latency_min_ns + static_cast<std::int64_t>(random_.below(spread));
        arrives_ = std::max(arrives_, VirtualTime::now_ns() + took);
        pieces_.push_back({arrives_, std::string(bytes), 0});
        unread_ += bytes.size();
        written += bytes.size();
        reader.ring();
    }
    std::size_t room() const { return terms_.capacity_bytes - std::min(terms_.capacity_bytes, unread_); }
    bool readable() const { return !pieces_.empty() && pieces_.front().arrives <= VirtualTime::now_ns(); }
    bool at_end() const { return fin && pieces_.empty() && arrives_ <= VirtualTime::now_ns(); }
    // When something that is on its way arrives.
    std::int64_t next_arrival() const {
        if (!pieces_.empty()) return pieces_.front().arrives;
        return fin ? arrives_ : VirtualTime::never;
    }
    std::size_t take(std::span<char> into) {
        std::size_t taken = 0;
        const std::size_t most = std::min(into.size(), terms_.read_bytes_max);
        while (taken < most && readable()) {
            Piece& piece = pieces_.front();
            const std::size_t size = piece.bytes.copy(into.data() + taken, most - taken, piece.taken);
            taken += size;
            piece.taken += size;
            if (piece.taken == piece.bytes.size()) pieces_.pop_front();
        }
        unread_ -= taken;
        read += taken;
        writer.ring();
        return taken;
    }
    void finish() {
        fin = true;
        arrives_ = std::max(arrives_, VirtualTime::now_ns() + terms_.latency_min_ns);
        reader.ring();
        writer.ring();
    }
    void drop() {
        pieces_.clear();
        unread_ = 0;
        reader.ring();
        writer.ring();
    }

    Bell writer, reader;
    std::uint64_t written = 0, read = 0;
    bool fin = false;  // the writing end has closed

private:
    struct Piece {
        std::int64_t arrives;
        std::string bytes;
        std::size_t taken;
    };
    const LinkTerms terms_;
    Random random_;
    std::deque<Piece> pieces_;
    std::size_t unread_ = 0;
    std::int64_t arrives_ = 0;
};

class LinkImpl final : public Link, public std::enable_shared_from_this<LinkImpl> {
public:
    LinkImpl(
        async::Executor near, async::Executor far, net::Endpoint near_end, net::Endpoint far_end, const LinkTerms& terms)
        : outward(terms, terms.seed * 2 + 1), inward(terms, terms.seed * 2 + 2), near_executor_(std::move(near)),
          far_executor_(std::move(far)), near_end_(std::move(near_end)), far_end_(std::move(far_end)) {}

    net::StreamPtr take_near() override;
    net::StreamPtr take_far() override;
    void reset() override {
        was_reset = true;
        outward.drop();
        inward.drop();
    }
    void swallow() override { swallows = true; }
    std::uint64_t written_by_far() const override { return inward.written; }
    std::uint64_t read_by_near() const override { return inward.read; }
    std::uint64_t read_by_far() const override { return outward.read; }
    bool near_is_gone() const override { return was_reset || outward.fin; }

    Direction outward, inward;
    bool was_reset = false;
    bool swallows = false;

private:
    async::Executor near_executor_, far_executor_;
    net::Endpoint near_end_, far_end_;
};

class LinkStream final : public net::Stream, private net::Wire {
public:
    LinkStream(
        std::shared_ptr<LinkImpl> link, const async::Executor& executor, Direction& in, Direction& out, net::Endpoint local,
        net::Endpoint remote)
        : link_(std::move(link)), in_(in), out_(out), local_(std::move(local)), remote_(std::move(remote)) {
        in_.reader.hang(executor);
        out_.writer.hang(executor);
    }
    ~LinkStream() override {
        in_.reader.take_down();
        out_.writer.take_down();
        if (!closed_) link_->reset();
    }

    Task<Result<std::size_t>> read_some(std::span<char> into) override;
    Task<Result<>> write_all(std::span<const std::string_view> slices) override;
    void set_deadline(TimePoint when) override {
        deadline_ = when;
        in_.reader.ring();
        out_.writer.ring();
    }
    Task<Result<>> start_tls_client(std::shared_ptr<net::TlsContext> context, std::string server_name) override;
    Task<Result<>> start_tls_server(std::shared_ptr<net::TlsContext> context) override;
    const net::TlsSession* tls() const override { return tls_ ? tls_->session() : nullptr; }
    bool idle_link_is_dead() override {
        if (failed_ || link_->was_reset || in_.at_end()) return true;
        return tls_ ? tls_->is_dead_or_readable() : in_.readable();
    }
    Task<> close() override;
    void abort() override;
    net::Endpoint local() const override { return local_; }
    net::Endpoint remote() const override { return remote_; }

private:
    ssize_t send(std::string_view bytes) override;
    ssize_t receive(std::span<char> into) override;

    tl::unexpected<Error> stop(Errc code) {
        if (!failed_) failed_ = code;
        return fail(*failed_, "link to " + remote_.text());
    }
    void put(std::string_view bytes) {
        if (link_->swallows) {
            out_.written += bytes.size();
        } else {
            out_.put(bytes);
        }
    }
    Task<Result<>> wait(Bell& bell, std::int64_t until_ns);
    Task<Result<>> wait_for(net::TlsLink::Progress progress);
    Task<Result<>> handshake();
    Task<Result<std::size_t>> read_tls(std::span<char> into);
    Task<Result<>> write_tls(std::span<const std::string_view> slices);

    std::shared_ptr<LinkImpl> link_;
    Direction& in_;
    Direction& out_;
    net::Endpoint local_, remote_;
    TimePoint deadline_ = TimePoint::max();
    std::unique_ptr<net::TlsLink> tls_;
    std::optional<Errc> failed_;
    bool closed_ = false;
};

// Until something changes, `until_ns`, or the deadline.
Task<Result<>> LinkStream::wait(Bell& bell, std::int64_t until_ns) {
    if (failed_) co_return stop(*failed_);
    if (link_->was_reset) co_return stop(Errc::link_closed);
    if (Clock::now() >= deadline_) co_return stop(Errc::timed_out);
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return stop(Errc::cancelled);
    const TimePoint arrival = until_ns == VirtualTime::never ? TimePoint::max() : TimePoint(std::chrono::nanoseconds(until_ns));
    bell.timer().expires_at(std::min(deadline_, arrival));
    auto waiting = bell.timer().async_wait(net::as_values);
    co_await std::move(waiting);
    if (failed_) co_return stop(*failed_);
    co_return Result<>();
}

Task<Result<std::size_t>> LinkStream::read_some(std::span<char> into) {
    ASSERT(!into.empty());
    if (tls_) co_return co_await read_tls(into);
    while (!in_.readable() || failed_ || link_->was_reset) {
        if (in_.at_end() && !failed_ && !link_->was_reset) {
            co_return fail(Errc::link_closed, remote_.text() + ": closed by the peer");
        }
        CO_TRY_VOID(co_await wait(in_.reader, in_.next_arrival()));
    }
    co_return in_.take(into);
}

Task<Result<>> LinkStream::write_all(std::span<const std::string_view> slices) {
    if (tls_) co_return co_await write_tls(slices);
    for (net::SliceCursor rest(slices); !rest.done();) {
        if (failed_) co_return stop(*failed_);
        if (link_->was_reset || in_.fin) co_return stop(Errc::link_closed);
        if (out_.room() == 0) {
            CO_TRY_VOID(co_await wait(out_.writer, VirtualTime::never));
            continue;
        }
        const std::string_view piece = rest.front().substr(0, out_.room());
        put(piece);
        rest.advance(piece.size());
    }
    co_return Result<>();
}

ssize_t LinkStream::send(std::string_view bytes) {
    if (link_->was_reset || in_.fin || failed_) {
        errno = EPIPE;
        return -1;
    }
    const std::string_view piece = bytes.substr(0, out_.room());
    if (piece.empty()) {
        errno = EAGAIN;
        return -1;
    }
    put(piece);
    return static_cast<ssize_t>(piece.size());
}

ssize_t LinkStream::receive(std::span<char> into) {
    if (link_->was_reset || failed_) {
        errno = ECONNRESET;
        return -1;
    }
    if (in_.readable()) return static_cast<ssize_t>(in_.take(into));
    if (in_.at_end()) return 0;
    errno = EAGAIN;
    return -1;
}

Task<Result<>> LinkStream::start_tls_client(std::shared_ptr<net::TlsContext> context, std::string server_name) {
    if (failed_) co_return stop(*failed_);
    CO_TRY(tls_, net::TlsLink::client(std::move(context), *this, server_name, remote_));
    co_return co_await handshake();
}

Task<Result<>> LinkStream::start_tls_server(std::shared_ptr<net::TlsContext> context) {
    if (failed_) co_return stop(*failed_);
    CO_TRY(tls_, net::TlsLink::server(std::move(context), *this));
    co_return co_await handshake();
}

Task<Result<>> LinkStream::handshake() {
    while (true) {
        const net::TlsLink::Progress progress = tls_->handshake();
        if (progress == net::TlsLink::Progress::done) co_return Result<>();
        CO_TRY_VOID(co_await wait_for(progress));
    }
}

Task<Result<>> LinkStream::wait_for(net::TlsLink::Progress progress) {
    const bool in_handshake = tls_->session() == nullptr;
    switch (progress) {
        case net::TlsLink::Progress::done: break;
        case net::TlsLink::Progress::wants_read: co_return co_await wait(in_.reader, in_.next_arrival());
        case net::TlsLink::Progress::wants_write: co_return co_await wait(out_.writer, VirtualTime::never);
        case net::TlsLink::Progress::ended:
        case net::TlsLink::Progress::failed:
            if (failed_) co_return stop(*failed_);
            co_return stop(in_handshake ? Errc::tls_failed : Errc::link_closed);
    }
    co_return Result<>();
}

Task<Result<std::size_t>> LinkStream::read_tls(std::span<char> into) {
    while (true) {
        if (failed_) co_return stop(*failed_);
        const auto [progress, size] = tls_->read(into);
        if (progress == net::TlsLink::Progress::done) co_return size;
        CO_TRY_VOID(co_await wait_for(progress));
    }
}

Task<Result<>> LinkStream::write_tls(std::span<const std::string_view> slices) {
    net::SliceCursor rest(slices);
    while (!rest.done()) {
        if (failed_) co_return stop(*failed_);
        const auto [progress, size] = tls_->write(rest.front().substr(0, 16'384));
        rest.advance(size);
        CO_TRY_VOID(co_await wait_for(progress));
    }
    co_return Result<>();
}

Task<> LinkStream::close() {
    if (tls_ && !failed_ && !link_->was_reset) tls_->say_goodbye();
    if (!failed_) failed_ = Errc::link_closed;
    if (!std::exchange(closed_, true)) out_.finish();
    in_.reader.ring();
    co_return;
}

void LinkStream::abort() {
    if (!failed_) failed_ = Errc::cancelled;
    if (!std::exchange(closed_, true)) link_->reset();
}

net::StreamPtr LinkImpl::take_near() {
    return std::make_unique<LinkStream>(shared_from_this(), near_executor_, inward, outward, near_end_, far_end_);
}
net::StreamPtr LinkImpl::take_far() {
    return std::make_unique<LinkStream>(shared_from_this(), far_executor_, outward, inward, far_end_, near_end_);
}

}  // namespace

LinkPtr Link::make(
    async::Executor near, async::Executor far, net::Endpoint near_end, net::Endpoint far_end, const LinkTerms& terms) {
    return std::make_shared<LinkImpl>(near, far, std::move(near_end), std::move(far_end), terms);
}

}  // namespace sluice::drill
