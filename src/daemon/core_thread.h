#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "queue/core.h"

namespace sluice::daemon {

// Runs the queue core, on a thread of its own: takes events and questions from any thread, and hands out the actions of
// everything that was waiting at once. Nothing wakes it while it is busy.
class CoreThread {
public:
    // Called on the core's thread with the actions of one round; takes them out of the vector.
    using OnActions = std::function<void(std::vector<queue::Action>&)>;
    using Question = std::function<void(const queue::Core&)>;

    CoreThread(const Clock& clock, const queue::Options& options, OnActions on_actions);
    ~CoreThread();

    // Before start(): admits what the spool recovered, without locking.
    void recover(queue::Event event);
    void start();
    // No event may be pushed afterwards.
    void stop();

    // Instead of start(): handles what waits, on the caller's thread. False when there was nothing to do.
    bool turn();
    // When turn() is due if nothing comes before; Instant::max(): never.
    Instant next_timer() const { return core_.next_timer(); }

    // Thread-safe.
    void push(queue::Event event);
    void push_all(std::vector<queue::Event>& events);  // leaves it empty
    // Runs `question` on the core's thread between events; it must be quick. The actions of events that were pushed
    // before have been handed out then.
    void ask(Question question);

private:
    void run();
    void round(std::unique_lock<std::mutex>& lock);
    bool waits() const;
    void wait_for_work(std::unique_lock<std::mutex>& lock);
    void wake_if_sleeping(std::unique_lock<std::mutex>& lock);

    const Clock& clock_;
    queue::Core core_;
    OnActions on_actions_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<queue::Event> events_;
    std::vector<Question> questions_;
    bool sleeping_ = false;
    bool busy_ = false;  // the last round had more than one event
    bool stopping_ = false;
    std::vector<queue::Action> actions_;
    std::vector<queue::Event> taken_events_;
    std::vector<Question> taken_questions_;
    std::thread thread_;
};

}  // namespace sluice::daemon
