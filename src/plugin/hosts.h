#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/guarded.h"
#include "async/shard.h"
#include "async/task_group.h"
#include "config/settings.h"
#include "plugin/log_tap.h"
#include "plugin/node_host.h"
#include "plugin/requests.h"

namespace sluice::plugin {

// What loading plugins again came to. Value.
struct Reloaded {
    bool done = false;
    std::vector<std::string> plugins;  // now in service
    std::string reason;                // not done: why not
    std::vector<LeftOut> problems;     // plugins that do not load, or are not installed
};

// The plugin host in service, and around it: the one that shall take its place when plugins have changed, and those whose
// place was taken until everything that they were asked is answered.
//
// Promise: a reload loses no question. Plugins that do not load are reported, and those in service stay. Files in plugins/
// are looked at every second, and plugins are loaded again when they have changed and then stayed as they are for a second.
// Thread: ask(), tell(), wants(), reload(), view(), serve() and the like from any thread. Reloading has a shard of its own.
class Hosts {
public:
    // What people see. Value.
    struct View {
        bool any = false;  // a host is wanted
        NodeHost::View host;
        Chronicle::State totals;
    };

    // `on_hooks`: what wants() and routes() say has changed.
    // `prepare` is called with each new host before it starts.
    using Prepare = std::function<void(NodeHost& host, const config::SettingsPtr& settings)>;
    Hosts(
        config::SettingsPtr settings, event::Log& log, async::Workers& disk_pool, NodeHost::LoadMessage load, Prepare prepare,
        std::function<void()> on_hooks);
    ~Hosts();

    // Before start(): how long those whose place was taken may take to answer.
    void see_off_within(std::chrono::milliseconds limit) { retire_limit_ = limit; }
    void start();
    // New settings: another list of plugins is another set of plugins.
    void configure(config::SettingsPtr settings);
    // A reload that is under way ends without effect, and no other begins.
    void stop_reloading() { reloads_ = false; }
    // As NodeHost.
    void begin_closing(NodeHost::Clock::time_point deadline);
    void end();

    void ask(Question& question);
    void tell(std::string text);
    void report(std::string text);
    // Shows log lines to plugins that want them.
    event::LineListener& log_listener() { return log_tap_; }
    void forget(ItemId item);
    // For a sequence of questions that only one host can answer: null when no plugin is listed. While somebody holds it, it
    // answers, though others may have taken its place; for some minutes.
    std::shared_ptr<NodeHost> lease() const;
    // Where they stand in the order of all plugins; null when none is listed.
    JavaScriptListenersPtr listeners() const;
    template <class Hook>
    bool wants(Hook hook) const {
        return (hooks_ & NodeHost::bit(point_of(hook))) != 0;
    }
    bool routes() const { return (hooks_ & NodeHost::routes_bit) != 0; }
    // Whether there are plugins at all.
    bool any() const { return any_; }

    // Loads all plugins again. `done` is called on a thread of ours.
    void reload(std::string why, std::function<void(Reloaded)> done = {});
    View view() const;
    // Who answers what plugins ask for from now on; nobody: it is refused.
    void serve(ServeCalls serve);

private:
    using HostPtr = std::shared_ptr<NodeHost>;
    struct Service {
        config::SettingsPtr settings;
        HostPtr host;  // null: no plugin is listed
        std::optional<NodeHost::Clock::time_point> closing;  // as begin_closing() said
    };
    struct Wish {
        std::string why;
        std::function<void(Reloaded)> done;
    };
    struct Trial;

    HostPtr make_host(const config::SettingsPtr& settings, std::function<void(Result<>)> on_trial = {});
    void begin_service(Service& service);
    void publish(unsigned hooks);
    void hear_log(const HostPtr& host);
    void handle_hooks(const NodeHost& host);
    void handle_request(NodeHost& host, std::uint64_t life, const boost::json::object& request);
    void begin_care();
    Task<> care();
    Task<> finish(std::latch& ended);
    void look_at_files();
    Task<Reloaded> try_again(std::string why);
    void replace(HostPtr next);
    Task<> see_off(HostPtr old);
    Reloaded report_of(const Result<>& outcome, const NodeHost& tried, const std::string& why);

    event::Log& log_;
    async::Workers& disk_pool_;
    const NodeHost::LoadMessage load_;
    const Prepare prepare_;
    const std::function<void()> on_hooks_;
    Chronicle chronicle_;
    std::atomic<unsigned> hooks_ = 0;
    std::atomic<bool> any_ = false;
    async::Guarded<Service> service_;
    async::Guarded<HostPtr> hears_log_;  // apart from service_: whoever holds that may log
    LogTap log_tap_;
    async::Guarded<ServeCalls> serve_;
    std::shared_ptr<std::atomic<int>> requests_ = std::make_shared<std::atomic<int>>(0);  // under way

    async::Shard shard_;
    async::TaskGroup tasks_;
    async::TaskGroup closing_tasks_;
    std::vector<Wish> wishes_;
    bool caring_ = false;
    bool told_waiting_ = false;  // that a reload waits
    std::size_t leaving_ = 0;  // hosts whose place was taken
    std::uint64_t files_tried_ = 0, files_seen_ = 0;  // fingerprints of plugins/
    std::chrono::milliseconds retire_limit_;
    std::atomic<bool> reloads_ = true;
    std::atomic<bool> ending_ = false;
    bool started_ = false;
};

}  // namespace sluice::plugin
