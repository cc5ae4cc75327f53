#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>

namespace sluice::net {

// How operations are awaited here: error codes come back as values, and the operation needs no coroutine
// frame of its own, which use_awaitable would allocate.
inline constexpr auto as_values = boost::asio::as_tuple(boost::asio::deferred);

}  // namespace sluice::net
