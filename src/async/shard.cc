#include "async/shard.h"

#include <pthread.h>

#include <utility>

namespace sluice::async {

Shard::Shard(std::string name) : name_(std::move(name)) {}

Shard::~Shard() { stop(); }

void Shard::start() {
    if (std::exchange(started_, true)) return;
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
        loop_.run();
    });
}

void Shard::stop() {
    guard_.reset();
    if (thread_.joinable()) thread_.join();
}

}  // namespace sluice::async
