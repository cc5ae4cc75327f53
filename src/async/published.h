#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace sluice::async {

// The newest version of an immutable value: one publishes, anybody reads. A reader keeps its snapshot as long as it
// likes. Thread-safe.
template <class T>
class Published {
public:
    using Ptr = std::shared_ptr<const T>;

    explicit Published(Ptr first) : value_(std::move(first)) {}
    Ptr get() const {
        const std::scoped_lock lock(mutex_);
        return value_;
    }
    void set(Ptr value) {
        const std::scoped_lock lock(mutex_);
        value_.swap(value);
    }

private:
    mutable std::mutex mutex_;
    Ptr value_;
};

}  // namespace sluice::async
