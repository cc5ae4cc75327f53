#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <string>
#include <thread>
#include <utility>

#include "async/task.h"

namespace sluice::async {

// One thread with one event loop. Objects on it are touched by this thread only.
class Shard {
public:
    explicit Shard(std::string name);
    ~Shard();
    Shard(const Shard&) = delete;
    Shard& operator=(const Shard&) = delete;

    void start();  // once; later calls do nothing
    // Lets the loop end once nothing is pending, and joins. Everything on the shard has been closed before.
    void stop();

    Executor executor() { return loop_.get_executor(); }
    boost::asio::io_context& loop() { return loop_; }
    bool on_this_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

    template <class Function>
    void post(Function function) {
        boost::asio::post(loop_, std::move(function));
    }

private:
    std::string name_;
    boost::asio::io_context loop_{1};
    boost::asio::executor_work_guard<Executor> guard_{loop_.get_executor()};
    std::thread thread_;
    bool started_ = false;
};

}  // namespace sluice::async
