#pragma once

#include <boost/asio/basic_waitable_timer.hpp>
#include <chrono>
#include <memory>

#include "async/task.h"

namespace sluice::net {

// One deadline that moves often and passes rarely. Moving it later only stores a number: the timer stays
// armed for the earlier time, and arms itself again when it fires too soon. So ordinary traffic never touches
// the timer heap. Shard-owned.
class Deadline {
public:
    using TimePoint = std::chrono::steady_clock::time_point;

    // Whose operations end when the deadline passes. Outlives the deadline.
    class Owner {
    public:
        virtual void deadline_passed() = 0;

    protected:
        ~Owner() = default;
    };

    Deadline(async::Executor executor, Owner& owner) : executor_(executor), owner_(owner) {}
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { stop(); }

    void set(TimePoint when);
    // To be called before waiting: from here on the owner is told when the deadline passes.
    void arm();
    // True from the moment the owner was told until the deadline is moved.
    bool passed() const { return passed_; }
    // The owner is told nothing any more.
    void stop();

private:
    struct Alarm;

    void arm_at(TimePoint when);
    void fired();

    async::Executor executor_;
    Owner& owner_;
    // Shared with the timer's completion, which may run after the deadline is gone.
    std::shared_ptr<Alarm> alarm_;
    TimePoint when_ = TimePoint::max();
    TimePoint armed_for_ = TimePoint::max();
    bool passed_ = false;
};

}  // namespace sluice::net
