#pragma once

#include <mutex>
#include <utility>

namespace sluice::async {

// A value that several shards share and none owns, behind a lock. For what is touched rarely and briefly: the function
// must not wait, nor call anything that might come back here. Thread-safe.
template <class T>
class Guarded {
public:
    template <class Function>
    auto with(Function&& function) {
        const std::scoped_lock lock(mutex_);
        return std::forward<Function>(function)(value_);
    }
    template <class Function>
    auto with(Function&& function) const {
        const std::scoped_lock lock(mutex_);
        return std::forward<Function>(function)(std::as_const(value_));
    }

private:
    mutable std::mutex mutex_;
    T value_{};
};

}  // namespace sluice::async
