#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace sluice::sim {

// What is to happen, by time; of what happens at one instant, first in, first out. One thread.
template <class Step>
class Agenda {
public:
    void add(Instant at, Step step) {
        heap_.push_back({at, ++last_, std::move(step)});
        std::push_heap(heap_.begin(), heap_.end(), later);
    }
    bool empty() const { return heap_.empty(); }
    // Instant::max() when nothing is to happen.
    Instant next() const { return heap_.empty() ? Instant::max() : heap_.front().at; }
    Step take() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        Step step = std::move(heap_.back().step);
        heap_.pop_back();
        return step;
    }
    void clear() { heap_.clear(); }

private:
    struct Entry {
        Instant at;
        std::uint64_t number;
        Step step;
    };
    static bool later(const Entry& a, const Entry& b) { return a.at != b.at ? a.at > b.at : a.number > b.number; }

    std::vector<Entry> heap_;
    std::uint64_t last_ = 0;
};

}  // namespace sluice::sim
