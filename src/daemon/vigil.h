#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace sluice::daemon {

// What a part of the engine shows of itself when it is looked at. Value.
struct Sign {
    std::uint64_t steps = 0;  // differs from last time when the part has worked since
    bool excused = false;     // it is not its fault: there is nothing to do, or a disk does not answer
};

// Tells whether every part that mail depends on still does its work. Owned by one thread.
class Vigil {
public:
    using Look = std::function<Sign()>;

    void watch(std::string name, Look look);
    // A part that takes calls from a queue of its own: `post` puts one there. It has worked when that was called. One call
    // is under way at a time, so a part that hangs is not buried.
    void watch_queue(std::string name, std::function<void(std::function<void()>)> post, std::function<bool()> excused = {});

    // Looks at every part. True when each has shown a sign of life since this was true last.
    bool all_alive();
    // Names of those that have not.
    std::vector<std::string> silent() const;

private:
    struct Part {
        std::string name;
        Look look;
        std::uint64_t steps = 0;
        bool alive = true;
    };
    std::vector<Part> parts_;
};

}  // namespace sluice::daemon
