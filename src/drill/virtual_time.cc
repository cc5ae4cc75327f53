#include "drill/virtual_time.h"

#include "base/assert.h"

namespace sluice::drill {
namespace {

struct State {
    bool running = false;
    std::int64_t monotonic_ns = 1'000'000'000'000;
    std::int64_t wall_offset_ns = 0;
    int last_wait_ms = 0;
};
State state;  // NOLINT: the process has one set of clocks

}  // namespace

void VirtualTime::begin(std::int64_t wall_ms) {
    state = State();
    state.running = true;
    state.wall_offset_ns = wall_ms * 1'000'000 - state.monotonic_ns;
}
bool VirtualTime::running() { return state.running; }
std::int64_t VirtualTime::now_ns() { return state.monotonic_ns; }
std::int64_t VirtualTime::wall_ns() { return state.monotonic_ns + state.wall_offset_ns; }
void VirtualTime::advance_to(std::int64_t monotonic_ns) {
    ASSERT(monotonic_ns >= state.monotonic_ns);
    state.monotonic_ns = monotonic_ns;
}
void VirtualTime::jump_wall(std::int64_t by_ns) { state.wall_offset_ns += by_ns; }
void VirtualTime::asked_to_wait(int milliseconds) { state.last_wait_ms = milliseconds; }
int VirtualTime::last_wait_ms() { return state.last_wait_ms; }

}  // namespace sluice::drill
