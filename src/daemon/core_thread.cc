#include "daemon/core_thread.h"

#include <pthread.h>

#include <utility>

namespace sluice::daemon {

CoreThread::CoreThread(const Clock& clock, const queue::Options& options, OnActions on_actions)
    : clock_(clock), core_(options), on_actions_(std::move(on_actions)) {}

CoreThread::~CoreThread() { stop(); }

void CoreThread::recover(queue::Event event) { core_.handle(std::move(event), clock_.now(), actions_); }

void CoreThread::start() {
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "sluice-core");
        run();
    });
}

void CoreThread::stop() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
}

void CoreThread::push(queue::Event event) {
    std::unique_lock lock(mutex_);
    events_.push_back(std::move(event));
    wake_if_sleeping(lock);
}

void CoreThread::push_all(std::vector<queue::Event>& events) {
    if (events.empty()) return;
    std::unique_lock lock(mutex_);
    if (events_.empty()) {
        events_.swap(events);
    } else {
        for (queue::Event& event : events) events_.push_back(std::move(event));
    }
    events.clear();
    wake_if_sleeping(lock);
}

void CoreThread::ask(Question question) {
    std::unique_lock lock(mutex_);
    questions_.push_back(std::move(question));
    wake_if_sleeping(lock);
}

void CoreThread::wake_if_sleeping(std::unique_lock<std::mutex>& lock) {
    const bool wake = std::exchange(sleeping_, false);
    lock.unlock();
    if (wake) wake_.notify_one();
}

void CoreThread::wait_for_work(std::unique_lock<std::mutex>& lock) {
    const auto something = [this] { return stopping_ || waits(); };
    if (something()) return;
    if (busy_) {
        // Under load the next events are about to come: letting others run once is cheaper than being woken by them.
        lock.unlock();
        std::this_thread::yield();
        lock.lock();
        if (something()) return;
    }
    sleeping_ = true;
    const Instant timer = core_.next_timer();
    if (timer == Instant::max()) {
        wake_.wait(lock, something);
    } else {
        const Duration left = timer - clock_.now();
        if (left.count() > 0) wake_.wait_for(lock, left, something);
    }
    sleeping_ = false;
}

// Under the lock. What recovery gave rise to waits as well.
bool CoreThread::waits() const { return !events_.empty() || !questions_.empty() || !actions_.empty(); }

// Handles what waits; the lock is released meanwhile.
void CoreThread::round(std::unique_lock<std::mutex>& lock) {
    taken_events_.swap(events_);
    taken_questions_.swap(questions_);
    busy_ = taken_events_.size() > 1;
    lock.unlock();

    const Instant now = clock_.now();
    for (queue::Event& event : taken_events_) core_.handle(std::move(event), now, actions_);
    if (core_.next_timer() <= now) core_.handle(queue::Tick{}, now, actions_);
    if (!actions_.empty()) on_actions_(actions_);
    actions_.clear();
    for (const Question& question : taken_questions_) question(core_);
    taken_events_.clear();
    taken_questions_.clear();

    lock.lock();
}

bool CoreThread::turn() {
    std::unique_lock lock(mutex_);
    if (!waits() && core_.next_timer() > clock_.now()) return false;
    round(lock);
    return true;
}

void CoreThread::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        wait_for_work(lock);
        round(lock);
    }
    // What was told at the last moment is still done, and what was asked answered: somebody waits for it.
    while (waits()) round(lock);
}

}  // namespace sluice::daemon
