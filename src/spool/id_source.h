#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/ids.h"

namespace sluice::spool {

// Gives every message a new id, ascending: the time of its birth, then a counter. Thread-safe; borrows the
// clock.
class IdSource {
public:
    // `last`: the highest id of the journal (RecoveryReport::last_id); all new ones are above it.
    IdSource(const Clock& clock, MessageId last) : clock_(clock), last_(last.value) {}

    MessageId next() {
        const std::uint64_t now = static_cast<std::uint64_t>(to_ms(clock_.now())) << counter_bits;
        std::uint64_t last = last_.load(std::memory_order_relaxed);
        std::uint64_t next = 0;
        do {
            // A clock that stands still or runs behind the journal lets the counter run on, into the next
            // millisecond if need be.
            next = now > last ? now : last + 1;
        } while (!last_.compare_exchange_weak(last, next, std::memory_order_relaxed));
        return MessageId{next};
    }

private:
    static constexpr unsigned counter_bits = 22;
    const Clock& clock_;
    std::atomic<std::uint64_t> last_;
};

}  // namespace sluice::spool
