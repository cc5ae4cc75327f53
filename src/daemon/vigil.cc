#include "daemon/vigil.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

namespace sluice::daemon {

void Vigil::watch(std::string name, Look look) {
    const std::uint64_t steps = look().steps;
    parts_.push_back({std::move(name), std::move(look), steps});
}

void Vigil::watch_queue(
    std::string name, std::function<void(std::function<void()>)> post, std::function<bool()> excused) {
    struct Calls {
        std::uint64_t posted = 0;
        std::atomic<std::uint64_t> answered = 0;
    };
    // A call may still wait in the queue when we are gone.
    const auto calls = std::make_shared<Calls>();
    watch(std::move(name), [calls, post = std::move(post), excused = std::move(excused)] {
        const std::uint64_t answered = calls->answered;
        if (answered == calls->posted) {
            ++calls->posted;
            post([calls] { ++calls->answered; });
        }
        return Sign{answered, excused && excused()};
    });
}

bool Vigil::all_alive() {
    for (Part& part : parts_) {
        const Sign sign = part.look();
        const bool worked = sign.steps != std::exchange(part.steps, sign.steps);
        if (worked || sign.excused) part.alive = true;
    }
    if (!std::ranges::all_of(parts_, &Part::alive)) return false;
    for (Part& part : parts_) part.alive = false;
    return true;
}

std::vector<std::string> Vigil::silent() const {
    std::vector<std::string> names;
    for (const Part& part : parts_) {
        if (!part.alive) names.push_back(part.name);
    }
    return names;
}

}  // namespace sluice::daemon
