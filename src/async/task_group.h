#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <list>

#include "async/signal.h"
#include "async/task.h"

namespace sluice::async {

// Owns the coroutines that it spawned: close() cancels them and waits for the last one. The owner of the state that
// the tasks use owns the group too, and closes it before it dies; the destructor asserts that no task is left.
// Shard-owned.
class TaskGroup {
public:
    explicit TaskGroup(Executor executor) : executor_(executor), empty_(executor) {}
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup() { ASSERT(tasks_.empty()); }

    // Starts the task on the shard. An exception that escapes it is our bug: it is printed and aborts.
    void spawn(Task<> task);
    // Asks every task to stop at its next wait (net operations return Errc::cancelled).
    void cancel();
    // cancel(), then waits until all have ended. Nothing may be spawned afterwards.
    Task<> close();

    std::size_t size() const { return tasks_.size(); }
    bool closing() const { return closing_; }

private:
    struct Entry {
        boost::asio::cancellation_signal cancel;
    };
    Executor executor_;
    std::list<Entry> tasks_;
    Signal empty_;
    bool closing_ = false;
};

}  // namespace sluice::async
