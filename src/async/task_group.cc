#include "async/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <cstdio>
#include <exception>

namespace sluice::async {
namespace {

[[noreturn]] void report_and_abort(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "exception escaped a task: %s\n", e.what());
    } catch (...) {
        std::fprintf(stderr, "exception escaped a task\n");
    }
    UNREACHABLE();
}

// By default Asio throws from every co_await of a cancelled task. A cancelled task is to end in its own way instead.
Task<> end_in_its_own_way(Task<> task) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    co_await std::move(task);
}

}  // namespace

void TaskGroup::spawn(Task<> task) {
    ASSERT(!closing_);
    const auto entry = tasks_.emplace(tasks_.end());
    boost::asio::co_spawn(
        executor_, end_in_its_own_way(std::move(task)),
        boost::asio::bind_cancellation_slot(entry->cancel.slot(), [this, entry](const std::exception_ptr& error) {
            if (error) report_and_abort(error);
            tasks_.erase(entry);
            if (closing_ && tasks_.empty()) empty_.set();
        }));
}

void TaskGroup::cancel() {
    // A cancelled task may end at once and leave the list: take the next one first.
    for (auto entry = tasks_.begin(); entry != tasks_.end();) {
        const auto current = entry++;
        current->cancel.emit(boost::asio::cancellation_type::terminal);
    }
}

Task<> TaskGroup::close() {
    closing_ = true;
    if (tasks_.empty()) co_return;
    cancel();
    co_await empty_.wait();
}

}  // namespace sluice::async
