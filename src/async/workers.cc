#include "async/workers.h"

#include <pthread.h>

namespace sluice::async {

Workers::Workers(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) {
        threads_.emplace_back([this] {
            pthread_setname_np(pthread_self(), "sluice-worker");
            work_.run();
        });
    }
}

Workers::~Workers() { join(); }

void Workers::join() {
    guard_.reset();
    if (threads_.empty()) work_.poll();
    for (std::thread& thread : threads_) {
        if (thread.joinable()) thread.join();
    }
}

}  // namespace sluice::async
