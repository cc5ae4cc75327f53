#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <vector>

#include "async/published.h"
#include "base/clock.h"
#include "config/load.h"
#include "config/settings.h"
#include "control/server.h"
#include "daemon/acceptance.h"
#include "daemon/api.h"
#include "daemon/clock_memory.h"
#include "daemon/core_thread.h"
#include "daemon/crash_guard.h"
#include "daemon/shard_unit.h"
#include "event/event_log.h"
#include "event/line_writer.h"
#include "event/metrics.h"
#include "event/text_log.h"
#include "spool/id_source.h"
#include "spool/spool.h"

namespace sluice::daemon {

inline constexpr std::string_view version = SLUICE_VERSION;

// One running instance: builds every part, connects them, and stops them in reverse order.
// Thread: made, started and stopped by one thread; the parts have threads of their own.
class Engine {
public:
    explicit Engine(config::Loaded loaded);
    ~Engine();

    // Recovers the spool and begins to serve. On an error everything begun is stopped again.
    Result<> start();
    // Answers 421 to clients, lets deliveries finish until force_shutdown_timeout, then stops.
    void stop();

    // New settings, already checked. Thread-safe.
    void apply(const config::SettingsPtr& settings);
    // Makes all scheduled items due (SIGHUP, as Haraka).
    void flush_queue();

    event::Log& log() { return *log_; }
    config::SettingsPtr settings() const { return settings_.get(); }  // thread-safe
    std::vector<net::Endpoint> endpoints() const;

private:
    friend class Api;

    Result<> open_logs();
    Result<> open_spool();
    Result<> start_shards();
    Result<> start_control();
    Result<> drop_privileges();
    void on_actions(std::vector<queue::Action>& actions);
    void record_removal(queue::Removed removed);
    void write_removal(queue::Removed removed);
    void record_hold(const queue::HoldChanged& change);
    void begin_quarantine(const std::vector<ItemId>& suspects, const std::vector<ItemId>& newly_held);
    void write_run_files();

    async::Published<config::Settings> settings_;
    std::vector<std::string> warnings_;
    SystemClock clock_;
    Instant started_;
    std::unique_ptr<event::LineWriter> log_writer_, event_writer_;
    std::unique_ptr<event::TextLog> log_;
    event::Metrics metrics_;
    std::unique_ptr<event::EventLog> events_;
    boost::asio::thread_pool disk_pool_{2};
    spool::RecoveryReport recovery_;
    std::unique_ptr<CoreThread> core_;
    std::unique_ptr<spool::Spool> spool_;
    std::unique_ptr<ClockMemory> clock_memory_;
    std::unique_ptr<CrashGuard> crash_guard_;
    std::unique_ptr<spool::IdSource> ids_;
    std::unique_ptr<Pressure> pressure_;
    reception::Census census_;
    std::vector<std::unique_ptr<ShardUnit>> shards_;
    std::vector<std::vector<queue::Action>> per_shard_;
    std::atomic<std::uint64_t> removals_under_way_ = 0;  // not yet appended to the spool
    std::unique_ptr<async::Shard> control_shard_;
    std::unique_ptr<Api> api_;
    std::unique_ptr<control::Server> control_;
    bool running_ = false;
};

// The core's options from the settings.
queue::Options core_options(const config::Settings& settings, std::uint32_t shards, std::uint64_t seed);

}  // namespace sluice::daemon
