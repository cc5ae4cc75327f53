#pragma once

#include <future>
#include <string>
#include <vector>

#include "async/shard.h"
#include "async/task_group.h"
#include "dns/resolver.h"

namespace sluice::dns {

template <class T>
Task<> deliver_to(std::promise<T>& out, Task<T> task) {
    T value = co_await std::move(task);
    out.set_value(std::move(value));
}

// The real resolver on a shard of its own. Closed by the destructor.
class TestResolver {
public:
    explicit TestResolver(const config::DnsSettings& settings) : resolver_(make_resolver(shard_, settings)) {
        shard_.start();
    }
    ~TestResolver() {
        if (!closed_) close();
        run(close_tasks());
        shard_.stop();
    }

    Result<Answer<std::vector<MxRecord>>> mx(const std::string& name) {
        return start(resolver_->mx(name)).get();
    }
    Result<Answer<std::vector<net::IpAddress>>> a(const std::string& name) {
        return start(resolver_->a(name)).get();
    }
    Result<Answer<std::vector<net::IpAddress>>> aaaa(const std::string& name) {
        return start(resolver_->aaaa(name)).get();
    }
    std::future<Result<Answer<std::vector<net::IpAddress>>>> start_a(const std::string& name) {
        return start(resolver_->a(name));
    }
    void configure(const config::DnsSettings& settings) {
        std::promise<void> done;
        shard_.post([&] {
            resolver_->configure(settings);
            done.set_value();
        });
        done.get_future().wait();
    }
    void close() {
        run(close_resolver());
        closed_ = true;
    }
    Resolver& resolver() { return *resolver_; }
    async::Shard& shard() { return shard_; }

    // Runs the task on the shard; its value comes through the future.
    template <class T>
    std::future<T> start(Task<T> task) {
        auto out = std::make_unique<std::promise<T>>();
        auto future = out->get_future();
        shard_.post([this, out = std::move(out), task = std::move(task)]() mutable {
            tasks_.spawn(fulfil(std::move(out), std::move(task)));
        });
        return future;
    }

private:
    template <class T>
    static Task<> fulfil(std::unique_ptr<std::promise<T>> out, Task<T> task) {
        T value = co_await std::move(task);
        out->set_value(std::move(value));
    }
    Task<bool> close_resolver() {
        co_await resolver_->close();
        co_return true;
    }
    Task<bool> close_tasks() {
        co_await tasks_.close();
        co_return true;
    }
    void run(Task<bool> task) {
        std::promise<bool> done;
        async::TaskGroup last(shard_.executor());
        shard_.post([&] { last.spawn(deliver_to(done, std::move(task))); });
        done.get_future().wait();
        std::promise<void> gone;
        wait_until_empty(last, gone);
        gone.get_future().wait();
    }
    void wait_until_empty(async::TaskGroup& group, std::promise<void>& gone) {
        shard_.post([this, &group, &gone] {
            if (group.size() == 0) {
                gone.set_value();
            } else {
                wait_until_empty(group, gone);
            }
        });
    }

    async::Shard shard_{"dns-test"};
    async::TaskGroup tasks_{shard_.executor()};
    std::unique_ptr<Resolver> resolver_;
    bool closed_ = false;
};

}  // namespace sluice::dns
