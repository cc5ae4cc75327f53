#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "async/workers.h"
#include "base/clock.h"
#include "config/settings.h"
#include "daemon/acceptance.h"
#include "daemon/clock_memory.h"
#include "daemon/core_thread.h"
#include "daemon/crash_guard.h"
#include "daemon/shard_unit.h"
#include "event/events.h"
#include "event/log.h"
#include "plugin/hosts.h"
#include "plugin/images.h"
#include "plugin/native_host.h"
#include "reception/census.h"
#include "spool/id_source.h"
#include "spool/spool.h"

namespace sluice::daemon {

// What the machinery stands on: the machine, or what the simulator puts in its place. Value.
struct Ground {
    using OnItem = std::function<void(const spool::RecoveredItem&)>;
    using OpenSpool = std::function<Result<std::unique_ptr<spool::Spool>>(
        const spool::Options&, const OnItem&, spool::RecoveryReport&)>;

    net::Network& network = net::system_network();
    dns::MakeContext dns;  // null: libunbound
    OpenSpool open_spool = spool::Spool::open;
    std::size_t disk_workers = 2;
    std::vector<net::IpAddress> ourselves = net::local_addresses();
    // Engine time and crashes are kept in files of the queue directory.
    bool remembers = true;
};

// Everything of an instance that moves mail, connected: the queue core, the spool, the shards. An Engine puts logs,
// control API and process around it; the simulator puts a fake world around the same.
//
// recover(), build(), load_plugins(), then either start() for threads, or, in one thread, turns of the core, the spool, the shards'
// loops and the workers. close() and then finish() end it.
class Machinery {
public:
    Machinery(Ground ground, event::Recorder& events, event::Log& log);
    ~Machinery();

    // Opens the spool and tells the core what is queued. Only once.
    Result<> recover(const config::Settings& settings);
    void build(const config::SettingsPtr& settings);
    Result<> listen();
    // Before start(): native plugins, which run with the rights that the process has by now. Error: config.
    Result<> load_plugins();
    void start();

    // New settings, already checked. Thread-safe.
    void apply(const config::SettingsPtr& settings);
    // From any thread, returns at once: stops accepting, then delivering; `closed` is called when all shards are quiet.
    void close(std::chrono::steady_clock::time_point deadline, std::function<void()> closed);
    // After that: writes what is left and ends the threads.
    void finish();

    SystemClock& clock() { return clock_; }
    Instant started() const { return started_; }
    CoreThread& core() { return *core_; }
    spool::Spool& spool() { return *spool_; }
    spool::IdSource& ids() { return *ids_; }
    const Pressure& pressure() const { return *pressure_; }
    const CrashGuard& crash_guard() const { return *crash_guard_; }
    async::Workers& workers() { return workers_; }
    plugin::Images& images() { return images_; }
    reception::Census& census() { return census_; }
    const spool::RecoveryReport& recovery() const { return recovery_; }
    const std::vector<std::unique_ptr<ShardUnit>>& shards() const { return shards_; }
    // Shows log lines to plugins; null where there are no processes.
    event::LineListener* log_listener() { return plugins_ ? &plugins_->log_listener() : nullptr; }
    // Null where there are no processes.
    plugin::Hosts* plugins() { return plugins_.get(); }
    plugin::NativeHost* natives() { return natives_.get(); }
    // Removals that are not yet appended to the spool.
    std::uint64_t removals_under_way() const { return removals_under_way_; }

private:
    void on_actions(std::vector<queue::Action>& actions);
    void tell(const policy::Reaction& reaction);
    void record_removal(queue::Removed removed);
    void write_removal(queue::Removed removed);
    void forget_crashes(const queue::HoldChanged& change);
    void make_plugin_hosts(const config::SettingsPtr& settings);
    void tell_who_consults();
    void prune_images();
    void begin_quarantine(std::span<const ItemId> suspects, std::span<const spool::HoldRecord> newly_held);

    const Ground ground_;
    event::Recorder& events_;
    event::Log& log_;
    SystemClock clock_;
    Instant started_;
    async::Workers workers_;
    spool::RecoveryReport recovery_;
    std::unique_ptr<CoreThread> core_;
    std::unique_ptr<spool::Spool> spool_;
    std::unique_ptr<ClockMemory> clock_memory_;
    std::unique_ptr<CrashGuard> crash_guard_;
    std::unique_ptr<spool::IdSource> ids_;
    std::unique_ptr<Pressure> pressure_;
    reception::Census census_;
    // The keys are on disk.
    plugin::Images images_{"plugin image "};
    plugin::Images edits_{"plugin edit "};
    std::unique_ptr<plugin::NativeHost> natives_;  // null: a world without processes
    std::unique_ptr<plugin::Hosts> plugins_;       // likewise
    std::vector<std::unique_ptr<ShardUnit>> shards_;
    std::vector<std::vector<queue::Action>> per_shard_;
    std::atomic<std::uint64_t> removals_under_way_ = 0;
};

// The core's options from the settings.
queue::Options core_options(const config::Settings& settings, std::uint32_t shards, std::uint64_t seed);

}  // namespace sluice::daemon
