#include "net/pipe.h"

#include <algorithm>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "base/assert.h"
#include "net/slices.h"
#include "net/wait_token.h"

namespace sluice::net {
namespace {

using Clock = std::chrono::steady_clock;
using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, async::Executor>;

// The bytes on their way from one end to the other. A party that must wait does so on its timer, which
// expires at its deadline and is cancelled when something changes.
struct Direction {
    explicit Direction(async::Executor executor) : reader(executor), writer(executor) {}

    void end() {
        ended = true;
        reader.cancel();
        writer.cancel();
    }

    bool empty() const { return taken == bytes.size(); }
    std::size_t size() const { return bytes.size() - taken; }
    // Gives the oldest bytes away; moves the rest only when that is worth it.
    std::size_t take(std::span<char> into) {
        const std::size_t count = bytes.copy(into.data(), into.size(), taken);
        taken += count;
        if (taken >= bytes.size() / 2) bytes.erase(0, std::exchange(taken, 0));
        return count;
    }

    std::string bytes;
    std::size_t taken = 0;
    bool ended = false;  // one of the ends has closed
    Timer reader;
    Timer writer;
};
using DirectionPtr = std::shared_ptr<Direction>;

class PipeStream final : public Stream {
public:
    PipeStream(DirectionPtr in, DirectionPtr out, const PipeOptions& options, Endpoint local, Endpoint remote)
        : in_(std::move(in)),
          out_(std::move(out)),
          read_bytes_max_(options.read_bytes_max),
          capacity_bytes_(options.capacity_bytes),
          local_(std::move(local)),
          remote_(std::move(remote)) {}
    ~PipeStream() override { end(); }

    Task<Result<std::size_t>> read_some(std::span<char> into) override;
    Task<Result<>> write_all(std::span<const std::string_view> slices) override;
    void set_deadline(TimePoint when) override;
    Task<Result<>> start_tls_client(std::shared_ptr<TlsContext>, std::string) override { return no_tls(); }
    Task<Result<>> start_tls_server(std::shared_ptr<TlsContext>) override { return no_tls(); }
    const TlsSession* tls() const override { return nullptr; }
    bool idle_link_is_dead() override { return failed_ || in_->ended || !in_->empty(); }
    Task<> close() override;
    void abort() override;
    Endpoint local() const override { return local_; }
    Endpoint remote() const override { return remote_; }

private:
    static Task<Result<>> no_tls() { co_return fail(Errc::unsupported, "a pipe speaks no TLS"); }

    tl::unexpected<Error> stop(Errc code) {
        if (!failed_) failed_ = code;
        return fail(*failed_, "pipe to " + remote_.text());
    }
    Task<Result<>> wait(Timer& timer);
    void end() {
        in_->end();
        out_->end();
    }

    DirectionPtr in_;
    DirectionPtr out_;
    std::size_t read_bytes_max_;
    std::size_t capacity_bytes_;
    Endpoint local_;
    Endpoint remote_;
    TimePoint deadline_ = TimePoint::max();
    std::optional<Errc> failed_;
};

Task<Result<>> PipeStream::wait(Timer& timer) {
    if (failed_) co_return stop(*failed_);
    if (Clock::now() >= deadline_) co_return stop(Errc::timed_out);
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return stop(Errc::cancelled);
    timer.expires_at(deadline_);
    auto waiting = timer.async_wait(as_values);
    co_await std::move(waiting);
    co_return Result<>();
}

Task<Result<std::size_t>> PipeStream::read_some(std::span<char> into) {
    ASSERT(!into.empty());
    const DirectionPtr in = in_;
    while (in->empty() || failed_) {
        if (in->ended && !failed_) co_return fail(Errc::link_closed, remote_.text() + ": closed by the peer");
        CO_TRY_VOID(co_await wait(in->reader));
    }
    const std::size_t size = in->take(into.first(std::min(into.size(), read_bytes_max_)));
    in->writer.cancel();
    co_return size;
}

Task<Result<>> PipeStream::write_all(std::span<const std::string_view> slices) {
    const DirectionPtr out = out_;
    for (SliceCursor rest(slices); !rest.done();) {
        if (out->ended && !failed_) co_return stop(Errc::link_closed);
        const std::size_t room = capacity_bytes_ - std::min(capacity_bytes_, out->size());
        if (room == 0 || failed_) {
            CO_TRY_VOID(co_await wait(out->writer));
            continue;
        }
        const std::string_view piece = rest.front().substr(0, room);
        out->bytes += piece;
        rest.advance(piece.size());
        out->reader.cancel();
    }
    co_return Result<>();
}

void PipeStream::set_deadline(TimePoint when) {
    deadline_ = when;
    in_->reader.cancel();
    out_->writer.cancel();
}

Task<> PipeStream::close() {
    if (!failed_) failed_ = Errc::link_closed;
    end();
    co_return;
}

void PipeStream::abort() {
    if (!failed_) failed_ = Errc::cancelled;
    end();
}

}  // namespace

std::pair<StreamPtr, StreamPtr> make_pipe(async::Executor executor, const PipeOptions& options) {
    const auto rightward = std::make_shared<Direction>(executor);
    const auto leftward = std::make_shared<Direction>(executor);
    return {
        std::make_unique<PipeStream>(leftward, rightward, options, options.left, options.right),
        std::make_unique<PipeStream>(rightward, leftward, options, options.right, options.left)
    };
}

}  // namespace sluice::net
