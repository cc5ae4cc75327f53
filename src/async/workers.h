#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::async {

// Runs work that blocks, on threads of its own. With none, whoever made it runs the work by hand, as the simulator does.
// post() from any thread.
class Workers {
public:
    explicit Workers(std::size_t threads);
    ~Workers();
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    template <class Function>
    void post(Function function) {
        boost::asio::post(work_, std::move(function));
    }
    // Without threads: does one piece of work; false when there is none.
    bool run_one() { return work_.poll_one() > 0; }
    // Returns when everything that was posted is done; nothing may be posted afterwards.
    void join();

private:
    boost::asio::io_context work_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{work_.get_executor()};
    std::vector<std::thread> threads_;
};

}  // namespace sluice::async
