#include "base/working_on.h"

#include <signal.h>

#include <cstddef>
#include <memory>

namespace sluice {
namespace {

// A thread that has used up its stack, in a parser that recursed too deeply, say, needs another one to tell of it.
class SignalStack {
public:
    SignalStack() {
        stack_t present{};
        if (::sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;  // a sanitizer has made one
        room_ = std::make_unique<std::byte[]>(size);
        stack_t ours{};
        ours.ss_sp = room_.get();
        ours.ss_size = size;
        if (::sigaltstack(&ours, nullptr) != 0) room_.reset();
    }
    ~SignalStack() {
        if (!room_) return;
        stack_t none{};
        none.ss_flags = SS_DISABLE;
        ::sigaltstack(&none, nullptr);
    }
    SignalStack(const SignalStack&) = delete;
    SignalStack& operator=(const SignalStack&) = delete;

private:
    static constexpr std::size_t size = 32 * 1024;
    std::unique_ptr<std::byte[]> room_;
};

// A handler can ask neither an object with a constructor nor one behind a lock.
constinit thread_local std::uint64_t current = 0;

}  // namespace

WorkingOn::WorkingOn(MessageId id) : outer_(current) {
    static thread_local const SignalStack stack;
    current = id.value;
}

WorkingOn::~WorkingOn() { current = outer_; }

MessageId worked_on() noexcept { return MessageId{current}; }

}  // namespace sluice
