#include "sim/judge.h"

#include <algorithm>

namespace sluice::sim {

using queue::AttemptEnded;

void Judge::violate(const std::string& what) {
    if (!violation_) violation_ = what;
}

void Judge::admitted(const queue::Admit& event) {
    const auto [at, is_new] = entries_.try_emplace(event.id);
    if (is_new) ++waiting_[event.domain][event.tenant].first;
    at->second.admit = event;
    at->second.admit.fresh = nullptr;
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
    if (!check_candidates(action, entry, candidates)) return;
    if (!check_slots(action.session, before)) return;
    if (!check_rates(sessions_[action.session], now)) return;
    watch_fairness(entry, now);
    entry.sending = entry.started = true;
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
    if (entry.admit.due > now) return wrong("it is not due");
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
    session.domain = entry.admit.domain;
    session.tenant = entry.admit.tenant;
    session.route = action.route;
    session.item = action.work.item;
    return true;
}

bool Judge::check_candidates(
    const queue::Deliver& action, const Entry& entry, const std::vector<std::uint32_t>& candidates
) {
    const std::string name = "item " + action.work.item.text();
    if (candidates.empty()) return violate(name + " has no candidate"), false;
    for (const std::uint32_t candidate : candidates) {
        if (action.route->candidates[candidate].level != action.route->candidates[candidates.front()].level) {
            return violate(name + " mixes levels"), false;
        }
        if (entry.tried.contains(candidate)) return violate(name + " repeats a candidate"), false;
    }
    if (entry.only && (candidates.size() != 1 || candidates.front() != *entry.only || !action.open)) {
        return violate(name + " should have tried the same host on a new session"), false;
    }
    const std::size_t left = action.route->candidates.size() - entry.tried.size() - candidates.size();
    if (action.last_resort != (left == 0)) return violate(name + ": last_resort is wrong"), false;
    return true;
}

std::vector<policy::WindowPolicy> Judge::policies() const {
    std::vector<policy::WindowPolicy> all = options_.policies;
    all.push_back({"destination", {policy::Field::recipientdomain}, options_.destination_concurrency, {}});
    all.push_back({"total", {}, options_.concurrency_max, {}});
    return all;
}

std::string Judge::bucket(const policy::WindowPolicy& policy, const Session& session) {
    const queue::Candidate& candidate = session.route->candidates[session.candidate.value_or(session.group.front())];
    std::string text;
    const auto add = [&](policy::Field field, const std::string& value) {
        if (policy.fields.has(field)) text += value + "|";
    };
    add(policy::Field::tenantid, session.tenant);
    add(policy::Field::recipientdomain, session.domain);
    add(policy::Field::localip, candidate.remote.starts_with('[') ? session.bind6 : session.bind4);
    add(policy::Field::remoteip, candidate.remote);
    add(policy::Field::remotemx, candidate.mx_host);
    return text;
}

bool Judge::check_slots(queue::SessionId id, const std::optional<Session>& before) {
    const Session& session = sessions_[id];
    for (const policy::WindowPolicy& policy : policies()) {
        if (policy.concurrency == 0) continue;
        const std::string mine = bucket(policy, session);
        if (before && bucket(policy, *before) == mine) continue;  // it holds its slot already
        const auto used = std::count_if(sessions_.begin(), sessions_.end(),
                                        [&](const auto& entry) { return bucket(policy, entry.second) == mine; });
        if (used > policy.concurrency) {
            return violate("policy " + policy.name + " allows " + std::to_string(policy.concurrency) + " sessions for '" +
                           mine + "', this is number " + std::to_string(used)),
                   false;
        }
    }
    return true;
}

bool Judge::check_rates(const Session& session, Instant now) {
    const std::vector<policy::WindowPolicy> all = policies();
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (all[i].rate.count == 0) continue;
        Window& window = windows_[{i, bucket(all[i], session)}];
        if (window.used == 0 || now >= window.begin + all[i].rate.per) window = Window{now, 0};
        if (++window.used > all[i].rate.count) return violate("policy " + all[i].name + ": rate exceeded"), false;
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
    entry.session = 0;
}

void Judge::opened(const queue::SessionOpened& event) { sessions_[event.session].candidate = event.candidate; }

void Judge::ended(const AttemptEnded& event, Fate fate, Instant now) {
    Entry& entry = entries_[event.item];
    if (!entry.sending) return violate("an attempt ended that never began");
    entry.sending = false;
    entry.fate = fate;
    if (!event.pending.empty()) entry.admit.pending = event.pending;
    if (event.delay_notified) entry.admit.delay_notified = true;
    auto session = sessions_.find(event.session);
    if (session == sessions_.end()) session = overtaken_.find(event.session);
    const bool known = event.session != 0;
    const bool undecided = event.verdict == AttemptEnded::Verdict::next_candidate ||
                           event.verdict == AttemptEnded::Verdict::fresh_session;
    if (undecided && !entry.admit.held && known) {
        note_tried(entry, event, session->second);
    } else {
        entry.route = nullptr;
        entry.tried.clear();
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
    if (session.candidate) {
        entry.tried.insert(*session.candidate);
    } else {
        entry.tried.insert(session.group.begin(), session.group.end());
    }
    entry.tried.insert(event.unhealthy.begin(), event.unhealthy.end());
    entry.permanent = entry.permanent && event.permanent;
}

void Judge::closed(queue::SessionId session) {
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return violate("the simulator closed a session twice");
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
    if (!entry.started) --waiting_[entry.admit.domain][entry.admit.tenant].first;
}

void Judge::hold_changed(const queue::HoldChanged& action) {
    Entry& entry = entries_[action.item];
    if (entry.fate != Fate::queued || entry.admit.held == action.held) {
        violate("item " + action.item.text() + " cannot change its hold");
    }
    entry.admit.held = action.held;
    if (entry.sending) return;
    entry.route = nullptr;
    entry.tried.clear();
    entry.only.reset();
    entry.permanent = true;
}

void Judge::configured(const queue::Options& options) {
    const auto same = [](const policy::WindowPolicy& a, const policy::WindowPolicy& b) { return a.fields == b.fields; };
    if (!std::equal(options.policies.begin(), options.policies.end(), options_.policies.begin(), options_.policies.end(), same)) {
        windows_.clear();
    }
    options_ = options;
}

// Only what was recorded stays; sessions and attempts are gone.
void Judge::crashed() {
    sessions_.clear();
    overtaken_.clear();
    windows_.clear();
    last_session_ = 0;
    for (auto& [id, entry] : entries_) {
        if (entry.fate != Fate::queued) continue;
        if (entry.sending) ++cut_short_;
        entry.sending = entry.remove_asked = false;
        entry.route = nullptr;
        entry.tried.clear();
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
        sessions_.begin(), sessions_.end(), [&](const auto& session) { return session.second.domain == domain; }));
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
