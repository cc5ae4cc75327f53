#include "daemon/api.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <span>

#include "async/blocking.h"
#include "base/text.h"
#include "base/working_on.h"
#include "config/changes.h"
#include "config/load.h"
#include "daemon/engine.h"
#include "mail/header.h"
#include "reception/injection.h"

namespace sluice::daemon {
namespace {

constexpr std::string_view key_prefix = "idempotency:";
constexpr Duration key_lifetime{24 * 3'600'000};
constexpr std::chrono::milliseconds removal_poll{2};
// A filter on addresses reads messages from disk, so many in one go.
constexpr std::size_t loaded_at_once = 64;

const char* name_of(queue::ItemState state) {
    switch (state) {
        case queue::ItemState::scheduled: return "scheduled";
        case queue::ItemState::ready: return "ready";
        case queue::ItemState::sending: return "sending";
        case queue::ItemState::held: return "held";
    }
    UNREACHABLE();
}

control::ItemDetail detail_of(const queue::ItemView& view, const Clock& clock) {
    control::ItemDetail item;
    item.id = view.id;
    item.state = name_of(view.state);
    item.domain = view.domain;
    item.tenant = view.tenant;
    item.arrival_ms = clock.wall_ms(view.arrival);
    item.next_ms = clock.wall_ms(view.due);
    item.attempts = view.attempts;
    item.size = view.size;
    item.priority = view.priority;
    return item;
}

bool selected(const queue::ItemView& item, const queue::Selection& which) {
    if (which.item) return item.id == *which.item;
    return which.domain.empty() || item.domain == which.domain;
}

bool concerned(const queue::ItemView& item, control::Command command) {
    switch (command) {
        case control::Command::flush: return item.state == queue::ItemState::scheduled;
        case control::Command::hold: return item.state != queue::ItemState::held;
        case control::Command::release: return item.state == queue::ItemState::held;
        case control::Command::remove: return true;
    }
    UNREACHABLE();
}

std::uint64_t count_concerned(const queue::Core& core, control::Command command, const queue::Selection& which) {
    if (which.item) {
        const auto item = core.find(*which.item);
        return item && concerned(*item, command) ? 1 : 0;
    }
    std::uint64_t count = 0;
    core.each(which.domain, [&](const queue::ItemView& item) {
        if (selected(item, which) && concerned(item, command)) ++count;
        return true;
    });
    return count;
}

queue::Event event_of(control::Command command, queue::Selection which) {
    switch (command) {
        case control::Command::flush: return queue::Flush{std::move(which)};
        case control::Command::hold: return queue::Hold{std::move(which)};
        case control::Command::release: return queue::Release{std::move(which)};
        case control::Command::remove: return queue::Remove{std::move(which)};
    }
    UNREACHABLE();
}

bool mentions(const std::string& text, const std::string& wanted) {
    return to_lower(text).find(to_lower(wanted)) != std::string::npos;
}

bool passes(const mail::Message& message, ItemId id, const control::ItemFilter& filter) {
    const mail::Envelope& envelope = message.envelope;
    if (id.index >= message.items.size()) return false;
    if (!filter.sender.empty() && !mentions(envelope.reverse_path.text(), filter.sender)) return false;
    const std::vector<std::uint32_t>& recipients = message.items[id.index].recipients;
    const auto wanted = [&](std::uint32_t index) {
        return mentions(envelope.recipients[index].address.text(), filter.recipient);
    };
    return filter.recipient.empty() || std::any_of(recipients.begin(), recipients.end(), wanted);
}

// What the API calls a field of an injection: "recipients[1]" came in as "to".
std::string api_name(const std::string& field) {
    if (field.starts_with("recipients")) return "to" + field.substr(std::string_view("recipients").size());
    if (field == "reverse_path") return "from";
    return field == "content" ? "message" : field;
}

}  // namespace

Api::Api(Engine& engine, async::Executor executor)
    : engine_(engine),
      executor_(executor),
      acceptance_(executor, *engine.spool_, *engine.core_, *engine.pressure_),
      tasks_(executor) {
    recover_keys();
}

template <class Answer>
Task<Answer> Api::ask(std::function<Answer(const queue::Core&)> question) {
    std::optional<Answer> answer;
    async::Signal answered(executor_);
    engine_.core_->ask([&](const queue::Core& core) {
        answer.emplace(question(core));
        boost::asio::post(executor_, [&answered] { answered.set(); });
    });
    co_await answered.wait();
    co_return std::move(*answer);
}

Task<control::EngineStatus> Api::status() {
    control::EngineStatus status;
    status.version = version;
    const config::SettingsPtr settings = engine_.settings();
    status.me = settings->me;
    status.directory = settings->directory;
    status.uptime_ms = (engine_.clock_.now() - engine_.started_).count();
    for (const net::Endpoint& endpoint : engine_.endpoints()) status.listeners.push_back(endpoint.text());
    status.connections_in = engine_.census_.total();
    status.spool = engine_.spool_->status();
    const auto refusal = acceptance_.refusal();
    status.accepting = !refusal.has_value();
    status.why_not = refusal.value_or("");
    status.resident_bytes = engine_.pressure_->resident_bytes();
    status.warnings = engine_.warnings_;
    std::function<queue::Stats(const queue::Core&)> question = [](const queue::Core& core) { return core.stats(); };
    status.queue = co_await ask<queue::Stats>(std::move(question));
    co_return status;
}

Task<std::vector<control::DomainCount>> Api::domains() {
    using Counts = std::vector<control::DomainCount>;
    std::function<Counts(const queue::Core&)> question = [](const queue::Core& core) {
        Counts counts;
        core.each_domain([&](const queue::DomainStats& domain) {
            counts.push_back(
                {std::string(domain.domain), domain.scheduled, domain.ready, domain.sending, domain.held, domain.sessions});
            return true;
        });
        return counts;
    };
    Counts counts = co_await ask<Counts>(std::move(question));
    std::sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        const auto total = [](const control::DomainCount& c) { return c.scheduled + c.ready + c.sending + c.held; };
        return std::pair(total(b), a.domain) < std::pair(total(a), b.domain);
    });
    co_return counts;
}

Task<std::vector<control::ItemDetail>> Api::list(control::ItemFilter filter) {
    const bool by_address = !filter.sender.empty() || !filter.recipient.empty();
    const std::size_t candidates_max = by_address ? std::numeric_limits<std::size_t>::max() : filter.limit;
    std::vector<ItemId> candidates = co_await ids(filter, candidates_max);
    if (by_address) candidates = co_await with_addresses(std::move(candidates), filter);
    std::vector<control::ItemDetail> items;
    for (const ItemId id : candidates) {
        if (closing_) break;
        Result<control::ItemDetail> item = co_await show(id);
        if (!item) continue;  // it has left the queue meanwhile
        item->headers.clear();
        items.push_back(std::move(*item));
    }
    std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    co_return items;
}

// The items that domain and state select.
Task<std::vector<ItemId>> Api::ids(const control::ItemFilter& filter, std::size_t count_max) {
    using Ids = std::vector<ItemId>;
    std::function<Ids(const queue::Core&)> question = [&filter, count_max](const queue::Core& core) {
        Ids ids;
        core.each(filter.domain, [&](const queue::ItemView& view) {
            if (filter.state.empty() || filter.state == name_of(view.state)) ids.push_back(view.id);
            return ids.size() < count_max;
        });
        return ids;
    };
    co_return co_await ask<Ids>(std::move(question));
}

// Those of the items that the filter's addresses select, as many as its limit. However many have to be read.
Task<std::vector<ItemId>> Api::with_addresses(std::vector<ItemId> candidates, const control::ItemFilter& filter) {
    std::vector<ItemId> matching;
    for (std::size_t from = 0; from < candidates.size() && matching.size() < filter.limit && !closing_;) {
        const std::size_t count = std::min(loaded_at_once, candidates.size() - from);
        const std::span<const ItemId> some(&candidates[from], count);
        const auto read = [this, some, &filter] {
            std::vector<ItemId> found;
            for (const ItemId id : some) {
                if (engine_.crash_guard_->quarantined(id.message)) continue;
                const Result<mail::MessagePtr> message = engine_.spool_->load(id.message);
                if (message && passes(**message, id, filter)) found.push_back(id);
            }
            return found;
        };
        const std::vector<ItemId> found = co_await async::blocking(engine_.disk_pool_, executor_, read);
        matching.insert(matching.end(), found.begin(), found.end());
        from += count;
    }
    if (matching.size() > filter.limit) matching.resize(filter.limit);
    co_return matching;
}

Task<Result<control::ItemDetail>> Api::detail(control::ItemDetail item, std::vector<std::uint32_t> pending) {
    if (engine_.crash_guard_->quarantined(item.id.message)) {
        item.problem = CrashGuard::reason();
        co_return item;
    }
    const auto load = [this, id = item.id.message] { return engine_.spool_->load(id); };
    const Result<mail::MessagePtr> loaded = co_await async::blocking(engine_.disk_pool_, executor_, load);
    if (!loaded) {
        if (loaded.error().code == Errc::not_found) co_return fail(loaded.error());  // decided meanwhile
        // A damaged message is shown too: the operator has to find it.
        item.problem = loaded.error().text();
        co_return item;
    }
    const mail::Message& message = **loaded;
    const WorkingOn working(message.id);
    item.sender = message.envelope.reverse_path.text();
    ASSERT(item.id.index < message.items.size());
    if (pending.empty()) pending = message.items[item.id.index].recipients;
    for (const std::uint32_t index : pending) {
        item.recipients.push_back(message.envelope.recipients[index].address.text());
    }
    item.headers = message.trace + message.content.substr(0, message.traits.header_size);
    if (const auto subject = mail::find_field(message.content, "Subject")) item.subject = mail::unfolded(subject->value);
    co_return item;
}

Task<Result<control::ItemDetail>> Api::show(ItemId id) {
    using Found = std::optional<std::pair<control::ItemDetail, std::vector<std::uint32_t>>>;
    std::function<Found(const queue::Core&)> question = [this, id](const queue::Core& core) -> Found {
        const auto view = core.find(id);
        return view ? Found(std::pair(detail_of(*view, engine_.clock_), core.pending(id))) : std::nullopt;
    };
    Found found = co_await ask<Found>(std::move(question));
    if (!found) co_return fail(Errc::not_found, "no queued item " + id.text());
    co_return co_await detail(std::move(found->first), std::move(found->second));
}

Task<Result<std::uint64_t>> Api::command(control::Command command, queue::Selection which) {
    std::function<std::uint64_t(const queue::Core&)> question = [command, &which](const queue::Core& core) {
        return count_concerned(core, command, which);
    };
    const std::uint64_t count = co_await ask<std::uint64_t>(std::move(question));
    if (which.item && count == 0) co_return fail(Errc::not_found, "no such item in a state that this concerns");
    queue::Event event = event_of(command, std::move(which));
    engine_.core_->push(std::move(event));
    // The answer comes after the core has taken the command, and after a crash would not undo it. Core and writer
    // keep the order; removals may wait for the disk to name their recipients.
    std::function<bool(const queue::Core&)> barrier = [](const queue::Core&) { return true; };
    co_await ask<bool>(std::move(barrier));
    while (engine_.removals_under_way_ > 0 && co_await async::sleep_for(removal_poll)) {
    }
    CO_TRY_VOID(co_await acceptance_.durable());
    co_return count;
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
    if (reply) remember_key(key, Seen{reply->id, engine_.clock_.now()});
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
    CO_TRY(const mail::MessagePtr message, message_of(std::move(request)));
    spool::Batch batch;
    if (!key.empty()) {
        batch.emplace_back(spool::PolicyRecord{
            std::string(key_prefix) + key, message->id.text() + " " + std::to_string(to_ms(engine_.clock_.now()))});
    }
    const Result<> accepted = co_await acceptance_.accept_with(message, std::move(batch));
    if (!accepted) co_return fail(accepted.error());
    const event::Accepted fact{
        .message = *message, .client = message->origin, .took = engine_.clock_.now() - message->arrival};
    engine_.events_->record(fact);
    control::InjectReply reply;
    reply.id = message->id;
    co_return reply;
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
    injection.priority = request.priority;
    auto message = reception::make_message(std::move(injection), *engine_.settings(), engine_.clock_, *engine_.ids_);
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
    for (const spool::PolicyRecord& record : engine_.recovery_.policies) {
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
    const Instant limit = engine_.clock_.now() - key_lifetime;
    spool::Batch erased;
    while (!key_ages_.empty() && key_ages_.front().first < limit && erased.size() < 1000) {
        const std::string key = std::move(key_ages_.front().second);
        key_ages_.pop_front();
        erased.emplace_back(spool::PolicyRecord{std::string(key_prefix) + key, ""});
        seen_.erase(key);
    }
    if (!erased.empty()) engine_.spool_->append(std::move(erased), nullptr, 0);
}

Task<control::ReloadReport> Api::reload() {
    const config::Loaded loaded = config::load(engine_.settings()->directory);
    control::ReloadReport report;
    for (const config::Problem& problem : loaded.problems) report.problems.push_back(problem.text());
    report.applied = loaded.settings != nullptr;
    if (report.applied && config::compare(*engine_.settings(), *loaded.settings).any()) engine_.apply(loaded.settings);
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
    co_return metrics.text();
}

void Api::close(control::Server& server, std::function<void()> closed) {
    closing_ = true;
    tasks_.spawn(close_server(server, std::move(closed)));
}

Task<> Api::close_server(control::Server& server, std::function<void()> closed) {
    co_await server.close();
    closed();
}

}  // namespace sluice::daemon
