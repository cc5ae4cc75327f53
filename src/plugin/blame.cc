#include "plugin/blame.h"

#include <algorithm>

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;

constexpr auto window = 10min;
constexpr std::chrono::milliseconds rest_max = 10min;

}  // namespace

bool Blame::ended(std::string_view plugin, std::string_view hook, const Limits& limits, Time now) {
    if (limits.ends == 0) return false;
    Case& found = case_of(plugin, hook, now);
    found.ends.push_back(now);
    const bool again = found.last_rest > 0ms && now < found.until + window;
    if (!again && found.ends.size() < static_cast<std::size_t>(limits.ends)) return false;
    found.last_rest = std::min(again ? found.last_rest * 2 : limits.rest, rest_max);
    found.until = now + found.last_rest;
    found.ends.clear();
    return true;
}

std::vector<Blame::Resting> Blame::resting(Time now) const {
    std::vector<Resting> resting;
    for (const Case& one : cases_) {
        if (one.last_rest > 0ms && one.until > now) resting.push_back({one.plugin, one.hook, one.until});
    }
    return resting;
}

// Those that have behaved for long enough are forgotten on the way.
Blame::Case& Blame::case_of(std::string_view plugin, std::string_view hook, Time now) {
    for (Case& one : cases_)
        std::erase_if(one.ends, [now](Time end) { return now - end > window; });
    std::erase_if(cases_, [now](const Case& one) {
        return one.ends.empty() && (one.last_rest == 0ms || now >= one.until + window);
    });
    const auto is_it = [&](const Case& one) { return one.plugin == plugin && one.hook == hook; };
    const auto found = std::find_if(cases_.begin(), cases_.end(), is_it);
    if (found != cases_.end()) return *found;
    cases_.push_back({std::string(plugin), std::string(hook), {}, {}, {}});
    return cases_.back();
}

}  // namespace sluice::plugin
