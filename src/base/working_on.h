#pragma once

#include <cstdint>

#include "base/ids.h"

namespace sluice {

// Says, while it lives, which message this thread parses or rewrites: a crash is then known to be about that message.
// Not across a co_await: the thread does other work meanwhile. May be nested; the innermost counts.
class WorkingOn {
public:
    explicit WorkingOn(MessageId id);
    ~WorkingOn();
    WorkingOn(const WorkingOn&) = delete;
    WorkingOn& operator=(const WorkingOn&) = delete;

private:
    const std::uint64_t outer_;
};

// The message that this thread works on; 0: none. May be asked in the handler of a signal.
MessageId worked_on() noexcept;

}  // namespace sluice
