#pragma once

#include <functional>
#include <optional>
#include <utility>

#include <boost/asio/post.hpp>

#include "async/signal.h"
#include "async/task.h"
#include "daemon/core_thread.h"

namespace sluice::daemon {

// Runs `question` on the core's thread, after everything that was pushed before, and resumes on `executor` with its answer.
template <class Answer>
Task<Answer> ask(CoreThread& core, async::Executor executor, std::function<Answer(const queue::Core&)> question) {
    std::optional<Answer> answer;
    async::Signal answered(executor);
    core.ask([&](const queue::Core& state) {
        answer.emplace(question(state));
        boost::asio::post(executor, [&answered] { answered.set(); });
    });
    co_await answered.wait();
    co_return std::move(*answer);
}

}  // namespace sluice::daemon
