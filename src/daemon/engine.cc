#include "daemon/engine.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <latch>
#include <limits>
#include <thread>

#include "base/random.h"

namespace sluice::daemon {
namespace {

std::uint32_t shard_count(const config::Settings& settings) {
    if (settings.smtp.shards != 0) return settings.smtp.shards;
    return std::max(1U, std::thread::hardware_concurrency());
}

queue::Admit admit_of(const spool::RecoveredItem& item) {
    queue::Admit admit;
    admit.id = item.id;
    admit.domain = item.domain;
    admit.tenant = item.tenant;
    admit.arrival = item.arrival;
    admit.due = item.next;
    admit.size = item.size;
    admit.recipient_count = item.recipient_count;
    admit.source_hash = item.source_hash;
    admit.attempts = item.attempts;
    admit.priority = item.priority;
    admit.held = item.held;
    admit.delay_notified = item.delay_notified;
    if (item.pending.size() != item.recipient_count) admit.pending.assign(item.pending.begin(), item.pending.end());
    return admit;
}

// Clients may not take all descriptors: deliveries, DNS, the spool and the control API need some too (DoS-8). With few,
// half are for clients; with many, all but a few thousand.
std::uint32_t clients_max() {
    constexpr rlim_t kept_max = 4096;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<std::uint32_t>::max();
    const rlim_t clients = limit.rlim_cur - std::min(limit.rlim_cur / 2, kept_max);
    return static_cast<std::uint32_t>(std::min<rlim_t>(clients, std::numeric_limits<std::uint32_t>::max()));
}

Result<> make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return fail(Errc::disk_failed, path + ": " + error.message());
    return {};
}

}  // namespace

queue::Options core_options(const config::Settings& settings, std::uint32_t shards, std::uint64_t seed) {
    queue::Options options;
    options.shards = shards;
    options.concurrency_max = settings.outbound.concurrency_max;
    options.destination_concurrency = settings.outbound.destination_concurrency;
    options.disabled = settings.outbound.disabled;
    options.idle_session = settings.outbound.pool_timeout;
    options.session_messages_max = settings.outbound.messages_per_connection;
    options.unhealthy_for = settings.outbound.unhealthy_for;
    options.lifetime = settings.outbound.queue_lifetime;
    options.fresh_bytes_max = settings.spool.fresh_bytes_max;
    options.sources4 = settings.outbound.sources4;
    options.sources6 = settings.outbound.sources6;
    options.policies = settings.policies;
    options.seed = seed;
    return options;
}

Engine::Engine(config::Loaded loaded) : settings_(std::move(loaded.settings)), started_(clock_.now()) {
    for (const Problem& problem : loaded.problems) warnings_.push_back(problem.text());
}

Engine::~Engine() { stop(); }

Result<> Engine::start() {
    const config::SettingsPtr settings = settings_.get();
    TRY_VOID(open_logs());
    TRY_VOID(open_spool());
    running_ = true;
    if (Result<> result = start_shards(); !result) {
        stop();
        return result;
    }
    if (Result<> result = start_control(); !result) {
        stop();
        return result;
    }
    write_run_files();
    log_->info(
        "core", "started",
        {{"version", version}, {"queued", recovery_.items}, {"directory", settings->directory}});
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
    for (const std::string& warning : warnings_) log_->warn("config", warning);
    return {};
}

Result<> Engine::open_spool() {
    const config::SettingsPtr settings = settings_.get();
    spool::Options options;
    options.directory = settings->spool.directory;
    options.segment_bytes = settings->spool.segment_bytes;
    options.reserve_bytes = settings->spool.reserve_bytes;
    options.free_bytes_min = settings->spool.free_bytes_min;
    options.sync = settings->spool.sync;

    const std::uint32_t shards = shard_count(*settings);
    per_shard_.resize(shards);
    core_ = std::make_unique<CoreThread>(
        clock_, core_options(*settings, shards, static_cast<std::uint64_t>(wall_clock_ms())),
        [this](std::vector<queue::Action>& actions) { on_actions(actions); });
    TRY(spool_, spool::Spool::open(
                    options, [this](const spool::RecoveredItem& item) { core_->recover(admit_of(item)); }, recovery_));
    clock_.not_before(recovery_.latest);
    for (const std::string& warning : recovery_.warnings) log_->warn("spool", warning);
    if (!options.sync) log_->warn("spool", "syncing is off: accepted mail can be lost in a power cut");
    ids_ = std::make_unique<spool::IdSource>(clock_, recovery_.last_id);
    pressure_ = std::make_unique<Pressure>(settings->spool);
    return {};
}

Result<> Engine::start_shards() {
    const config::SettingsPtr settings = settings_.get();
    const Common common{clock_, *spool_, *ids_,    disk_pool_,             *core_, *pressure_,
                        *events_, *log_, census_, net::local_addresses()};
    census_.cap(clients_max());
    if (settings->smtp.connections_max > clients_max()) {
        log_->warn(
            "core", "the descriptor limit allows fewer clients than connections_max", {{"clients", clients_max()}});
    }
    for (std::uint32_t index = 0; index < per_shard_.size(); ++index) {
        shards_.push_back(std::make_unique<ShardUnit>(index, common, settings));
    }
    for (const auto& shard : shards_) TRY_VOID(shard->listen());
    TRY_VOID(drop_privileges());
    for (const auto& shard : shards_) shard->start();
    core_->start();
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
    return {};
}

Result<> Engine::drop_privileges() {
    const config::SettingsPtr settings = settings_.get();
    const config::SmtpSettings& smtp = settings->smtp;
    if (::geteuid() != 0 || (smtp.user.empty() && smtp.group.empty())) return {};
    const passwd* user = smtp.user.empty() ? nullptr : ::getpwnam(smtp.user.c_str());
    if (user == nullptr && !smtp.user.empty()) return fail(Errc::config, "smtp.ini: user: no such user: " + smtp.user);
    const group* named = smtp.group.empty() ? nullptr : ::getgrnam(smtp.group.c_str());
    if (named == nullptr && !smtp.group.empty()) return fail(Errc::config, "smtp.ini: group: no such group: " + smtp.group);
    const uid_t uid = user != nullptr ? user->pw_uid : ::geteuid();
    const gid_t gid = named != nullptr ? named->gr_gid : user->pw_gid;

    for (const std::string& folder :
         {settings->spool.directory, settings->directory + "/log", settings->directory + "/run"}) {
        if (::chown(folder.c_str(), uid, gid) != 0) return fail(Errc::disk_failed, folder + ": " + std::strerror(errno));
        // Files may go while we look: the spool works already.
        std::error_code error;
        using Walk = std::filesystem::recursive_directory_iterator;
        for (Walk entry(folder, error); !error && entry != Walk(); entry.increment(error)) {
            if (::lchown(entry->path().c_str(), uid, gid) != 0 && errno != ENOENT) {
                return fail(Errc::disk_failed, entry->path().string() + ": " + std::strerror(errno));
            }
        }
    }
    if (::setgroups(1, &gid) != 0 || ::setgid(gid) != 0 || ::setuid(uid) != 0) {
        return fail(Errc::config, std::string("cannot become the configured user: ") + std::strerror(errno));
    }
    return {};
}

void Engine::write_run_files() {
    const std::string pid_file = settings_.get()->smtp.daemon_pid_file;
    if (pid_file.empty()) return;
    std::ofstream file(pid_file, std::ios::trunc);
    file << ::getpid() << '\n';
    if (!file) log_->warn("core", "pid file not written", {{"file", pid_file}});
}

void Engine::on_actions(std::vector<queue::Action>& actions) {
    for (queue::Action& action : actions) {
        if (auto* deliver = std::get_if<queue::Deliver>(&action)) {
            per_shard_[deliver->shard].push_back(std::move(action));
        } else if (auto* conclude = std::get_if<queue::Conclude>(&action)) {
            per_shard_[conclude->shard].push_back(std::move(action));
        } else if (auto* close = std::get_if<queue::Close>(&action)) {
            per_shard_[close->shard].push_back(std::move(action));
        } else if (auto* resolve = std::get_if<queue::Resolve>(&action)) {
            // The same name always asks the same resolver, whose cache then knows it.
            const std::size_t shard = std::hash<std::string>()(resolve->key) % per_shard_.size();
            per_shard_[shard].push_back(std::move(action));
        } else if (auto* removed = std::get_if<queue::Removed>(&action)) {
            record_removal(std::move(*removed));
        } else if (auto* hold = std::get_if<queue::HoldChanged>(&action)) {
            record_hold(*hold);
        }
    }
    for (std::size_t index = 0; index < per_shard_.size(); ++index) shards_[index]->carry_out(per_shard_[index]);
}

void Engine::record_hold(const queue::HoldChanged& change) {
    spool::Batch batch;
    batch.emplace_back(spool::HoldRecord{change.item, change.held, "operator"});
    spool_->append(std::move(batch), nullptr, 0);
}

void Engine::record_removal(queue::Removed removed) {
    // Naming the recipients needs the message, which may have to be read from disk.
    ++removals_under_way_;
    boost::asio::post(disk_pool_, [this, removed = std::move(removed)]() mutable {
        write_removal(std::move(removed));
        --removals_under_way_;
    });
}

void Engine::write_removal(queue::Removed removed) {
    const Result<mail::MessagePtr> message = spool_->load(removed.item.message);
    if (!message) {
        log_->warn("queue", "removed item has no message", {{"item", removed.item.text()}});
        return;
    }
    const mail::Message& original = **message;
    if (removed.pending.empty()) removed.pending = original.items[removed.item.index].recipients;
    spool::Batch batch;
    batch.emplace_back(
        spool::OutcomeRecord{removed.item, spool::Outcome::removed, removed.pending, clock_.now(), "operator"});
    event::Removed fact{event::ItemFact{original, removed.item, removed.pending}};
    fact.by = "operator";
    fact.since_arrival = clock_.now() - original.arrival;
    spool_->append(std::move(batch), nullptr, 0);
    events_->record(fact);
}

void Engine::apply(const config::SettingsPtr& settings) {
    settings_.set(settings);
    log_->configure(settings->log);
    core_->push(queue::Configure{core_options(
        *settings, static_cast<std::uint32_t>(shards_.size()), static_cast<std::uint64_t>(wall_clock_ms()))});
    for (const auto& shard : shards_) shard->configure(settings);
    control_shard_->post([this, settings] { control_->set_access(settings->http.token, settings->me); });
}

void Engine::flush_queue() { core_->push(queue::Flush{}); }

std::vector<net::Endpoint> Engine::endpoints() const {
    return shards_.empty() ? std::vector<net::Endpoint>{} : shards_.front()->endpoints();
}

void Engine::stop() {
    if (!running_) return;
    running_ = false;
    log_->info("core", "stopping");
    if (control_) {
        // The API stops first: nobody may ask parts that are going away.
        std::latch closed(1);
        control_shard_->start();  // closing runs there, also when start() failed before it began
        control_shard_->post([&] { api_->close(*control_, [&] { closed.count_down(); }); });
        closed.wait();
        control_shard_->stop();
        control_.reset();
    }
    const auto deadline = std::chrono::steady_clock::now() + settings_.get()->smtp.force_shutdown_timeout;
    // Closing runs on the shards' own threads, also when start() failed before they began.
    for (const auto& shard : shards_) shard->start();
    std::latch stopped(static_cast<std::ptrdiff_t>(shards_.size()));
    for (const auto& shard : shards_) shard->close(deadline, [&] { stopped.count_down(); });
    stopped.wait();
    core_->stop();
    disk_pool_.join();
    spool_->close();
    for (const auto& shard : shards_) shard->join();
    shards_.clear();
    log_->info("core", "stopped");
    if (event_writer_) event_writer_->flush(2000);
    log_writer_->flush(2000);
}

}  // namespace sluice::daemon
