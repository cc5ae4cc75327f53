#include "async/blocking.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

namespace sluice::async {

Task<bool> sleep_for(std::chrono::milliseconds delay) {
    const Executor executor = co_await boost::asio::this_coro::executor;
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return false;
    boost::asio::basic_waitable_timer<
        std::chrono::steady_clock, boost::asio::wait_traits<std::chrono::steady_clock>, Executor>
        timer(executor, delay);
    const auto token = boost::asio::as_tuple(boost::asio::use_awaitable_t<Executor>());
    const auto [error] = co_await timer.async_wait(token);
    co_return !error;
}

}  // namespace sluice::async
