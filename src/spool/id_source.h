#pragma once

#include <atomic>

#include "base/clock.h"
#include "base/ids.h"

namespace sluice::spool {

// Gives every new message an id above all earlier ones, also across restarts and wall clocks set back. Thread-safe.
class IdSource {
public:
    IdSource(const Clock& clock, MessageId above);
    MessageId next();

private:
    const Clock& clock_;
    std::atomic<std::uint64_t> last_;
};

}  // namespace sluice::spool
