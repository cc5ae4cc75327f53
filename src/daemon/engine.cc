#include "daemon/engine.h"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <latch>

#include "config/secrecy.h"
#include "daemon/privileges.h"

namespace sluice::daemon {
namespace {

Result<> make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return fail(Errc::disk_failed, path + ": " + error.message());
    return {};
}

std::vector<std::string> texts_of(const std::vector<Problem>& problems) {
    std::vector<std::string> texts;
    for (const Problem& problem : problems) texts.push_back(problem.text());
    return texts;
}

}  // namespace

Engine::Engine(config::Loaded loaded, Supervisor& supervisor)
    : settings_(std::move(loaded.settings)), supervisor_(supervisor) {
    warnings_.with([&](auto& warnings) { warnings = texts_of(loaded.problems); });
}

Engine::~Engine() { stop(); }

Result<> Engine::start() {
    const config::SettingsPtr settings = settings_.get();
    TRY_VOID(open_logs());
    machinery_ = std::make_unique<Machinery>(Ground{}, *events_, *log_);
    TRY_VOID(machinery_->recover(*settings));
    running_ = true;
    if (Result<> result = start_shards(); !result) {
        stop();
        return result;
    }
    if (Result<> result = start_control(); !result) {
        stop();
        return result;
    }
    log_->info(
        "core", "started",
        {{"version", version}, {"queued", machinery_->recovery().items}, {"directory", settings->directory}});
    return {};
}

Result<> Engine::open_logs() {
    const config::SettingsPtr settings = settings_.get();
    for (const char* folder : {"/log", "/run"}) TRY_VOID(make_folder(settings->directory + folder));
    TRY(log_writer_, event::LineWriter::open(event::LineTarget{}));
    log_ = std::make_unique<event::TextLog>(*log_writer_, settings->log);
    if (settings->log.events) {
        event::LineTarget target;
        target.path = settings->directory + "/log/events.jsonl";
        target.rotate_bytes = settings->log.events_bytes_max;
        target.files_max = settings->log.events_files_max;
        TRY(event_writer_, event::LineWriter::open(target));
    }
    events_ = std::make_unique<event::EventLog>(event_writer_.get(), metrics_);
    for (const std::string& warning : warnings_.with([](const auto& now) { return now; })) log_->warn("config", warning);
    return {};
}

Result<> Engine::start_shards() {
    machinery_->build(settings_.get());
    log_->show_to(machinery_->log_listener());
    TRY_VOID(machinery_->listen());
    write_pid_file();
    TRY_VOID(settle_privileges());
    TRY_VOID(machinery_->load_plugins());
    machinery_->start();
    return {};
}

Result<> Engine::start_control() {
    const config::SettingsPtr settings = settings_.get();
    control::Server::Options options;
    options.endpoints.emplace_back(settings->directory + "/run/control.sock");
    for (const std::string& text : settings->http.listen) {
        const auto endpoint = net::Endpoint::parse(text, 0);
        if (!endpoint) return fail(Errc::config, "http.ini: listen: not an address and port: " + text);
        options.endpoints.push_back(*endpoint);
    }
    options.token = settings->http.token;
    options.host_name = settings->me;
    control_shard_ = std::make_unique<async::Shard>("sluice-control");
    api_ = std::make_unique<Api>(*this, control_shard_->executor());
    control_ = std::make_unique<control::Server>(*control_shard_, *api_, *log_, std::move(options));
    TRY_VOID(control_->start());
    control_shard_->start();
    machinery_->plugins()->serve([this](plugin::ApiCall call, plugin::Respond respond) {
        control_shard_->post([this, call = std::move(call), respond = std::move(respond)]() mutable {
            api_->serve(std::move(call), std::move(respond));
        });
    });
    control_shard_->post([this] { api_->import_own_queue(); });
    return {};
}

Result<> Engine::settle_privileges() {
    const config::SettingsPtr settings = settings_.get();
    const std::array folders{settings->spool.directory, settings->directory + "/log", settings->directory + "/run"};
    const bool was_root = ::geteuid() == 0;
    TRY_VOID(drop_privileges(settings->smtp, folders, settings->directory));
    settle_core_dumps(settings->smtp.core_dumps);
    const bool changed = was_root && ::geteuid() != 0;
    for (const std::string& file : changed ? config::unreadable_files(*settings) : std::vector<std::string>()) {
        log_->warn("config", "the `user` of smtp.ini cannot read this: changes are not taken until he can", {{"file", file}});
    }
    if (::geteuid() == 0) log_->warn("core", "runs as root: `user` in smtp.ini names somebody with fewer rights");
    return {};
}

Vigil Engine::vigil() {
    Vigil vigil;
    vigil.watch_queue("core", [this](std::function<void()> call) {
        machinery_->core().ask([call = std::move(call)](const queue::Core&) { call(); });
    });
    vigil.watch("spool", [this] {
        const spool::Pulse pulse = spool().pulse();
        return Sign{pulse.steps, pulse.idle || pulse.at_disk};
    });
    // They read messages: they may well wait for the disk.
    vigil.watch_queue(
        "workers", [this](std::function<void()> call) { machinery_->workers().post(std::move(call)); },
        [this] { return spool().pulse().at_disk; });
    const auto& shards = machinery_->shards();
    for (std::size_t index = 0; index < shards.size(); ++index) {
        vigil.watch_queue("io-" + std::to_string(index), [shard = shards[index].get()](std::function<void()> call) {
            shard->shard().post(std::move(call));
        });
    }
    vigil.watch_queue("control", [this](std::function<void()> call) { control_shard_->post(std::move(call)); });
    return vigil;
}

// As whoever started us: /run belongs to root.
void Engine::write_pid_file() {
    const std::string& path = settings_.get()->smtp.daemon_pid_file;
    if (path.empty()) return;
    Result<PidFile> file = PidFile::write(path);
    if (file) pid_file_ = std::move(*file);
    else log_->warn("core", "pid file not written", {{"reason", file.error().detail}});
}

void Engine::take(const config::Reload& reload) {
    std::vector<std::string> warnings = texts_of(reload.problems);
    for (const std::string& warning : warnings) log_->warn("config", warning);
    for (const std::string& setting : reload.needs_restart) {
        log_->warn("config", "takes effect after a restart", {{"setting", setting}});
        warnings.push_back("warning: config/" + setting + ": takes effect after a restart");
    }
    warnings_.with([&](auto& now) { now = std::move(warnings); });
    if (!reload.accepted) return log_->warn("config", "settings kept as they were");
    if (!reload.applied) return log_->info("config", "no setting changes now");
    log_->info("config", "settings reloaded");
    apply(reload.settings);
}

void Engine::apply(const config::SettingsPtr& settings) {
    supervisor_.reloading("applying new settings");
    settings_.set(settings);
    log_->configure(settings->log);
    machinery_->apply(settings);
    control_shard_->post([this, settings] { control_->set_access(settings->http.token, settings->me); });
    supervisor_.ready("serving");
}

void Engine::flush_queue() {
    control_shard_->post([this] { api_->flush_queue(); });
}

std::vector<net::Endpoint> Engine::endpoints() const {
    const auto& shards = machinery_->shards();
    return shards.empty() ? std::vector<net::Endpoint>{} : shards.front()->endpoints();
}

void Engine::stop() {
    if (!running_) return;
    running_ = false;
    log_->info("core", "stopping");
    reload_desk_.close();
    if (control_) {
        // The API stops first: nobody may ask parts that are going away.
        machinery_->plugins()->serve({});
        machinery_->plugins()->stop_reloading();
        std::latch closed(1);
        control_shard_->start();  // closing runs there, also when start() failed before it began
        control_shard_->post([&] { api_->close(*control_, [&] { closed.count_down(); }); });
        closed.wait();
        control_shard_->stop();
        control_.reset();
        api_->end_import();
    }
    const auto deadline = std::chrono::steady_clock::now() + settings_.get()->smtp.force_shutdown_timeout;
    // Closing runs on the shards' own threads, also when start() failed before they began.
    for (const auto& shard : machinery_->shards()) shard->start();
    std::latch stopped(1);
    machinery_->close(deadline, [&] { stopped.count_down(); });
    stopped.wait();
    machinery_->finish();
    log_->show_to(nullptr);
    if (pid_file_) pid_file_->remove();
    log_->info("core", "stopped");
    if (event_writer_) event_writer_->flush(2000);
    log_writer_->flush(2000);
}

}  // namespace sluice::daemon
