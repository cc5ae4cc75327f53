#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

namespace sluice::async {

using Executor = boost::asio::io_context::executor_type;

}  // namespace sluice::async

namespace sluice {

// One conversation, written as a coroutine. Runs on the shard it was spawned on.
template <class T = void>
using Task = boost::asio::awaitable<T, async::Executor>;

}  // namespace sluice
