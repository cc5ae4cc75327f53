#include "net/deadline.h"

namespace sluice::net {

struct Deadline::Alarm {
    using Clock = std::chrono::steady_clock;

    Alarm(async::Executor executor, Deadline& owner) : timer(executor), deadline(&owner) {}

    boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, async::Executor> timer;
    Deadline* deadline;  // null once stopped
};

void Deadline::set(TimePoint when) {
    when_ = when;
    passed_ = false;
    if (when < armed_for_ && armed_for_ != TimePoint::max()) arm_at(when);
}

void Deadline::arm() {
    if (when_ < armed_for_ && !passed_) arm_at(when_);
}

void Deadline::arm_at(TimePoint when) {
    if (!alarm_) alarm_ = std::make_shared<Alarm>(executor_, *this);
    armed_for_ = when;
    alarm_->timer.expires_at(when);
    alarm_->timer.async_wait([alarm = alarm_](const boost::system::error_code& error) {
        if (!error && alarm->deadline != nullptr) alarm->deadline->fired();
    });
}

void Deadline::fired() {
    armed_for_ = TimePoint::max();
    if (when_ == TimePoint::max()) return;
    if (std::chrono::steady_clock::now() < when_) {
        arm_at(when_);
        return;
    }
    passed_ = true;
    owner_.deadline_passed();
}

void Deadline::stop() {
    when_ = TimePoint::max();
    armed_for_ = TimePoint::max();
    if (!alarm_) return;
    alarm_->deadline = nullptr;
    alarm_->timer.cancel();
    alarm_.reset();
}

}  // namespace sluice::net
