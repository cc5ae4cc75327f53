#pragma once

#include <cstdint>

#include "queue/slab.h"

namespace sluice::queue {

// Goes through the places of a table, a few at a time. Who begins anew meanwhile goes on from where it is, so that every place has its turn
// however often that happens. Value.
class Sweep {
public:
    // All places before `end` are to be visited from now on.
    void begin(Index end) {
        end_ = left_ = end;
        if (at_ >= end_) at_ = 0;
    }
    // So many are left.
    Index left() const { return left_; }
    // The next place; there must be one left.
    Index next() {
        --left_;
        const Index at = at_++;
        if (at_ == end_) at_ = 0;
        return at;
    }
    // This place will be visited.
    bool covers(Index at) const { return at < end_ && (at >= at_ ? at - at_ : at + end_ - at_) < left_; }

private:
    Index at_ = 0;
    Index end_ = 0;
    Index left_ = 0;
};

}  // namespace sluice::queue
