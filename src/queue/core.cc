#include "queue/core.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

constexpr std::uint32_t turn_messages = 20;
// Nobody means more by a lifetime, and in milliseconds it stays far from where time ends.
constexpr std::chrono::seconds lifetime_max{10 * 365 * 24 * 3'600};

}  // namespace

Core::Core(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Core::~Core() = default;
void Core::handle(Event event, Instant now, std::vector<Action>& actions) {
    impl_->handle(event, now, actions);
}
Instant Core::next_timer() const { return impl_->next_timer(); }
Stats Core::stats() const { return impl_->stats(); }
std::optional<ItemView> Core::find(ItemId id) const { return impl_->find(id); }
std::vector<std::uint32_t> Core::pending(ItemId id) const { return impl_->pending(id); }
void Core::each(std::string_view domain, const std::function<bool(const ItemView&)>& visit) const {
    impl_->each(domain, visit);
}
std::optional<Core::Place> Core::each_from(
    Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const {
    return impl_->each_from(from, places_max, visit);
}
void Core::each_domain(const std::function<bool(const DomainStats&)>& visit) const { impl_->each_domain(visit); }
void Core::each_condition(const std::function<void(const ConditionView&)>& visit) const { impl_->each_condition(visit); }
void Core::each_suspension(const std::function<void(const SuspensionView&)>& visit) const { impl_->each_suspension(visit); }
std::string Core::same_as(const policy::DynamicCondition& condition) const { return impl_->same_as(condition); }
std::string Core::same_as(const policy::Suspension& suspension) const { return impl_->same_as(suspension); }
Reach Core::reach_of(const policy::DynamicCondition& condition) const { return impl_->reach_of(condition); }
Reach Core::reach_of(const policy::Suspension& suspension) const { return impl_->reach_of(suspension); }
void Core::each_blocked(const std::function<void(const BlockedBucket&)>& visit) const { impl_->each_blocked(visit); }
std::optional<Core::Place> Core::select(
    const Filter& filter, Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const {
    return impl_->select(filter, from, places_max, visit);
}
std::optional<Core::Place> Core::survey(const Survey& survey, Place from, std::uint32_t places_max, std::vector<Group>& into) const {
    return impl_->survey(survey, from, places_max, into);
}
void Core::survey(const Survey& survey, const std::vector<ItemId>& items, std::vector<Group>& into) const {
    impl_->survey(survey, items, into);
}
std::optional<Core::Place> Core::each_bucket_from(
    Place from, std::uint32_t places_max, const std::function<bool(const BucketView&)>& visit) const {
    return impl_->each_bucket_from(from, places_max, visit);
}
Result<BucketView> Core::bucket(std::string_view name) const { return impl_->bucket(name); }
std::optional<Explanation> Core::explain(ItemId id) const { return impl_->explain(id); }
std::optional<Explanation> Core::explain(std::string_view domain) const { return impl_->explain(domain); }
const policy::FieldTable& Core::fields() const { return impl_->fields(); }
void Core::audit() const { impl_->audit(); }

Core::Impl::~Impl() = default;

TimerNode& Core::Impl::Nodes::operator()(Index key) const {
    const Index at = key & ((Index{1} << timed_shift) - 1);
    switch (static_cast<Timed>(key >> timed_shift)) {
        case Timed::item: return impl->items_[at].timer;
        case Timed::session: return impl->sessions_[at].timer;
        case Timed::destination: return impl->destinations_[at].timer;
        case Timed::bucket: return impl->buckets_[at].timer;
        case Timed::gate: return impl->suspensions_[at].timer;
        case Timed::condition: return impl->buckets_.conditions()[at].timer;
    }
    UNREACHABLE();
}

void Core::Impl::handle(Event& event, Instant now, std::vector<Action>& actions) {
    ASSERT(now >= now_);
    now_ = now;
    actions_ = &actions;
    wheel_.advance(now);
    paths_.advance(now);
    if (!began_) begin();
    react_in_time();
    for (Index timer = wheel_.take(); timer != none; timer = wheel_.take()) {
        fire(timer);
        serve_all();
    }
    std::visit([this](auto& what) { on(what); }, event);
    serve_all();
    work_off_backlog();
}

void Core::Impl::fire(Index timer) {
    const Index at = timer & ((Index{1} << timed_shift) - 1);
    switch (static_cast<Timed>(timer >> timed_shift)) {
        case Timed::item:
            if (items_[at].state() == ItemState::scheduled) return make_ready(at, false);
            leave_place(at);
            return conclude(at, Error(Errc::timed_out, "the message was too long in the queue"));
        case Timed::session: return close(at);
        case Timed::destination:
            if (has_ready(destinations_[at])) return refresh(at);
            drop_path(at);
            return release_destination(at);
        case Timed::bucket:
            offer(at);
            return settle(at);
        case Timed::gate: return tend_gate(at);
        case Timed::condition: return tend_condition(at);
    }
}

void Core::Impl::on(Admit& event) {
    Item item;
    item.message = event.id.message.value;
    item.index = event.id.index;
    item.destination = destination_of(event.domain);
    item.arrival = event.arrival;
    item.lifetime_s = static_cast<std::uint32_t>(std::clamp<std::int64_t>(event.lifetime.count(), 0, lifetime_max.count()));
    item.due = std::min(event.due, item.deadline());
    item.profile = profiles_.intern({event.tenant, event.job, event.transport, event.sender_domain, event.marks},
                                    [this](NameId transport) { return sources_.pool_of(transport); });
    item.size = event.size;
    item.recipient_count = event.recipient_count;
    item.source_hash = event.source_hash;
    item.attempts = event.attempts;
    item.priority = static_cast<std::uint8_t>(std::min<unsigned>(event.priority, priorities - 1));
    item.delay_notified = event.delay_notified;
    item.begin_as(event.held ? ItemState::held : ItemState::scheduled);

    const Index at = items_.add(item);
    Destination& destination = destinations_[item.destination];
    Chained<&Item::sibling>::push_back(items_, destination.items, at);
    ++destination.count[static_cast<unsigned>(item.state())];
    ++count_[static_cast<unsigned>(item.state())];
    if (!event.pending.empty()) progress_of(at).pending = std::move(event.pending);
    if (!event.last_reply.empty()) replies_.set(at, event.last_reply);
    if (const ItemChanges changes = ItemChanges::parse(event.changes); changes.any()) apply(at, changes);
    if (event.fresh != nullptr) keep_fresh(at, std::move(event.fresh));
    if (give_up_again(at, event.changes) || event.held) return;
    if (item.due <= now_) return make_ready(at, false);
    wheel_.add(timer_key(Timed::item, at), item.due);
}

void Core::Impl::on(RouteResolved& event) {
    const Index at = find_destination(event.key, event.via);
    if (at == none) return;
    const bool was_asked = std::exchange(destinations_[at].resolving, false);
    const bool stale = was_asked && destinations_[at].asked != configured_;
    const bool anew = std::exchange(destinations_[at].asked_anew, false);
    // Settings that change faster than name servers time out must not keep mail from being deferred.
    const bool only_defers = anew && !event.route && event.route.error().code == Errc::dns_temporary;
    if (stale && !only_defers) return resolve_anew(at);
    if (event.route) {
        set_path(at, paths_.add(std::move(*event.route)));
    } else {
        drop_path(at);
        conclude_waiting(at, event.route.error());
    }
    release_destination(at);
}

void Core::Impl::on(SessionOpened& event) {
    const Index at = sessions_.find(event.session);
    ASSERT(at != none);
    Session& session = sessions_[at];
    if (session.state == SessionState::gone) return;
    ASSERT(session.state == SessionState::opening);
    session.state = SessionState::busy;
    session.candidate = event.candidate;
    const Path& path = paths_[session.path];
    ASSERT(event.candidate < path.hops.size());
    paths_.reached(path.hops[event.candidate], now_);
    join_pool(at);
    if (buckets_.depends_on_candidate() && session.group.size() > 1) {
        const Family family = path.hops[event.candidate].family;
        // Begun under policies that did not ask for the candidate: now it is known what it counts for.
        change_slots(at, hold_buckets(lanes_[session.lane], values_of(lanes_[session.lane], path, event.candidate, session.local(family).address)));
    }
}

void Core::Impl::on(AttemptEnded& event) {
    const Index item = items_.find(event.item);
    ASSERT(item != none && items_[item].state() == ItemState::sending);
    if (event.session == 0) {
        ASSERT(items_[item].where == none);
        const bool asked = items_[item].asking;
        if (asked) end_asking(item);
        end_item_attempt(item, event, nullptr);
        return asked ? ask_plugins() : void();
    }
    const Index at = sessions_.find(event.session);
    ASSERT(at != none && items_[item].where == at && sessions_[at].item == item);
    Session& session = sessions_[at];
    observe(event, session);
    learn(event, session);
    session.item = none;
    items_[item].where = none;
    if (!event.reusable && session.state != SessionState::gone) mark_closing(at);
    end_item_attempt(item, event, &session);
    end_session_attempt(at, event.reusable);
}

void Core::Impl::on(SessionClosed& event) {
    const Index at = sessions_.find(event.session);
    ASSERT(at != none && sessions_[at].state != SessionState::gone);
    if (sessions_[at].item == none) return erase(at);
    free_slots(at);
    sessions_[at].state = SessionState::gone;
}

// What an attempt taught about hosts and local addresses, whatever became of the item.
void Core::Impl::learn(const AttemptEnded& event, const Session& session) {
    const Path& path = paths_[session.path];
    for (const std::uint32_t candidate : event.unhealthy) {
        if (candidate < path.hops.size()) paths_.avoid(path.hops[candidate], now_ + options_.unhealthy_for, now_);
    }
    if (event.source_unusable <= Duration::zero()) return;
    const Instant until = now_ + event.source_unusable;
    const bool opened = session.pool != none;
    for (const std::uint32_t candidate : session.group) {
        if (opened && candidate != session.candidate) continue;
        if (std::find(event.unhealthy.begin(), event.unhealthy.end(), candidate) != event.unhealthy.end()) continue;
        const Family family = path.hops[candidate].family;
        if (family != Family::local) sources_.avoid(session.local(family).address, until);
    }
}

void Core::Impl::end_session_attempt(Index at, bool reusable) {
    Session& session = sessions_[at];
    if (session.state == SessionState::gone) {
        ASSERT(!reusable);
        return erase(at);
    }
    if (!reusable) return;  // closing already
    ASSERT(session.state == SessionState::busy);
    if (is_spent(session)) return close(at);

    make_idle(at);
    pass_on(at);
}

// An idle session goes to whoever's turn it is, if that lane can use it. If not it stays with its own lane for a turn of some
// messages, so that lanes with other hosts or sources do not cost a connection for every message; when the turn is
// over it is closed for them, those who wait for the widest limit first, so that busy domains do not keep all sessions for ever.
void Core::Impl::pass_on(Index at) {
    Session& session = sessions_[at];
    const SessionId id = session.id;
    const auto still_idle = [&] { return session.id == id && session.state == SessionState::idle; };
    if (session.messages - session.turn_began < turn_messages) {
        kept_ = at;
        for (const Index slot : session.slots) offer(slots_[slot].bucket);
        serve_all();
        if (still_idle()) run_lane(session.lane);
        kept_ = none;
    }
    if (!still_idle()) return;
    session.turn_began = session.messages;
    for (auto slot = session.slots.rbegin(); slot != session.slots.rend(); ++slot) offer(slots_[*slot].bucket);
    serve_all();
    if (still_idle()) run_lane(session.lane);
    if (still_idle()) wheel_.add(timer_key(Timed::session, at), now_ + idle_time(session));
}

void Core::Impl::end_item_attempt(Index at, AttemptEnded& event, const Session* session) {
    using Verdict = AttemptEnded::Verdict;
    if (event.verdict == Verdict::done) return forget(at);
    if (!event.pending.empty()) progress_of(at).pending = std::move(event.pending);
    Item& item = items_[at];
    if (event.delay_notified) item.delay_notified = true;
    if (item.remove_requested) {
        actions_->push_back(Removed{item.key(), pending_of(at)});
        return forget(at);
    }
    const bool undecided = event.verdict != Verdict::deferred;
    if (!undecided) replies_.set(at, event.reply);
    if (conclude_rejected(at)) return;
    if (undecided && !item.hold_requested) {
        ASSERT(session != nullptr);
        return go_on(at, event, *session);
    }
    end_progress(at);
    if (!undecided) {
        drop_fresh(at);
        if (event.counts && item.attempts < std::numeric_limits<std::uint16_t>::max()) ++item.attempts;
        item.due = event.next;
    }
    if (item.take_hold_request()) return set_state(at, ItemState::held);
    schedule(at);
}

// The attempt goes on: over another candidate, or over the same one on a new connection.
void Core::Impl::go_on(Index at, const AttemptEnded& event, const Session& session) {
    Progress& progress = progress_of(at);
    const std::size_t candidates = paths_[session.path].hops.size();
    if (progress.path == none) {
        progress.path = paths_.hold(session.path);
        progress.tried.assign(candidates, false);
    }
    const bool opened = session.pool != none;
    if (event.verdict == AttemptEnded::Verdict::fresh_session && opened && session.messages > 1) {
        progress.only = session.candidate;
        return make_ready(at, true);
    }
    progress.only = none;
    for (const std::uint32_t candidate : event.unhealthy) {
        if (candidate < candidates) progress.tried[candidate] = true;
    }
    const bool source_failed = event.source_unusable > Duration::zero();
    progress.peer_failed = progress.peer_failed || !source_failed || !event.unhealthy.empty();
    progress.permanent = progress.permanent && event.permanent;
    for (const std::uint32_t candidate : session.group) {
        if (opened && candidate != session.candidate) continue;
        if (!source_failed || !has_other_source(session, candidate)) progress.tried[candidate] = true;
    }
    const bool all_tried = std::find(progress.tried.begin(), progress.tried.end(), false) == progress.tried.end();
    const bool may_rest = now_ - items_[at].arrival < lifetime_of(items_[at]);
    if (!all_tried || progress.peer_failed || !may_rest) return make_ready(at, true);

    // Only our own side failed: neither the hosts nor the attempts of the item count for that (FM-49).
    end_progress(at);
    items_[at].due = now_ + event.source_unusable;
    schedule(at);
}

// Whether the candidate would be called from another address now than the session tried, one that is believed to work.
bool Core::Impl::has_other_source(const Session& session, std::uint32_t candidate) const {
    const Path& path = paths_[session.path];
    const Family family = path.hops[candidate].family;
    if (family == Family::local) return false;
    std::vector<Local> others;
    list_locals(lanes_[session.lane], path, pool_for(lanes_[session.lane], path, candidate), family, others);
    return std::any_of(others.begin(), others.end(), [&](const Local& other) {
        return other.address != session.local(family).address && !sources_.is_avoided(other.address, now_);
    });
}

}  // namespace sluice::queue
