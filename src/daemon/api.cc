#include "daemon/api.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <tuple>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "control/routes.h"
#include "daemon/core_question.h"
#include "daemon/engine.h"
#include "daemon/filtering.h"
#include "dns/nexthop.h"
#include "plugin/native_roster.h"
#include "reception/injection.h"
#include "reception/revision.h"

namespace sluice::daemon {
namespace {

constexpr std::string_view key_prefix = "idempotency:";
constexpr Duration key_lifetime{24 * 3'600'000};
constexpr std::chrono::seconds reload_patience{20};
constexpr std::chrono::milliseconds reload_look{5};
// What the API calls a field of an injection: "recipients[1]" came in as "to".
std::string api_name(const std::string& field) {
    if (field.starts_with("recipients")) return "to" + field.substr(std::string_view("recipients").size());
    if (field == "reverse_path") return "from";
    return field == "content" ? "message" : field;
}

// Credentials have no place in a journal record.
Result<> check_next_hop(const queue::ItemChanges& changes) {
    if (!changes.next_hop || changes.next_hop->empty()) return {};
    const Result<dns::Nexthop> next_hop = dns::parse_nexthop(*changes.next_hop);
    if (!next_hop) return fail(Errc::bad_input, "next_hop: " + next_hop.error().detail);
    if (!next_hop->transport.auth_user.empty()) return fail(Errc::bad_input, "next_hop: user and password cannot stand there; see relay_dest_domains.ini");
    return {};
}

// What came of a reload, as soon as it is known.
struct Wanted {
    bool answered = false;
    std::optional<config::Reload> reload;  // nothing: the engine stops
};

}  // namespace

Api::Api(Engine& engine, async::Executor executor)
    : engine_(engine),
      executor_(executor),
      acceptance_(executor, engine.machinery_->spool(), engine.machinery_->core(), engine.machinery_->pressure()),
      desk_(engine, executor, acceptance_),
      survey_desk_(*engine.machinery_, executor),
      bulk_desk_(*engine.machinery_, executor, acceptance_),
      policy_desk_(engine, executor, acceptance_),
      memory_(engine.machinery_->clock()),
      import_desk_(engine),
      tasks_(executor) {
    if (plugin::Hosts* const host = engine.machinery_->plugins()) {
        hooks_ = std::make_unique<plugin::InboundChain>(executor, engine.machinery_->natives(), *host, *engine.log_);
    }
    recover_keys();
}

Task<control::EngineStatus> Api::status() {
    control::EngineStatus status;
    status.version = version;
    const config::SettingsPtr settings = engine_.settings();
    status.me = settings->me;
    status.directory = settings->directory;
    status.uptime_ms = (engine_.machinery_->clock().now() - engine_.machinery_->started()).count();
    for (const net::Endpoint& endpoint : engine_.endpoints()) status.listeners.push_back(endpoint.text());
    status.connections_in = engine_.machinery_->census().total();
    status.spool = engine_.machinery_->spool().status();
    const auto refusal = acceptance_.refusal();
    status.accepting = !refusal.has_value();
    status.why_not = refusal.value_or("");
    status.resident_bytes = Pressure::resident_bytes();
    status.warnings = engine_.warnings_.with([](const auto& now) { return now; });
    std::function<queue::Stats(const queue::Core&)> question = [](const queue::Core& core) { return core.stats(); };
    status.queue = co_await ask<queue::Stats>(engine_.machinery_->core(), executor_, std::move(question));
    co_return status;
}

Task<std::vector<control::DomainCount>> Api::domains() {
    using Counts = std::vector<control::DomainCount>;
    std::function<Counts(const queue::Core&)> question = [](const queue::Core& core) {
        Counts counts;
        core.each_domain([&](const queue::DomainStats& domain) {
            counts.push_back(
                {std::string(domain.domain), std::string(domain.via), domain.scheduled, domain.ready, domain.sending, domain.held, domain.sessions});
            return true;
        });
        return counts;
    };
    Counts counts = co_await ask<Counts>(engine_.machinery_->core(), executor_, std::move(question));
    std::sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        const auto total = [](const control::DomainCount& c) { return c.scheduled + c.ready + c.sending + c.held; };
        return std::tuple(total(b), a.domain, a.via) < std::tuple(total(a), b.domain, b.via);
    });
    co_return counts;
}

Task<Result<control::ItemPage>> Api::list(control::ItemFilter filter) { co_return co_await desk_.list(std::move(filter)); }

Task<Result<control::ItemDetail>> Api::show(ItemId id) { co_return co_await desk_.show(id); }

Task<Result<std::uint64_t>> Api::command(control::Command command, queue::Selection which) {
    co_return co_await desk_.command(command, std::move(which));
}

Task<Result<control::SurveyReport>> Api::survey(control::SurveyRequest request) { co_return co_await survey_desk_.survey(std::move(request)); }

Task<Result<control::BucketPage>> Api::buckets(control::BucketFilter filter) { co_return co_await survey_desk_.buckets(std::move(filter)); }

Task<Result<std::vector<control::Explained>>> Api::explain(std::string what) {
    co_return co_await survey_desk_.explain(std::move(what), engine_.settings());
}

Task<Result<std::uint64_t>> Api::count(control::BulkRequest request) { co_return co_await survey_desk_.count(std::move(request)); }

Task<Result<control::Job>> Api::start(control::BulkRequest request) {
    CO_TRY_VOID(check_next_hop(request.changes));
    CO_TRY(queue::Filter filter, co_await read_filter(*engine_.machinery_, executor_, request.where));
    CO_TRY(const std::uint64_t matched, co_await survey_desk_.count(request));
    co_return bulk_desk_.start(std::move(request), std::move(filter), matched);
}

Task<Result<control::PolicyReply>> Api::set_condition(std::string json, bool dry_run) {
    co_return co_await policy_desk_.set_condition(std::move(json), dry_run);
}
Task<Result<control::PolicyReply>> Api::set_suspension(std::string json, bool dry_run) {
    co_return co_await policy_desk_.set_suspension(std::move(json), dry_run);
}
Task<Result<>> Api::remove_condition(control::PolicyRemoval removal) {
    co_return co_await policy_desk_.remove_condition(std::move(removal));
}
Task<Result<>> Api::remove_suspension(control::PolicyRemoval removal) {
    co_return co_await policy_desk_.remove_suspension(std::move(removal));
}
Task<control::PolicyList<control::ConditionDetail>> Api::conditions() { co_return co_await policy_desk_.conditions(); }
Task<control::PolicyList<control::SuspensionDetail>> Api::suspensions() { co_return co_await policy_desk_.suspensions(); }

void Api::flush_queue() { tasks_.spawn(flush_all()); }

Task<> Api::flush_all() {
    queue::Selection everything;
    const Result<std::uint64_t> count = co_await desk_.command(control::Command::flush, std::move(everything));
    if (!count) engine_.log_->warn("queue", "flushing ended early", {{"reason", count.error().detail}});
}

Task<Result<control::InjectReply>> Api::inject(control::InjectRequest request) {
    if (const auto refusal = acceptance_.refusal()) co_return fail(Errc::disk_full, *refusal);
    if (request.idempotency_key.empty()) co_return co_await queue(std::move(request));
    forget_old_keys();
    if (const auto known = seen_.find(request.idempotency_key); known != seen_.end()) {
        control::InjectReply repeated;
        repeated.id = known->second.id;
        repeated.repeated = true;
        co_return repeated;
    }
    if (const auto same = pending_.find(request.idempotency_key); same != pending_.end()) {
        const PendingPtr pending = same->second;
        co_return co_await wait_for(pending);
    }
    co_return co_await inject_once(std::move(request));
}

Task<Result<control::InjectReply>> Api::inject_once(control::InjectRequest request) {
    const std::string key = request.idempotency_key;
    const auto pending = std::make_shared<Pending>();
    pending_[key] = pending;
    Result<control::InjectReply> reply = co_await queue(std::move(request));
    if (reply) remember_key(key, Seen{reply->id, engine_.machinery_->clock().now()});
    pending_.erase(key);
    pending->reply = reply;
    for (async::Signal* waiting : pending->waiting) waiting->set();
    co_return reply;
}

Task<Result<control::InjectReply>> Api::wait_for(PendingPtr pending) {
    async::Signal done(executor_);
    pending->waiting.push_back(&done);
    co_await done.wait();
    Result<control::InjectReply> reply = *pending->reply;
    if (reply) reply->repeated = true;
    co_return reply;
}

// Makes the message durable, with the key that names it in the same batch.
Task<Result<control::InjectReply>> Api::queue(control::InjectRequest request) {
    const std::string key = request.idempotency_key;
    CO_TRY(mail::MessagePtr message, message_of(std::move(request)));
    if (hooks_ && hooks_->wants(reception::Hook::injected)) {
        CO_TRY(message, co_await offer_to_plugins(std::move(message)));
    }
    spool::Batch batch;
    if (!key.empty()) {
        batch.emplace_back(spool::PolicyRecord{
            std::string(key_prefix) + key, message->id.text() + " " + std::to_string(to_ms(engine_.machinery_->clock().now()))});
    }
    const Result<> accepted = co_await acceptance_.take(message, std::move(batch));
    if (!accepted) co_return fail(accepted.error());
    const event::Accepted fact{
        .message = *message, .client = message->origin, .took = engine_.machinery_->clock().now() - message->arrival};
    engine_.events_->record(fact);
    control::InjectReply reply;
    reply.id = message->id;
    co_return reply;
}

// Plugins may change it, sign it say; they cannot refuse it.
Task<Result<mail::MessagePtr>> Api::offer_to_plugins(mail::MessagePtr message) {
    const std::string content = message->trace + message->content;
    reception::Occasion about;
    about.transaction.emplace().envelope = &message->envelope;
    about.content = &content;
    about.message = message->id;
    about.text = message->notes;
    reception::Answer answer = co_await hooks_->ask(reception::Hook::injected, about);
    if (answer.what != reception::Answer::What::go_on) co_return fail(Errc::unreachable, "plugins do not answer; please try again later");
    co_return reception::revise(*message, std::move(answer), engine_.settings()->outbound.always_split);
}

Result<mail::MessagePtr> Api::message_of(control::InjectRequest request) {
    reception::Injection injection;
    injection.reverse_path = std::move(request.from);
    injection.recipients = std::move(request.to);
    injection.content = std::move(request.message);
    const std::uint64_t size_max = engine_.settings()->connection.message_bytes_max;
    const bool too_large = size_max > 0 && injection.content.size() > size_max;
    injection.origin = request.client.empty() ? "http" : request.client;
    injection.tenant = std::move(request.tenant);
    injection.job = std::move(request.job);
    injection.transport = std::move(request.transport);
    injection.lifetime = std::move(request.lifetime);
    injection.notes = std::move(request.notes);
    if (request.priority) injection.priority = *request.priority;
    auto message = reception::make_message(std::move(injection), *engine_.settings(), engine_.machinery_->clock(), engine_.machinery_->ids());
    if (message) return std::move(*message);
    const auto& errors = message.error();
    if (errors.size() == 1 && errors[0].field == "content" && too_large) return fail(Errc::too_large, errors[0].reason);
    std::string fields;
    for (const reception::FieldError& error : message.error()) {
        fields += (fields.empty() ? "" : "; ") + api_name(error.field) + ": " + error.reason;
    }
    return fail(Errc::bad_input, fields);
}

void Api::remember_key(const std::string& key, Seen seen) {
    seen_[key] = seen;
    key_ages_.emplace_back(seen.at, key);
}

void Api::recover_keys() {
    for (const spool::PolicyRecord& record : engine_.machinery_->recovery().policies) {
        if (!record.key.starts_with(key_prefix)) continue;
        const auto parts = split(record.value, ' ');
        if (parts.size() != 2) continue;
        const auto id = MessageId::parse(parts[0]);
        const auto at = parse_number<std::int64_t>(parts[1]);
        if (!id || !at) continue;
        const std::string key = record.key.substr(key_prefix.size());
        remember_key(key, Seen{*id, instant_from_ms(*at)});
    }
    std::sort(key_ages_.begin(), key_ages_.end());
}

// Costs what it forgets, not what it keeps: there may be a day's worth of keys.
void Api::forget_old_keys() {
    const Instant limit = engine_.machinery_->clock().now() - key_lifetime;
    spool::Batch erased;
    while (!key_ages_.empty() && key_ages_.front().first < limit && erased.size() < 1000) {
        const std::string key = std::move(key_ages_.front().second);
        key_ages_.pop_front();
        erased.emplace_back(spool::PolicyRecord{std::string(key_prefix) + key, ""});
        seen_.erase(key);
    }
    if (!erased.empty()) engine_.machinery_->spool().append(std::move(erased), nullptr, 0);
}

Task<control::ReloadReport> Api::reload() {
    const auto wanted = std::make_shared<Wanted>();
    engine_.reload_desk().ask([wanted, executor = executor_](const std::optional<config::Reload>& reload) {
        boost::asio::post(executor, [wanted, reload] { *wanted = {true, reload}; });
    });
    const auto limit = std::chrono::steady_clock::now() + reload_patience;
    for (bool go_on = true; go_on && !wanted->answered && std::chrono::steady_clock::now() < limit;) {
        go_on = co_await async::sleep_for(reload_look);
    }
    control::ReloadReport report;
    if (!wanted->reload) {
        report.problems.emplace_back(wanted->answered ? "error: the engine stops" : "error: the engine is busy; it reads the files as soon as it can");
        co_return report;
    }
    report.applied = wanted->reload->accepted;
    for (const Problem& problem : wanted->reload->problems) report.problems.push_back(problem.text());
    report.needs_restart = wanted->reload->needs_restart;
    co_return report;
}

Task<std::string> Api::metrics() {
    const control::EngineStatus now = co_await status();
    event::Metrics& metrics = engine_.metrics_;
    const auto gauge = [&](std::string_view name, std::string_view help, auto value) {
        metrics.set(name, help, static_cast<double>(value));
    };
    gauge("sluice_queue_items", "Items in the queue", now.queue.items);
    gauge("sluice_queue_scheduled", "Items waiting for their time", now.queue.scheduled);
    gauge("sluice_queue_ready", "Items waiting for capacity", now.queue.ready);
    gauge("sluice_queue_sending", "Items under way", now.queue.sending);
    gauge("sluice_queue_held", "Items held by an operator", now.queue.held);
    gauge("sluice_sessions", "Outbound connections", now.queue.sessions);
    gauge("sluice_sessions_idle", "Outbound connections waiting for reuse", now.queue.idle_sessions);
    gauge("sluice_buckets", "Live policy counters", now.queue.buckets);
    gauge("sluice_conditions", "Conditions that were added at run time", now.queue.conditions);
    gauge("sluice_suspensions", "Suspensions, those of suspend.yaml included", now.queue.suspensions);
    gauge("sluice_connections", "Inbound connections", now.connections_in);
    gauge("sluice_accepting", "1 while new mail is accepted", now.accepting ? 1 : 0);
    gauge("sluice_journal_segments", "Journal segments on disk", now.spool.segments);
    gauge("sluice_journal_disk_bytes", "Octets of the journal on disk", now.spool.disk_bytes);
    gauge("sluice_journal_live_bytes", "Octets of the journal that still matter", now.spool.live_bytes);
    gauge("sluice_journal_appended_bytes", "Octets appended since start", now.spool.appended_bytes);
    gauge("sluice_journal_syncs", "Syncs since start", now.spool.syncs);
    gauge("sluice_journal_sync_failures", "Failed syncs since start", now.spool.sync_failures);
    gauge("sluice_journal_rewritten_bytes", "Octets moved to reclaim space", now.spool.rewritten_bytes);
    gauge("sluice_disk_free_bytes", "Free octets on the file system of the journal", now.spool.free_disk_bytes);
    gauge("sluice_resident_bytes", "Resident memory", now.resident_bytes);
    count_plugins();
    co_return metrics.text();
}

void Api::count_plugins() {
    const plugin::Hosts::View view = plugins();
    event::Metrics& metrics = engine_.metrics_;
    const auto& loaded = view.host.roster.plugins;
    const auto is_native = [&](const std::string& name) {
        return std::any_of(loaded.begin(), loaded.end(), [&](const plugin::LoadedPlugin& one) { return one.native && one.name == name; });
    };
    for (const auto& [key, counts] : view.totals.counts) {
        const event::Labels labels{{"plugin", key.first}, {"hook", key.second}};
        metrics.total("sluice_plugin_calls_total", "Calls of a plugin's hook", static_cast<double>(counts.calls), labels);
        metrics.total("sluice_plugin_timeouts_total", "Calls that were not answered in time", static_cast<double>(counts.timeouts), labels);
        metrics.total("sluice_plugin_failures_total", "Calls that threw or rejected", static_cast<double>(counts.failures), labels);
        if (is_native(key.first)) continue;  // nobody takes its time
        metrics.total("sluice_plugin_seconds_total", "Time until plugins answered", counts.ms / 1000, labels);
        metrics.total("sluice_plugin_ends_total", "Plugin hosts that ended while this plugin ran or filled the heap", static_cast<double>(counts.host_ends), labels);
        metrics.total("sluice_plugin_over_budget_total", "Times that a hook was over its budget of CPU time or heap", static_cast<double>(counts.over_budget), labels);
        metrics.total("sluice_plugin_passed_over_total", "Times that a hook was not asked because it had been over its budget too often", static_cast<double>(counts.passed_over), labels);
        metrics.total("sluice_plugin_busy_seconds_total", "Time in which a plugin's code ran and nothing else could", counts.busy_ms / 1000, labels);
    }
    if (!view.any) return;
    for (const plugin::LoadedPlugin& plugin : view.host.roster.plugins) {
        if (plugin.native) continue;
        const auto heap = view.host.heap.find(plugin.name);
        const double bytes = heap != view.host.heap.end() ? static_cast<double>(heap->second) : 0;
        metrics.set("sluice_plugin_heap_bytes", "Live octets of JavaScript that a plugin's code allocated, sampled", bytes, {{"plugin", plugin.name}});
    }
    metrics.set("sluice_plugin_hooks_passed_over", "Hooks that are not asked for now", static_cast<double>(view.host.passed_over.size()));
    const auto number = [](std::uint64_t value) { return static_cast<double>(value); };
    metrics.set("sluice_plugin_host_up", "1 while the plugin host answers", view.host.state == "ready" ? 1 : 0);
    metrics.set("sluice_plugin_host_resident_bytes", "Resident memory of the plugin host", number(view.host.resident_bytes));
    metrics.set("sluice_plugin_host_heap_bytes", "JavaScript heap in use", number(view.host.heap_bytes));
    metrics.total("sluice_plugin_host_starts_total", "Plugin hosts started", number(view.totals.starts));
    metrics.total("sluice_plugin_host_ends_total", "Plugin hosts that ended and had to be started again", number(view.totals.ends));
    metrics.total("sluice_plugin_host_cpu_seconds_total", "CPU time of plugin hosts", number(view.totals.cpu_ms) / 1000);
    metrics.total("sluice_plugin_reloads_total", "Plugins loaded again", number(view.totals.reloads), {{"outcome", "done"}});
    metrics.total("sluice_plugin_reloads_total", "Plugins loaded again", number(view.totals.failed_reloads), {{"outcome", "failed"}});
}

plugin::Hosts::View Api::plugins() {
    plugin::Hosts* const hosts = engine_.machinery_->plugins();
    plugin::Hosts::View view = hosts != nullptr ? hosts->view() : plugin::Hosts::View();
    const plugin::JavaScriptListenersPtr listeners = hosts != nullptr ? hosts->listeners() : nullptr;
    if (const plugin::NativeHost* const natives = engine_.machinery_->natives()) plugin::add_natives(view, *natives, listeners.get());
    return view;
}

Task<plugin::Reloaded> Api::reload_plugins() {
    // What was installed since the files were read is loaded as well.
    [[maybe_unused]] const control::ReloadReport read = co_await reload();
    plugin::Hosts* const hosts = engine_.machinery_->plugins();
    std::optional<plugin::Reloaded> reloaded;
    async::Signal done(executor_);
    hosts->reload("somebody asked for it", [&](plugin::Reloaded what) {
        boost::asio::post(executor_, [&, what = std::move(what)]() mutable {
            reloaded = std::move(what);
            done.set();
        });
    });
    co_await done.wait();
    co_return std::move(*reloaded);
}

void Api::serve(plugin::ApiCall call, plugin::Respond respond) { tasks_.spawn(serve_call(std::move(call), std::move(respond))); }

Task<> Api::serve_call(plugin::ApiCall call, plugin::Respond respond) {
    control::HttpRequest request;
    request.method = std::move(call.method);
    request.path = std::move(call.path);
    request.query = std::move(call.query);
    request.body = std::move(call.body);
    request.content_type = "application/json";
    const control::HttpReply reply = co_await control::answer(*this, std::move(request));
    // What is no JSON is told as a text.
    const bool is_json = reply.content_type == "application/json";
    respond(reply.status, is_json ? reply.body : boost::json::serialize(boost::json::value(reply.body)));
}

void Api::close(control::Server& server, std::function<void()> closed) {
    desk_.close();
    survey_desk_.close();
    tasks_.spawn(close_server(server, std::move(closed)));
}

Task<> Api::close_server(control::Server& server, std::function<void()> closed) {
    co_await bulk_desk_.close();
    co_await server.close();
    closed();
}

}  // namespace sluice::daemon
