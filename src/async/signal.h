#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <utility>

#include "async/task.h"
#include "base/assert.h"

namespace sluice::async {

// One coroutine waits, somebody on the same shard wakes it. Remembers a set() that came before the wait.
// Shard-owned. At most one waiter. The owner outlives the waiter. A wait cannot be cancelled: call set().
class Signal {
    struct Waiter {
        virtual ~Waiter() = default;
        virtual void resume() = 0;
    };
    template <class Handler>
    struct WaiterOf final : Waiter {
        WaiterOf(Handler handler_, Executor executor_) : handler(std::move(handler_)), executor(executor_) {}
        // Posted, not called: the caller of set() finishes what it is doing first.
        void resume() override { boost::asio::post(executor, std::move(handler)); }
        Handler handler;
        Executor executor;
    };

    auto suspend() {
        return boost::asio::async_initiate<const boost::asio::use_awaitable_t<Executor>, void()>(
            [this](auto handler) {
                ASSERT(!waiter_);
                waiter_ = std::make_unique<WaiterOf<decltype(handler)>>(std::move(handler), executor_);
            },
            use_awaitable_);
    }

public:
    explicit Signal(Executor executor) : executor_(executor) {}
    Signal(const Signal&) = delete;
    Signal& operator=(const Signal&) = delete;
    ~Signal() { ASSERT(!waiter_); }

    void set() {
        if (waiter_) {
            auto waiter = std::move(waiter_);
            waiter->resume();
        } else {
            set_ = true;
        }
    }
    bool has_waiter() const { return waiter_ != nullptr; }

    // Returns when set() was called; consumes it.
    Task<> wait() {
        if (std::exchange(set_, false)) co_return;
        co_await suspend();
    }

private:
    static constexpr boost::asio::use_awaitable_t<Executor> use_awaitable_{};
    Executor executor_;
    std::unique_ptr<Waiter> waiter_;
    bool set_ = false;
};

}  // namespace sluice::async
