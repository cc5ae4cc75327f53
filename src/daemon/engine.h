#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/guarded.h"
#include "async/published.h"
#include "config/load.h"
#include "config/settings.h"
#include "control/server.h"
#include "daemon/api.h"
#include "daemon/machinery.h"
#include "daemon/pid_file.h"
#include "daemon/reload_desk.h"
#include "daemon/supervisor.h"
#include "daemon/vigil.h"
#include "event/event_log.h"
#include "event/line_writer.h"
#include "event/metrics.h"
#include "event/text_log.h"

namespace sluice::daemon {

inline constexpr std::string_view version = SLUICE_VERSION;

// One running instance: builds every part, connects them, and stops them in reverse order.
// Thread: made, started and stopped by one thread; the parts have threads of their own.
class Engine {
public:
    // The supervisor is told of reloads.
    Engine(config::Loaded loaded, Supervisor& supervisor);
    ~Engine();

    // Recovers the spool and begins to serve. On an error everything begun is stopped again.
    Result<> start();
    // Answers 421 to clients, lets deliveries finish until force_shutdown_timeout, then stops.
    void stop();

    // What came of reading the files again: says it, and applies what is new.
    void take(const config::Reload& reload);
    // Where the control API asks for that.
    ReloadDesk& reload_desk() { return reload_desk_; }
    // Makes all scheduled items due (SIGHUP, as Haraka).
    void flush_queue();

    // Every thread that mail depends on. Valid from start() to stop().
    Vigil vigil();
    const spool::Spool& spool() const { return machinery_->spool(); }

    event::Log& log() { return *log_; }
    config::SettingsPtr settings() const { return settings_.get(); }  // thread-safe
    std::vector<net::Endpoint> endpoints() const;

private:
    friend class Api;
    friend class ImportDesk;
    friend class QueueDesk;
    friend class PolicyDesk;

    void apply(const config::SettingsPtr& settings);
    Result<> open_logs();
    Result<> start_shards();
    Result<> start_control();
    Result<> settle_privileges();
    void write_pid_file();

    async::Published<config::Settings> settings_;
    Supervisor& supervisor_;
    async::Guarded<std::vector<std::string>> warnings_;  // of the last load
    ReloadDesk reload_desk_;
    std::unique_ptr<event::LineWriter> log_writer_, event_writer_;
    std::unique_ptr<event::TextLog> log_;
    event::Metrics metrics_;
    std::unique_ptr<event::EventLog> events_;
    std::unique_ptr<Machinery> machinery_;
    std::unique_ptr<async::Shard> control_shard_;
    std::unique_ptr<Api> api_;
    std::unique_ptr<control::Server> control_;
    std::optional<PidFile> pid_file_;
    bool running_ = false;
};

}  // namespace sluice::daemon
