#pragma once

#include <boost/asio/post.hpp>
#include <optional>
#include <utility>

#include "async/signal.h"
#include "async/task.h"
#include "async/workers.h"

namespace sluice::async {

// Runs `function` on a worker and resumes the caller on its own shard with what it returned. For disk work that a
// shard must not do itself. `function` must not throw. Cannot be cancelled.
template <class Function>
auto blocking(Workers& workers, Executor executor, Function function)
    -> Task<decltype(function())> {
    std::optional<decltype(function())> result;
    Signal done(executor);
    workers.post([&result, &done, &function, executor] {
        result.emplace(function());
        boost::asio::post(executor, [&done] { done.set(); });
    });
    co_await done.wait();
    co_return std::move(*result);
}

// Returns after `delay`, or early with false when the task is or was cancelled.
Task<bool> sleep_for(std::chrono::milliseconds delay);

}  // namespace sluice::async
