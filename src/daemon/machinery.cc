#include "daemon/machinery.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "daemon/policy_journal.h"

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
    admit.job = item.job;
    admit.transport = item.transport;
    admit.sender_domain = item.sender_domain;
    for (const auto& [field, value] : item.marks) admit.marks.push_back({std::string(field), std::string(value)});
    admit.lifetime = item.lifetime;
    admit.arrival = item.arrival;
    admit.due = item.next;
    admit.size = item.size;
    admit.recipient_count = item.recipient_count;
    admit.source_hash = item.source_hash;
    admit.attempts = item.attempts;
    admit.priority = item.priority;
    admit.held = item.held;
    admit.delay_notified = item.delay_notified;
    admit.last_reply = item.last_reply;
    admit.changes = item.changes;
    if (item.pending.size() != item.recipient_count) admit.pending.assign(item.pending.begin(), item.pending.end());
    return admit;
}

spool::Options spool_options(const config::SpoolSettings& settings) {
    spool::Options options;
    options.directory = settings.directory;
    options.segment_bytes = settings.segment_bytes;
    options.reserve_bytes = settings.reserve_bytes;
    options.free_bytes_min = settings.free_bytes_min;
    options.sync = settings.sync;
    return options;
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

// Nor may deliveries: with few descriptors a fifth is for them. 0: no bound, for of many the last ones are kept back in
// any case.
std::uint32_t deliveries_max() {
    constexpr rlim_t many = 8192;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= many) return 0;
    return static_cast<std::uint32_t>(std::max<rlim_t>(limit.rlim_cur / 5, 1));
}

}  // namespace

queue::Options core_options(const config::Settings& settings, std::uint32_t shards, std::uint64_t seed) {
    queue::Options options;
    options.shards = shards;
    const std::uint32_t wanted = settings.outbound.concurrency_max;
    const std::uint32_t bound = deliveries_max();
    options.concurrency_max = wanted == 0 || (bound != 0 && bound < wanted) ? bound : wanted;
    options.destination_concurrency = settings.outbound.destination_concurrency;
    options.disabled = settings.outbound.disabled;
    options.idle_session = settings.outbound.pool_timeout;
    options.session_messages_max = settings.outbound.messages_per_connection;
    options.unhealthy_for = settings.outbound.unhealthy_for;
    options.lifetime = settings.outbound.queue_lifetime;
    options.fresh_bytes_max = settings.spool.fresh_bytes_max;
    options.sources4 = settings.outbound.sources4;
    options.sources6 = settings.outbound.sources6;
    options.transports = settings.transports;
    options.policies = settings.policies;
    options.deliveries = settings.deliveries;
    options.suspensions = settings.suspensions;
    options.seed = seed;
    options.consult = !settings.javascript_plugins.empty() || !settings.native_plugins.empty();
    return options;
}

Machinery::Machinery(Ground ground, event::Recorder& events, event::Log& log)
    : ground_(std::move(ground)), events_(events), log_(log), workers_(ground_.disk_workers) {}

Machinery::~Machinery() = default;

Result<> Machinery::recover(const config::Settings& settings) {
    if (ground_.remembers) clock_.start_at(ClockMemory::resume(settings.spool.directory + "/clock"));
    const std::uint32_t shards = shard_count(settings);
    per_shard_.resize(shards);
    core_ = std::make_unique<CoreThread>(
        clock_, core_options(settings, shards, static_cast<std::uint64_t>(wall_clock_ms())),
        [this](std::vector<queue::Action>& actions) { on_actions(actions); });
    // A message that crashed us again and again is queued, but held.
    crash_guard_ = std::make_unique<CrashGuard>(ground_.remembers ? settings.spool.directory + "/crashes" : "");
    std::vector<ItemId> suspects;
    std::vector<spool::HoldRecord> newly_held;
    const auto on_item = [&](const spool::RecoveredItem& item) {
        queue::Admit admit = admit_of(item);
        if (crash_guard_->crashed_on(item.id.message)) suspects.push_back(item.id);
        if (crash_guard_->quarantined(item.id.message) && !std::exchange(admit.held, true)) {
            newly_held.push_back({item.id, true, "crash guard", std::string(item.changes)});
        }
        core_->recover(std::move(admit));
    };
    spool::Options options = spool_options(settings.spool);
    options.on_problem = [this](const std::string& sentence) { log_.error("spool", sentence); };
    TRY(spool_, ground_.open_spool(options, on_item, recovery_));
    clock_.not_before(recovery_.latest);
    // Nobody waits, so nobody notices: back to the wall clock, should engine time be behind it.
    if (recovery_.items == 0) clock_.not_before(instant_from_ms(wall_clock_ms()));
    started_ = clock_.now();
    for (queue::Event& event : recovered_policies(recovery_.policies, log_)) core_->recover(std::move(event));
    core_->recover(queue::Tick{});  // suspend.yaml counts from here on, also when nothing is queued
    for (const std::string& warning : recovery_.warnings) log_.warn("spool", warning);
    if (recovery_.corrupt_batches > 0) {
        log_.error(
            "spool", "the journal is damaged: what is whole is kept, the files are in quarantine/",
            {{"batches", recovery_.corrupt_batches}});
    }
    if (!settings.spool.sync) log_.warn("spool", "syncing is off: accepted mail can be lost in a power cut");
    if (ground_.remembers) {
        clock_memory_ = std::make_unique<ClockMemory>(settings.spool.directory + "/clock", clock_, log_);
        begin_quarantine(suspects, newly_held);
    }
    const bool any_image = images_.recover(recovery_.policies);
    if (edits_.recover(recovery_.policies) || any_image) prune_images();
    ids_ = std::make_unique<spool::IdSource>(clock_, recovery_.last_id);
    pressure_ = std::make_unique<Pressure>(settings.spool);
    return {};
}

// What plugins noted on items that are decided is of no use any more.
void Machinery::prune_images() {
    core_->ask([this](const queue::Core& core) {
        spool::Batch erasures;
        const auto is_queued = [&](ItemId item) { return core.find(item).has_value(); };
        images_.prune(is_queued, erasures);
        edits_.prune(is_queued, erasures);
        if (!erasures.empty()) spool_->append(std::move(erasures), nullptr, 0);
    });
}

void Machinery::make_plugin_hosts(const config::SettingsPtr& settings) {
    // In a made-up world there are none, and no processes.
    if (settings->javascript_plugins.empty() && settings->native_plugins.empty() && !ground_.remembers) return;
    natives_ = std::make_unique<plugin::NativeHost>(*settings, log_);
    const auto load = [this](MessageId message) { return spool_->load(message); };
    const auto prepare = [this](plugin::NodeHost& host, const config::SettingsPtr& now) {
        auto intake = std::make_unique<SpoolAcceptance>(host.executor(), *spool_, *core_, *pressure_);
        host.serve_calls(std::move(intake), {clock_, *ids_, events_}, now);
    };
    plugins_ = std::make_unique<plugin::Hosts>(settings, log_, workers_, load, prepare, [this] { tell_who_consults(); });
}

// Until plugins have told what they listen to, all of them are asked.
void Machinery::tell_who_consults() {
    const auto before = delivery::Hook::before_attempt;
    core_->push(queue::Consulting{natives_->wants(before) || (plugins_ && plugins_->wants(before))});
}

Result<> Machinery::load_plugins() {
    if (!natives_) return {};
    TRY_VOID(natives_->load());
    tell_who_consults();
    return {};
}

void Machinery::begin_quarantine(std::span<const ItemId> suspects, std::span<const spool::HoldRecord> newly_held) {
    std::vector<MessageId> queued;
    for (const ItemId item : suspects) queued.push_back(item.message);
    if (const Result<> armed = crash_guard_->arm(queued); !armed) {
        log_.warn("core", "crashes are not counted", {{"reason", armed.error().text()}});
    }
    MessageId told;
    spool::Batch holds;
    for (const spool::HoldRecord& hold : newly_held) {
        if (std::exchange(told, hold.item.message) != hold.item.message) {
            log_.error("core", "a message is held", {{"message", told.text()}, {"reason", CrashGuard::reason()}});
        }
        holds.emplace_back(hold);
    }
    if (!holds.empty()) spool_->append(std::move(holds), nullptr, 0);
}

void Machinery::build(const config::SettingsPtr& settings) {
    make_plugin_hosts(settings);
    const Common common{clock_,  *spool_, *ids_,   workers_,        *core_,      *pressure_,
                        events_, log_,    census_, ground_.network, ground_.dns, ground_.ourselves,
                        natives_.get(), plugins_.get(), &images_, &edits_};
    census_.cap(clients_max());
    if (settings->smtp.connections_max > clients_max()) {
        log_.warn(
            "core", "the descriptor limit allows fewer clients than connections_max", {{"clients", clients_max()}});
    }
    if (const std::uint32_t bound = deliveries_max(); bound != 0 && bound < settings->outbound.concurrency_max) {
        log_.warn(
            "core", "the descriptor limit allows fewer deliveries at once than concurrency_max", {{"deliveries", bound}});
    }
    for (std::uint32_t index = 0; index < per_shard_.size(); ++index) {
        shards_.push_back(std::make_unique<ShardUnit>(index, common, settings));
    }
}

Result<> Machinery::listen() {
    for (const auto& shard : shards_) TRY_VOID(shard->listen());
    return {};
}

void Machinery::start() {
    for (const auto& shard : shards_) shard->start();
    core_->start();
    if (plugins_) plugins_->start();
}

void Machinery::apply(const config::SettingsPtr& settings) {
    pressure_->configure(settings->spool);
    for (const auto& shard : shards_) shard->configure(settings);
    // After them: the routes that the core asks for now are made as the new settings say.
    core_->push(queue::Configure{core_options(
        *settings, static_cast<std::uint32_t>(shards_.size()), static_cast<std::uint64_t>(wall_clock_ms()))});
    if (plugins_) plugins_->configure(settings);
}

void Machinery::close(std::chrono::steady_clock::time_point deadline, std::function<void()> closed) {
    if (shards_.empty()) return closed();
    if (plugins_) plugins_->begin_closing(deadline);
    if (natives_) natives_->begin_closing(deadline);
    const auto left = std::make_shared<std::atomic<std::size_t>>(shards_.size());
    for (const auto& shard : shards_) {
        shard->close(deadline, [left, closed] {
            if (--*left == 0) closed();
        });
    }
}

void Machinery::finish() {
    core_->stop();
    if (plugins_) plugins_->end();
    if (natives_) natives_->end();
    workers_.join();
    clock_memory_.reset();
    spool_->close();
    for (const auto& shard : shards_) shard->join();
    shards_.clear();
    // A plugin that does not come back keeps what it was called with.
    if (natives_ && natives_->abandoned()) static_cast<void>(natives_.release());
}

void Machinery::on_actions(std::vector<queue::Action>& actions) {
    spool::Batch records;
    for (queue::Action& action : actions) {
        if (auto* deliver = std::get_if<queue::Deliver>(&action)) {
            per_shard_[deliver->shard].push_back(std::move(action));
        } else if (auto* conclude = std::get_if<queue::Conclude>(&action)) {
            per_shard_[conclude->shard].push_back(std::move(action));
        } else if (auto* consult = std::get_if<queue::Consult>(&action)) {
            per_shard_[consult->shard].push_back(std::move(action));
        } else if (auto* close = std::get_if<queue::Close>(&action)) {
            per_shard_[close->shard].push_back(std::move(action));
        } else if (auto* resolve = std::get_if<queue::Resolve>(&action)) {
            // The same name always asks the same resolver, whose cache then knows it.
            const std::size_t shard = std::hash<std::string>()(resolve->key + resolve->via) % per_shard_.size();
            per_shard_[shard].push_back(std::move(action));
        } else if (auto* removed = std::get_if<queue::Removed>(&action)) {
            if (plugins_) plugins_->forget(removed->item);
            record_removal(std::move(*removed));
        } else if (auto* hold = std::get_if<queue::HoldChanged>(&action)) {
            records.emplace_back(spool::HoldRecord{hold->item, hold->held, "operator", hold->changes});
            forget_crashes(*hold);
        } else if (auto* reacted = std::get_if<queue::Reacted>(&action)) {
            tell(reacted->what);
        } else {
            take_policy_change(action, records, events_, log_);
        }
    }
    if (!records.empty()) spool_->append(std::move(records), nullptr, 0);
    for (std::size_t index = 0; index < per_shard_.size(); ++index) shards_[index]->carry_out(per_shard_[index]);
}

// Who releases a message wants another try.
void Machinery::forget_crashes(const queue::HoldChanged& change) {
    if (!change.released || !crash_guard_->crashed_on(change.item.message)) return;
    workers_.post([this, message = change.item.message] { crash_guard_->forget(message); });
}

void Machinery::tell(const policy::Reaction& reaction) {
    events_.record_reaction({reaction.by, reaction.concerns, reaction.what, reaction.because, reaction.id});
    log_.notice("queue", "reaction", {{"by", reaction.by}, {"concerns", reaction.concerns}, {"what", reaction.what},
                                      {"because", reaction.because}, {"id", reaction.id}});
}

void Machinery::record_removal(queue::Removed removed) {
    // Naming the recipients needs the message, which may have to be read from disk.
    ++removals_under_way_;
    workers_.post([this, removed = std::move(removed)]() mutable {
        write_removal(std::move(removed));
        --removals_under_way_;
    });
}

void Machinery::write_removal(queue::Removed removed) {
    // What crashed us is not read again.
    const bool quarantined = crash_guard_->quarantined(removed.item.message);
    const Result<mail::MessagePtr> message =
        quarantined ? Result<mail::MessagePtr>(fail(Errc::corrupt, CrashGuard::reason())) : spool_->load(removed.item.message);
    if (!message && message.error().code == Errc::not_found) {
        log_.warn("queue", "removed item has no message", {{"item", removed.item.text()}});
        return;
    }
    if (message && removed.pending.empty()) removed.pending = (*message)->items[removed.item.index].recipients;
    spool::Batch batch;
    batch.emplace_back(
        spool::OutcomeRecord{removed.item, spool::Outcome::removed, removed.pending, clock_.now(), "operator"});
    images_.record(removed.item, true, batch);
    edits_.record(removed.item, true, batch);
    spool_->append(std::move(batch), nullptr, 0);
    if (!message) {  // whose recipients nobody can name, so there is no event
        log_.warn(
            "queue", "an item is removed whose message was not read",
            {{"item", removed.item.text()}, {"reason", message.error().text()}});
        return;
    }
    event::Removed fact{event::ItemFact{**message, removed.item, removed.pending}};
    fact.by = "operator";
    fact.since_arrival = clock_.now() - (*message)->arrival;
    events_.record(fact);
}

}  // namespace sluice::daemon
