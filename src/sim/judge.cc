#include "sim/judge.h"

#include <algorithm>

namespace sluice::sim {

using queue::AttemptEnded;

namespace {

// A timer may be late, and with it the beginning of a window in which something is suspended.
constexpr Duration late_at_most{100};

}  // namespace

void Judge::violate(const std::string& what) {
    if (!violation_) violation_ = what;
}

void Judge::admitted(const queue::Admit& event) {
    const auto [at, is_new] = entries_.try_emplace(event.id);
    if (is_new) ++waiting_[event.domain][event.tenant].first;
    at->second.admit = event;
    at->second.admit.fresh = nullptr;
    waiting_items_.insert(event.id);
}

void Judge::delivering(const queue::Deliver& action, Instant now) {
    const std::string name = action.work.item.text();
    const auto found = entries_.find(action.work.item);
    if (found == entries_.end()) return violate("attempt of an unknown item " + name);
    Entry& entry = found->second;
    if (!check_item(action, entry, now)) return;

    const auto known = sessions_.find(action.session);
    std::optional<Session> before;
    if (known != sessions_.end()) before = known->second;
    std::vector<std::uint32_t> candidates = action.candidates;
    if (!begin_session(action, entry, candidates)) return;
    if (!check_candidates(action, entry, candidates, now) || !check_locals(action, entry)) return;
    if (!check_slots(action.session, before)) return;
    if (!check_rates(sessions_[action.session], entry.admit.size, action.open, now)) return;
    watch_fairness(entry, now);
    entry.sending = entry.started = true;
    waiting_items_.erase(action.work.item);
    entry.session = action.session;
    entry.route = action.route;
}

bool Judge::check_item(const queue::Deliver& action, Entry& entry, Instant now) {
    const std::string name = action.work.item.text();
    const auto wrong = [&](const char* why) {
        violate("item " + name + " is attempted although " + why);
        return false;
    };
    if (options_.disabled) return wrong("delivery is disabled");
    if (entry.fate != Fate::queued) return wrong("it has ended");
    if (entry.sending) return wrong("it is being attempted");
    if (entry.admit.held) return wrong("it is held");
    if (entry.remove_asked) return wrong("it is to be removed");
    if (entry.admit.due > now) return wrong("it is not due");
    if (entry.admit.lifetime.count() != 0 && now >= entry.admit.arrival + Duration(entry.admit.lifetime)) return wrong("its time is over");
    if (action.work.attempts != entry.admit.attempts) return wrong("attempts are counted otherwise");
    if (action.work.pending != entry.admit.pending) return wrong("other recipients are undecided");
    if (action.work.delay_notified != entry.admit.delay_notified) return wrong("its delay notice is confused");
    if (entry.route != nullptr && entry.route != action.route) return wrong("it began on another route");
    if (action.permanent_so_far != entry.permanent) return wrong("permanent_so_far is wrong");
    if (action.route->key != entry.admit.domain) return wrong("the route leads elsewhere");
    return true;
}

bool Judge::begin_session(const queue::Deliver& action, const Entry& entry, std::vector<std::uint32_t>& candidates) {
    const std::string name = "session " + std::to_string(action.session);
    if (action.open) {
        if (candidates.empty()) return violate(name + " has no candidate"), false;
        if (action.session <= last_session_) return violate(name + " is a number used again"), false;
        last_session_ = action.session;
        Session& session = sessions_[action.session];
        session.bind4 = action.bind;
        session.bind6 = action.bind6;
        session.group = action.candidates;
    } else {
        const auto found = sessions_.find(action.session);
        if (found == sessions_.end()) return violate(name + " is not open"), false;
        const Session& session = found->second;
        if (session.item) return violate(name + " has an item already"), false;
        if (!session.candidate) return violate(name + " was never opened"), false;
        const std::string& remote = session.route->candidates[*session.candidate].remote;
        for (std::uint32_t i = 0; i < action.route->candidates.size(); ++i) {
            if (action.route->candidates[i].remote == remote) candidates.push_back(i);
        }
        if (candidates.size() != 1) return violate(name + " leads to a host that is not on the route"), false;
        found->second.candidate = candidates.front();
    }
    Session& session = sessions_[action.session];
    session.served = entry.admit;
    session.route = action.route;
    session.item = action.work.item;
    ++session.messages;
    recount(session);
    return true;
}

bool Judge::check_candidates(
    const queue::Deliver& action, const Entry& entry, const std::vector<std::uint32_t>& candidates, Instant now
) {
    const std::string name = "item " + action.work.item.text();
    if (candidates.empty()) return violate(name + " has no candidate"), false;
    for (const std::uint32_t candidate : candidates) {
        if (action.route->candidates[candidate].level != action.route->candidates[candidates.front()].level) {
            return violate(name + " mixes levels"), false;
        }
        if (entry.tried.contains(candidate)) return violate(name + " repeats a candidate"), false;
        if (is_stopped(sessions_[action.session], candidate, action.open, now, now - late_at_most)) return violate(name + " is suspended"), false;
    }
    // Once it was suspended, or its transport lost the addresses to call it from, it need not be the same host any more.
    const bool same_host = entry.only && !suspended_ever_ && is_served(entry.admit, action.route, *entry.only);
    if (same_host && (candidates.size() != 1 || candidates.front() != *entry.only || !action.open)) {
        return violate(name + " should have tried the same host on a new session"), false;
    }
    // From which address the others would have been called is not known.
    const bool possible = suspends_addresses() || may_be_last_resort(action, entry, candidates, now, now) ||
                          may_be_last_resort(action, entry, candidates, now, now - late_at_most);
    if (!possible) return violate(name + ": last_resort is wrong"), false;
    return true;
}

bool Judge::suspends_addresses() const {
    const auto names_one = [](const policy::Suspension& suspension) { return suspension.match.fields().has(policy::Field::localip); };
    const auto& of_file = options_.suspensions != nullptr ? options_.suspensions->suspensions : std::vector<policy::Suspension>();
    return std::any_of(suspensions_.begin(), suspensions_.end(), [&](const auto& entry) { return names_one(*entry.second); }) ||
           std::any_of(of_file.begin(), of_file.end(), names_one);
}

bool Judge::may_be_last_resort(
    const queue::Deliver& action, const Entry& entry, const std::vector<std::uint32_t>& candidates, Instant now, Instant before
) const {
    std::size_t left = 0, perhaps_left = 0;
    for (std::uint32_t other = 0; other < action.route->candidates.size(); ++other) {
        const bool chosen = std::find(candidates.begin(), candidates.end(), other) != candidates.end();
        if (chosen || entry.tried.contains(other) || !is_served(entry.admit, action.route, other)) continue;
        if (is_stopped(sessions_.at(action.session), other, action.open, now, before)) continue;
        ++left;
        if (entry.perhaps_tried.contains(other)) ++perhaps_left;
    }
    return action.last_resort ? left == perhaps_left : left > 0;
}

// The addresses that this candidate is called from: of the transport that a bucket names, or else of the item's; null: the usual ones.
const queue::LocalPool* Judge::pool_for(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const {
    const std::string transport = transport_for(admit, route, candidate);
    for (const queue::LocalPool& pool : options_.transports) {
        if (pool.transport == transport && !pool.sources.empty()) return &pool;
    }
    return nullptr;
}

bool Judge::is_served(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const {
    const std::string& remote = route->candidates[candidate].remote;
    const queue::LocalPool* const pool = pool_for(admit, route, candidate);
    if (pool == nullptr || remote.starts_with('/')) return true;
    const bool is_ipv6 = remote.starts_with('[');
    const auto same_family = [&](const auto& source) { return (source.address.find(':') != std::string::npos) == is_ipv6; };
    return std::any_of(pool->sources.begin(), pool->sources.end(), same_family);
}

bool Judge::check_locals(const queue::Deliver& action, const Entry& entry) {
    if (!action.open) return true;
    for (const std::uint32_t index : action.candidates) {
        const queue::LocalPool* const pool = pool_for(entry.admit, action.route, index);
        const auto belongs = [&](const std::string& bind, const std::string& helo, const std::vector<std::string>& usual) {
            const auto is_source = [&](const auto& source) { return source.address == bind && source.helo == helo; };
            if (pool != nullptr) return std::any_of(pool->sources.begin(), pool->sources.end(), is_source);
            return helo.empty() && (bind.empty() ? usual.empty() : std::find(usual.begin(), usual.end(), bind) != usual.end());
        };
        const queue::Candidate& candidate = action.route->candidates[index];
        if (candidate.remote.starts_with('/')) continue;
        const bool is_ipv6 = candidate.remote.starts_with('[');
        if (is_ipv6 ? belongs(action.bind6, action.helo6, options_.sources6) : belongs(action.bind, action.helo, options_.sources4)) continue;
        return violate("item " + action.work.item.text() + " goes out from an address that is not its transport's"), false;
    }
    return true;
}

void Judge::watch_fairness(const Entry& entry, Instant now) {
    auto& tenants = waiting_[entry.admit.domain];
    for (auto& [tenant, state] : tenants) {
        state.second = tenant == entry.admit.tenant || state.first == 0 ? 0 : state.second + 1;
        passed_over_ = std::max(passed_over_, state.second);
    }
    if (entry.started) return;
    --tenants[entry.admit.tenant].first;
    Duration& waited = waited_[entry.admit.domain];
    waited = std::max(waited, now - entry.admit.arrival);
}

void Judge::concluding(const queue::Conclude& action) {
    const auto found = entries_.find(action.work.item);
    if (found == entries_.end() || found->second.fate != Fate::queued || found->second.sending || found->second.admit.held) {
        return violate("item " + action.work.item.text() + " cannot be concluded");
    }
    Entry& entry = found->second;
    if (!entry.started) --waiting_[entry.admit.domain][entry.admit.tenant].first;
    entry.sending = entry.started = true;
    waiting_items_.erase(action.work.item);
    entry.session = 0;
}

void Judge::opened(const queue::SessionOpened& event) {
    Session& session = sessions_[event.session];
    session.candidate = event.candidate;
    avoided_.erase(session.route->candidates[event.candidate].remote);
    recount(session);
}

void Judge::ended(const AttemptEnded& event, Fate fate, Instant now) {
    Entry& entry = entries_[event.item];
    if (!entry.sending) return violate("an attempt ended that never began");
    entry.sending = false;
    entry.fate = fate;
    if (fate == Fate::queued) waiting_items_.insert(event.item);
    if (!event.pending.empty()) entry.admit.pending = event.pending;
    if (event.delay_notified) entry.admit.delay_notified = true;
    auto session = sessions_.find(event.session);
    if (session == sessions_.end()) session = overtaken_.find(event.session);
    const bool known = event.session != 0;
    for (const std::uint32_t candidate : event.unhealthy) {
        avoided_[session->second.route->candidates[candidate].remote] = now + options_.unhealthy_for;
    }
    const bool undecided = event.verdict == AttemptEnded::Verdict::next_candidate ||
                           event.verdict == AttemptEnded::Verdict::fresh_session;
    if (undecided && !entry.admit.held && known) {
        note_tried(entry, event, session->second);
    } else {
        entry.route = nullptr;
        entry.tried.clear();
        entry.perhaps_tried.clear();
        entry.only.reset();
        entry.permanent = true;
    }
    if (event.verdict == AttemptEnded::Verdict::deferred) {
        ++entry.admit.attempts;
        entry.admit.due = std::max(event.next, now);
    }
    if (known) session->second.item.reset();
    overtaken_.erase(event.session);
}

void Judge::note_tried(Entry& entry, const AttemptEnded& event, const Session& session) {
    entry.only.reset();
    if (event.verdict == AttemptEnded::Verdict::fresh_session) {
        entry.only = session.candidate;
        return;
    }
    // When our own address was at fault, the same host may be called again from another one.
    std::set<std::uint32_t>& tried = event.source_unusable > Duration::zero() ? entry.perhaps_tried : entry.tried;
    if (session.candidate) {
        tried.insert(*session.candidate);
    } else {
        tried.insert(session.group.begin(), session.group.end());
    }
    entry.tried.insert(event.unhealthy.begin(), event.unhealthy.end());
    entry.permanent = entry.permanent && event.permanent;
}

void Judge::closed(queue::SessionId session) {
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return violate("the simulator closed a session twice");
    discount(found->second);
    if (found->second.item) overtaken_.insert(*found);
    sessions_.erase(found);
}

template <class Visit>
void Judge::each_queued(const queue::Selection& which, Visit visit) {
    for (auto& [id, entry] : entries_) {
        if (which.item && *which.item != id) continue;
        if (!which.domain.empty() && which.domain != entry.admit.domain) continue;
        if (entry.fate == Fate::queued) visit(entry);
    }
}

void Judge::removing(const queue::Selection& which) {
    each_queued(which, [](Entry& entry) { entry.remove_asked = true; });
}

void Judge::flushing(const queue::Selection& which, Instant now) {
    each_queued(which, [now](Entry& entry) {
        if (!entry.sending && !entry.admit.held) entry.admit.due = std::min(entry.admit.due, now);
    });
}

void Judge::removed(const queue::Removed& action) {
    Entry& entry = entries_[action.item];
    const std::string name = "item " + action.item.text();
    if (entry.fate != Fate::queued || entry.sending || !entry.remove_asked) return violate(name + " was removed unasked");
    if (action.pending != entry.admit.pending) violate(name + " was removed for the wrong recipients");
    entry.fate = Fate::removed;
    waiting_items_.erase(action.item);
    if (!entry.started) --waiting_[entry.admit.domain][entry.admit.tenant].first;
}

void Judge::hold_changed(const queue::HoldChanged& action) {
    Entry& entry = entries_[action.item];
    if (entry.fate != Fate::queued || (entry.admit.held == action.held && entry.admit.changes == action.changes)) {
        violate("item " + action.item.text() + " cannot change its hold");
    }
    entry.admit.held = action.held;
    entry.admit.changes = action.changes;
    if (entry.sending) return;
    entry.route = nullptr;
    entry.tried.clear();
    entry.perhaps_tried.clear();
    entry.only.reset();
    entry.permanent = true;
}

void Judge::changed(const queue::ConditionChanged& action, Instant now) {
    const bool known = conditions_.contains(action.condition->id);
    const bool gone = action.change == queue::Change::removed || action.change == queue::Change::expired;
    if (known != (action.change != queue::Change::added)) return violate("condition " + action.condition->id + " is confused");
    if (known) forget_past(*conditions_[action.condition->id]);
    if (gone) conditions_.erase(action.condition->id);
    else conditions_[action.condition->id] = action.condition;
    forget_past(*action.condition);
    distrust(now, &action.condition->limits);
}

// What these buckets counted counts otherwise now.
void Judge::forget_past(const policy::DynamicCondition& condition) {
    std::erase_if(past_, [&](const auto& entry) {
        const Counted& what = entry.second.what;
        policy::FieldTexts texts;
        for (std::size_t i = 0; i < what.values.size(); ++i) texts.set(what.values[i].first, what.values[i].second, what.groups[i]);
        return what.counts == condition.policy->counts && condition.match.holds(texts);
    });
}

void Judge::changed(const queue::SuspensionChanged& action) {
    const bool known = suspensions_.contains(action.suspension->id);
    const bool gone = action.change == queue::Change::removed || action.change == queue::Change::expired;
    if (known != (action.change != queue::Change::added)) return violate("suspension " + action.suspension->id + " is confused");
    suspended_ever_ = true;
    if (gone) suspensions_.erase(action.suspension->id);
    else suspensions_[action.suspension->id] = action.suspension;
}

void Judge::configured(const queue::Options& options, Instant now) {
    if (options.suspensions != nullptr) suspended_ever_ = true;
    const auto all = [](const queue::Options& some) { return some.policies == nullptr ? std::vector<policy::PolicyPtr>() : some.policies->policies; };
    // Where only the number of sessions changed, the engine must remember what it counted.
    const auto counts_alike = [](policy::Limits a, const policy::Limits& b) {
        a.concurrency = b.concurrency;
        return a == b;
    };
    const auto same = [&](const policy::PolicyPtr& a, const policy::PolicyPtr& b) {
        if (a->counts != b->counts || !counts_alike(a->fallback.value_or(policy::no_limits), b->fallback.value_or(policy::no_limits))) return false;
        return std::equal(a->conditions.begin(), a->conditions.end(), b->conditions.begin(), b->conditions.end(),
                          [&](const policy::Condition& x, const policy::Condition& y) { return counts_alike(x.limits, y.limits); });
    };
    const std::vector<policy::PolicyPtr> after = all(options), before = all(options_);
    if (!std::equal(after.begin(), after.end(), before.begin(), before.end(), same)) past_.clear();
    options_ = options;
    set_policies();
    distrust(now);
}

// What buckets remember of other limits, they know better.
void Judge::distrust(Instant now, const policy::Limits* more) {
    Duration longest(5'000);
    const auto look = [&](const policy::Limits& limits) {
        for (const policy::Rate& rate : limits.rates) longest = std::max(longest, rate.per() + rate.per() / 50);
    };
    if (more != nullptr) look(*more);
    for (const policy::PolicyPtr& policy : policies_) {
        if (policy->fallback) look(*policy->fallback);
        for (const policy::Condition& condition : policy->conditions) look(condition.limits);
    }
    unsure_until_ = std::max(unsure_until_, now + longest);
}

// Only what was recorded stays; sessions and attempts are gone.
void Judge::crashed() {
    sessions_.clear();
    overtaken_.clear();
    past_.clear();
    used_.clear();
    routes_.clear();
    avoided_.clear();
    unsure_until_ = {};
    last_session_ = 0;
    for (auto& [id, entry] : entries_) {
        if (entry.fate != Fate::queued) continue;
        if (entry.sending) ++cut_short_;
        waiting_items_.insert(id);
        entry.sending = false;
        entry.route = nullptr;
        entry.tried.clear();
        entry.perhaps_tried.clear();
        entry.only.reset();
        entry.permanent = true;
    }
}

std::vector<queue::Admit> Judge::survivors() const {
    std::vector<queue::Admit> out;
    for (const auto& [id, entry] : entries_) {
        if (entry.fate == Fate::queued) out.push_back(entry.admit);
    }
    return out;
}

std::uint64_t Judge::count(Fate fate) const {
    return static_cast<std::uint64_t>(
        std::count_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry.second.fate == fate; }));
}

std::uint64_t Judge::sessions(const std::string& domain) const {
    return static_cast<std::uint64_t>(std::count_if(
        sessions_.begin(), sessions_.end(), [&](const auto& session) { return session.second.served.domain == domain; }));
}

std::vector<ItemId> Judge::items() const {
    std::vector<ItemId> out;
    for (const auto& [id, entry] : entries_) {
        if (entry.fate == Fate::queued) out.push_back(id);
    }
    return out;
}

Duration Judge::waited(const std::string& domain) const {
    const auto found = waited_.find(domain);
    return found == waited_.end() ? Duration{0} : found->second;
}

}  // namespace sluice::sim
