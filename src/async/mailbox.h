#pragma once

#include <boost/asio/post.hpp>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "async/task.h"

namespace sluice::async {

// Carries batches of values to a shard. push() from any thread; the shard is woken only when the box was empty, and
// `receive` gets everything that gathered since. Thread-safe; must be outlived by its shard's loop.
template <class T>
class Mailbox {
public:
    using Receive = std::function<void(std::vector<T>&)>;

    Mailbox(Executor executor, Receive receive) : executor_(executor), receive_(std::move(receive)) {}

    void push(T value) {
        bool wake = false;
        {
            const std::scoped_lock lock(mutex_);
            wake = incoming_.empty();
            incoming_.push_back(std::move(value));
        }
        if (wake) post_drain();
    }

    // Moves the elements out of `values` and leaves it empty.
    void push_all(std::vector<T>& values) {
        if (values.empty()) return;
        bool wake = false;
        {
            const std::scoped_lock lock(mutex_);
            wake = incoming_.empty();
            if (wake) {
                incoming_.swap(values);
            } else {
                for (T& value : values) incoming_.push_back(std::move(value));
            }
        }
        values.clear();
        if (wake) post_drain();
    }

private:
    void post_drain() {
        boost::asio::post(executor_, [this] { drain(); });
    }
    void drain() {
        {
            const std::scoped_lock lock(mutex_);
            taken_.swap(incoming_);
        }
        receive_(taken_);
        taken_.clear();
    }

    Executor executor_;
    Receive receive_;
    std::mutex mutex_;
    std::vector<T> incoming_;
    std::vector<T> taken_;
};

}  // namespace sluice::async
