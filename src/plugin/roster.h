#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "async/guarded.h"
#include "plugin/blame.h"

// What plugin hosts tell of their plugins, for people.
namespace sluice::plugin {

struct LoadedPlugin {
    std::string name, path;
    double timeout_s = 0;  // 0: none
    bool package = false;
    bool native = false;
};
struct Listener {
    std::string plugin, method;
    std::int64_t priority = 0;
    bool native = false;
};
struct HookedPoint {
    std::string hook;
    bool called = false;  // by the engine, or by the host itself
    std::vector<Listener> listeners;  // in run order
};
// A plugin that did not load. Value.
struct LeftOut {
    std::string name, reason;
    std::string file;  // of its author, where that is known
    std::uint64_t line = 0;
    bool broken = false;  // installed, and yet it does not load
    std::string place() const { return file.empty() ? std::string() : file + ":" + std::to_string(line); }
};
struct Roster {
    std::vector<LoadedPlugin> plugins;
    std::vector<HookedPoint> hooks;
    std::vector<LeftOut> left_out;
};
// Of a host's `ready`.
Roster roster_of(const boost::json::object& ready);

// Calls of one hook of one plugin. Value.
struct HookCounts {
    std::uint64_t calls = 0, timeouts = 0, failures = 0;
    double ms = 0;       // until the answer
    double busy_ms = 0;  // while the plugin's code ran and nothing else could
    double max_ms = 0;
    std::uint64_t host_ends = 0;  // of hosts, that this is to blame for: HostEnd
    std::uint64_t over_budget = 0, passed_over = 0;
};

// How a host ended, and who was probably to blame. Value.
struct HostEnd {
    std::int64_t at_ms = 0;  // by the wall clock
    std::string reason, plugin, hook;
    std::string because;  // how `plugin` is connected with it: "was running"; empty with it
    std::int64_t lived_s = 0;
    bool certain = false;  // it hung or ran out of memory, and by this plugin
};

// A hook that is not asked for now. Value.
struct PassedOver {
    std::string plugin, hook;
    std::int64_t until_ms = 0;  // by the wall clock
};
// Of a host's `metrics`.
std::vector<PassedOver> passed_over_of(const boost::json::object& metrics);

// What has been counted since the engine's start, over all hosts. Thread-safe.
class Chronicle {
public:
    using Key = std::pair<std::string, std::string>;  // plugin, hook
    // What one host has told; a new one counts from zero.
    struct Seen {
        std::map<Key, HookCounts> counts;
        std::uint64_t cpu_ms = 0;
    };
    struct State {
        std::map<Key, HookCounts> counts;
        std::uint64_t cpu_ms = 0, starts = 0, ends = 0, reloads = 0, failed_reloads = 0;
        std::deque<HostEnd> last_ends;  // the newest first
    };

    // A `metrics` message.
    void count(const boost::json::object& metrics, Seen& seen);
    void started() { state_.with([](State& state) { ++state.starts; }); }
    void ended(HostEnd end);
    // True when the hook that it was is passed over from now on.
    bool blame(const HostEnd& end, const Blame::Limits& limits, Blame::Time now);
    std::vector<Blame::Resting> resting(Blame::Time now) const;
    void reloaded(bool well);
    State state() const { return state_.with([](const State& state) { return state; }); }

private:
    async::Guarded<State> state_;
    async::Guarded<Blame> blame_;
};

}  // namespace sluice::plugin
