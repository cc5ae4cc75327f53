#pragma once

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "async/task.h"

namespace sluice::async {

// Carries batches of values to a shard. push() from any thread; the shard is woken only when the box was empty, and
// `receive` gets everything that gathered since. Thread-safe; must be outlived by its shard's loop.
//
// What nobody waits for may be pushed as unhurried: for `gather` after a batch it wakes nobody, and comes with what has
// gathered by then, in the order of the pushes. A busy sender so wakes the shard a thousand times a second, not each time.
template <class T>
class Mailbox {
public:
    using Receive = std::function<void(std::vector<T>&)>;

    Mailbox(Executor executor, Receive receive, std::chrono::microseconds gather = {})
        : executor_(executor), receive_(std::move(receive)), gather_(gather) {
        if (gather_.count() > 0) timer_.emplace(executor_);
    }

    void push(T value) { put(std::move(value), true); }
    void push_unhurried(T value) { put(std::move(value), false); }

    // Moves the elements out of `values` and leaves it empty.
    void push_all(std::vector<T>& values) {
        if (values.empty()) return;
        bool wake = false;
        {
            const std::scoped_lock lock(mutex_);
            wake = call(true);
            if (incoming_.empty()) {
                incoming_.swap(values);
            } else {
                for (T& value : values) incoming_.push_back(std::move(value));
            }
        }
        values.clear();
        if (wake) post_drain();
    }

private:
    void put(T value, bool hurried) {
        bool wake = false;
        {
            const std::scoped_lock lock(mutex_);
            wake = call(hurried);
            incoming_.push_back(std::move(value));
        }
        if (wake) post_drain();
    }

    // Whether the shard must be woken. Under the lock.
    bool call(bool hurried) {
        if (called_ || (gathering_ && !hurried)) return false;
        return called_ = true;
    }

    void post_drain() {
        boost::asio::post(executor_, [this] { drain(); });
    }

    void drain() {
        {
            const std::scoped_lock lock(mutex_);
            called_ = false;
            gathering_ = timer_.has_value();
            taken_.swap(incoming_);
        }
        receive_(taken_);
        taken_.clear();
        if (timer_ && !std::exchange(timed_, true)) wait();
    }

    void wait() {
        timer_->expires_after(gather_);
        timer_->async_wait([this](const boost::system::error_code& error) {
            if (error) return;
            timed_ = false;
            if (gathered()) drain();
        });
    }

    // Something came meanwhile; otherwise the next one wakes the shard.
    bool gathered() {
        const std::scoped_lock lock(mutex_);
        return gathering_ = !incoming_.empty();
    }

    Executor executor_;
    Receive receive_;
    std::chrono::microseconds gather_;
    std::mutex mutex_;
    std::vector<T> incoming_;
    bool called_ = false;     // a drain is posted
    bool gathering_ = false;  // the timer runs
    // Of the shard.
    std::vector<T> taken_;
    std::optional<boost::asio::steady_timer> timer_;
    bool timed_ = false;
};

}  // namespace sluice::async
