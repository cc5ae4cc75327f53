#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::plugin {

// Which hooks are passed over because plugin hosts ended by them again and again.
//
// A hook by which `ends` hosts ended within ten minutes rests for `rest`. One host more that ends by it
// within ten minutes after that, and it rests at once, twice as long, ten minutes at most. Value; the clock
// is the caller's.
class Blame {
public:
    using Time = std::chrono::steady_clock::time_point;
    struct Limits {
        int ends = 0;  // 0: nobody rests
        std::chrono::milliseconds rest{};
    };
    // An empty hook stands for all of the plugin's.
    struct Resting {
        std::string plugin, hook;
        Time until;
    };

    // A host ended by this hook. True when it rests from now on.
    bool ended(std::string_view plugin, std::string_view hook, const Limits& limits, Time now);
    std::vector<Resting> resting(Time now) const;
    // Other versions of all plugins are in service.
    void forget() { cases_.clear(); }

private:
    struct Case {
        std::string plugin, hook;
        std::deque<Time> ends;
        Time until{};  // it rests
        std::chrono::milliseconds last_rest{};
    };
    Case& case_of(std::string_view plugin, std::string_view hook, Time now);

    std::vector<Case> cases_;
};

}  // namespace sluice::plugin
