#include "sim/judge.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "queue/remote.h"

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
    const bool same_host = entry.only && !suspended_ever_ && is_served(entry.admit, action.route->candidates[*entry.only]);
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
        if (chosen || entry.tried.contains(other) || !is_served(entry.admit, action.route->candidates[other])) continue;
        if (is_stopped(sessions_.at(action.session), other, action.open, now, before)) continue;
        ++left;
        if (entry.perhaps_tried.contains(other)) ++perhaps_left;
    }
    return action.last_resort ? left == perhaps_left : left > 0;
}

// The addresses of its transport; null: the usual ones.
const queue::LocalPool* Judge::pool_of(const queue::Admit& admit) const {
    for (const queue::LocalPool& pool : options_.transports) {
        if (pool.transport == admit.transport && !pool.sources.empty()) return &pool;
    }
    return nullptr;
}

bool Judge::is_served(const queue::Admit& admit, const queue::Candidate& candidate) const {
    const queue::LocalPool* const pool = pool_of(admit);
    if (pool == nullptr || candidate.remote.starts_with('/')) return true;
    const bool is_ipv6 = candidate.remote.starts_with('[');
    const auto same_family = [&](const auto& source) { return (source.address.find(':') != std::string::npos) == is_ipv6; };
    return std::any_of(pool->sources.begin(), pool->sources.end(), same_family);
}

bool Judge::check_locals(const queue::Deliver& action, const Entry& entry) {
    if (!action.open) return true;
    const queue::LocalPool* const pool = pool_of(entry.admit);
    const auto belongs = [&](const std::string& bind, const std::string& helo, const std::vector<std::string>& usual) {
        const auto is_source = [&](const auto& source) { return source.address == bind && source.helo == helo; };
        if (pool != nullptr) return std::any_of(pool->sources.begin(), pool->sources.end(), is_source);
        return helo.empty() && (bind.empty() ? usual.empty() : std::find(usual.begin(), usual.end(), bind) != usual.end());
    };
    for (const std::uint32_t index : action.candidates) {
        const queue::Candidate& candidate = action.route->candidates[index];
        if (candidate.remote.starts_with('/')) continue;
        const bool is_ipv6 = candidate.remote.starts_with('[');
        if (is_ipv6 ? belongs(action.bind6, action.helo6, options_.sources6) : belongs(action.bind, action.helo, options_.sources4)) continue;
        return violate("item " + action.work.item.text() + " goes out from an address that is not its transport's"), false;
    }
    return true;
}

void Judge::set_policies() {
    const auto sessions = [](std::uint32_t count) {
        policy::Limits limits;
        limits.concurrency = count;
        return limits;
    };
    policies_.clear();
    if (options_.policies != nullptr) policies_ = options_.policies->policies;
    policies_.push_back(policy::plain_policy("destination", {policy::Field::recipientdomain}, sessions(options_.destination_concurrency)));
    policies_.push_back(policy::plain_policy("total", {}, sessions(options_.concurrency_max)));
    used_.clear();
    for (auto& [id, session] : sessions_) {
        session.buckets.clear();
        recount(session);
    }
}

std::string Judge::value_of(policy::Field field, const Session& session) const {
    return value_of(field, session, session.candidate ? *session.candidate : session.group.front());
}

std::string Judge::value_of(policy::Field field, const Session& session, std::uint32_t at) const {
    using policy::Field;
    const queue::Admit& served = session.served;
    const queue::Candidate& candidate = session.route->candidates[at];
    const std::string ip(queue::ip_of(candidate.remote));
    switch (field) {
        case Field::tenantid: return served.tenant;
        case Field::jobid: return served.job;
        case Field::transportid: return served.transport;
        case Field::senderdomain: return served.sender_domain;
        case Field::recipientdomain: return served.domain;
        case Field::priority: return std::to_string(std::min<unsigned>(served.priority, 7));
        case Field::attempt: return std::to_string(std::min<unsigned>(served.attempts + 1U, 32));
        case Field::localip: return candidate.remote.starts_with('[') ? session.bind6 : session.bind4;
        case Field::remoteip: return ip;
        case Field::remotemx: return candidate.mx_host;
        case Field::grouping:
            return options_.policies == nullptr ? "" : std::string(options_.policies->grouping.of(candidate.mx_host, ip, served.domain));
    }
    for (const mail::Mark& mark : served.marks) {
        if (mark.field == options_.policies->fields.name_of(field)) return mark.value;
    }
    return {};
}

// The buckets that a session counts for, by policy: those behind a `stop` are left out, but not those of the settings.
std::vector<Judge::Counted> Judge::counted(const Session& session) const {
    std::vector<Counted> found;
    bool stopped = false;
    for (std::size_t place = 0; place < policies_.size(); ++place) {
        const policy::Policy& policy = *policies_[place];
        const bool is_setting = place + 2 >= policies_.size();
        if (stopped && !is_setting) continue;
        policy::FieldTexts texts;
        std::vector<std::string> values;
        for (const policy::Field field : policy.fields) values.push_back(value_of(field, session));
        std::string bucket = std::to_string(place);
        Counted counted{"", policy.name, {}, policy.counts};
        for (std::size_t i = 0; i < policy.fields.size(); ++i) {
            const std::string& value = values[i];
            const std::uint32_t group = policy.roll_ups[i] != nullptr ? policy.roll_ups[i]->group_of(value) : policy::Matcher::nothing;
            texts.set(policy.fields[i], value, group);
            bucket += "|" + (group != policy::Matcher::nothing ? policy.group_text(i, group) : value);
            counted.values.emplace_back(policy.fields[i], value);
            counted.groups.push_back(group);
        }
        counted.bucket = std::move(bucket);
        counted.limits = is_setting ? policy.limits_of(texts) : limits_of(policy, texts);
        found.push_back(std::move(counted));
        stopped = stopped || policy.limits_of(texts).stop;
    }
    return found;
}

void Judge::discount(const Session& session) {
    for (const std::string& bucket : session.buckets) --used_[bucket];
}

void Judge::recount(Session& session) {
    discount(session);
    session.buckets.clear();
    for (Counted& counted : counted(session)) session.buckets.push_back(std::move(counted.bucket));
    for (const std::string& bucket : session.buckets) ++used_[bucket];
}

// Of the condition that comes first, whatever order they came in, or else of the file. Of policies that count the same, the first is meant.
const policy::Limits& Judge::limits_of(const policy::Policy& policy, const policy::FieldTexts& texts) const {
    const auto same = [&](const policy::PolicyPtr& other) { return other->counts == policy.counts; };
    const std::vector<policy::PolicyPtr>& all = options_.policies->policies;
    const policy::DynamicCondition* best = nullptr;
    if (std::find_if(all.begin(), all.end(), same)->get() != &policy) return policy.limits_of(texts);
    for (const auto& [id, condition] : conditions_) {
        if (condition->policy->counts != policy.counts || !condition->match.holds(texts)) continue;
        if (best == nullptr || policy::comes_before(*condition, *best)) best = condition.get();
    }
    return best != nullptr ? best->limits : policy.limits_of(texts);
}

bool Judge::is_stopped(const Session& session, std::uint32_t at, bool opens, Instant now, Instant before) const {
    if (nothing_suspended()) return false;
    std::array<std::string, policy::named_field_count> values;
    policy::FieldTexts texts;
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = value_of(static_cast<policy::Field>(i), session, at);
        texts.set(static_cast<policy::Field>(i), values[i]);
    }
    const std::uint64_t hash = policy::leak_hash(session.item->message.value);
    const auto stops = [&](const policy::Suspension& suspension) {
        return suspension.stops(texts, hash, opens, now) && suspension.stops(texts, hash, opens, before);
    };
    const auto& of_file = options_.suspensions != nullptr ? options_.suspensions->suspensions : std::vector<policy::Suspension>();
    return std::any_of(suspensions_.begin(), suspensions_.end(), [&](const auto& entry) { return stops(*entry.second); }) ||
           std::any_of(of_file.begin(), of_file.end(), stops);
}

bool Judge::check_slots(queue::SessionId id, const std::optional<Session>& before) {
    std::set<std::string> held;
    if (before) held.insert(before->buckets.begin(), before->buckets.end());
    for (const Counted& counted : counted(sessions_[id])) {
        if (counted.limits.concurrency == 0 || held.contains(counted.bucket)) continue;  // it holds its slot already
        if (used_[counted.bucket] <= counted.limits.concurrency) continue;
        return violate(counted.policy + " allows " + std::to_string(counted.limits.concurrency) + " sessions for '" + counted.bucket +
                       "', this is number " + std::to_string(used_[counted.bucket])),
               false;
    }
    return true;
}

bool Judge::check_rates(const Session& session, std::uint32_t bytes, bool opened, Instant now) {
    for (const Counted& counted : counted(session)) {
        Past& past = past_[counted.bucket];
        past.what = counted;
        const policy::Limits& limits = counted.limits;
        if (limits.messages_per_connection != 0 && session.messages > limits.messages_per_connection) {
            return violate(counted.policy + ": too many messages on a session"), false;
        }
        if (opened && limits.connect_interval.count() != 0) {
            if (past.opened && now - *past.opened < limits.connect_interval) return violate(counted.policy + ": opened too early"), false;
            past.opened = now;
        }
        if (limits.bytes_per_second != 0) {
            if (past.owed_until && now < *past.owed_until) return violate(counted.policy + ": octets are owed"), false;
            // The engine counts exactly and starts at a whole millisecond, so a millisecond less is owed here.
            past.owed_until = now + Duration(static_cast<std::int64_t>(bytes * 1'000.0 / static_cast<double>(limits.bytes_per_second)));
        }
        past.rates.resize(limits.rates.size());
        for (std::size_t i = 0; i < limits.rates.size(); ++i) {
            if (!check_rate(limits.rates[i], past.rates[i], now)) return violate(counted.policy + ": rate exceeded"), false;
        }
    }
    return true;
}

// A token bucket keeps its word in every stretch of its interval; a fixed window in its windows.
bool Judge::check_rate(const policy::Rate& rate, Starts& starts, Instant now) const {
    const bool windows = rate.algorithm() == policy::RateAlgorithm::fixed_window;
    std::deque<Instant>& times = starts.times;
    if (windows && !times.empty() && now >= times.front() + rate.per()) times.clear();
    while (!windows && !times.empty() && now >= times.front() + rate.per()) times.pop_front();
    times.push_back(now);
    const double step = static_cast<double>(rate.per().count()) * 1.01 / rate.count();
    // What the bucket remembers of other limits puts it ahead of the pace by a hundredth at most, or nothing would have started.
    const double ahead = now < unsure_until_ ? static_cast<double>(rate.per().count()) / 100 : 0;
    starts.paced_ms = std::max(starts.paced_ms, static_cast<double>(to_ms(now)) + ahead) + step;
    return times.size() <= rate.count();
}

// ---- what should have started ----------------------------------------------------------------------------------

// As the documentation promises: a start each 1.01 of an even pace, and a hundredth of the interval ahead of it.
bool Judge::surely_has_room(const policy::Rate& rate, const Starts& starts, Instant now) {
    constexpr double rounding_ms = 2;
    if (rate.algorithm() == policy::RateAlgorithm::token_bucket) {
        return static_cast<double>(to_ms(now)) >= starts.paced_ms - static_cast<double>(rate.per().count()) / 100 + rounding_ms;
    }
    return starts.times.size() < rate.count() || now >= starts.times.front() + rate.per();
}

bool Judge::surely_has_room(const std::vector<Counted>& counted, Instant now) const {
    return std::all_of(counted.begin(), counted.end(), [&](const Counted& one) {
        const policy::Limits& limits = one.limits;
        const auto used = used_.find(one.bucket);
        if (limits.concurrency != 0 && used != used_.end() && used->second >= limits.concurrency) return false;
        const auto past = past_.find(one.bucket);
        if (past == past_.end()) return true;
        if (limits.connect_interval.count() != 0 && past->second.opened && now - *past->second.opened < limits.connect_interval) return false;
        if (limits.bytes_per_second != 0 && past->second.owed_until && now <= *past->second.owed_until + Duration(1)) return false;
        for (std::size_t i = 0; i < limits.rates.size() && i < past->second.rates.size(); ++i) {
            if (!surely_has_room(limits.rates[i], past->second.rates[i], now)) return false;
        }
        return true;
    });
}

std::vector<std::string> Judge::locals(const Entry& entry, bool ipv6) const {
    std::vector<std::string> found = ipv6 ? options_.sources6 : options_.sources4;
    if (const queue::LocalPool* const pool = pool_of(entry.admit)) {
        found.clear();
        for (const queue::LocalPool::Source& source : pool->sources) {
            if ((source.address.find(':') != std::string::npos) == ipv6) found.push_back(source.address);
        }
        return found;
    }
    if (found.empty()) found.emplace_back();
    return found;
}

// Wherever it would be called from.
bool Judge::may_start(const Entry& entry, const queue::RoutePtr& route, std::uint32_t candidate, Instant now) const {
    Session session;
    session.served = entry.admit;
    session.route = route;
    session.candidate = candidate;
    const std::vector<std::string> sources = locals(entry, route->candidates[candidate].remote.starts_with('['));
    return !sources.empty() && std::all_of(sources.begin(), sources.end(), [&](const std::string& source) {
        session.bind4 = session.bind6 = source;
        return surely_has_room(counted(session), now);
    });
}

// Only the best level is tried, as far as hosts are believed to be alive. Where one has failed, it must be possible over any: that it may be
// tried again, or was reached by others, wakes nobody by itself.
bool Judge::may_start(const Entry& entry, Instant now) const {
    const auto known = routes_.find(entry.admit.domain);
    if (known == routes_.end()) return false;
    const queue::RoutePtr& route = known->second;
    const std::vector<queue::Candidate>& candidates = route->candidates;
    const bool all_alive = std::none_of(candidates.begin(), candidates.end(), [&](const queue::Candidate& candidate) {
        return failed_.contains(candidate.remote);
    });
    std::optional<std::uint32_t> best;  // level
    for (std::uint32_t i = 0; i < candidates.size(); ++i) {
        if (locals(entry, candidates[i].remote.starts_with('[')).empty()) continue;
        if (all_alive && candidates[i].level != best.value_or(candidates[i].level)) break;
        best = candidates[i].level;
        const bool may = may_start(entry, route, i, now);
        if (may && all_alive) return true;
        if (!may && !all_alive) return false;
    }
    return !all_alive && best;
}

// Items of one lane wait for its head, so all of a domain, tenant, transport and priority must be able to start; attempts that are under way
// have an opinion of their own of where to go, and are passed over with their lane.
void Judge::check_idle(const std::set<std::string>& resolving, Instant now) {
    if (options_.disabled || now < unsure_until_ || !nothing_suspended() || !conditions_.empty()) return;
    using Lane = std::tuple<std::string, std::string, std::string, unsigned>;
    std::map<Lane, bool> lanes;
    std::map<std::string, bool> answers;  // of items that policies cannot tell apart
    for (const ItemId id : waiting_items_) {
        const Entry& entry = entries_.at(id);
        const queue::Admit& mail = entry.admit;
        if (mail.due > now || mail.held) continue;
        bool& all = lanes.try_emplace({mail.domain, mail.tenant, mail.transport, std::min<unsigned>(mail.priority, 7)}, true).first->second;
        if (!all) continue;
        if (entry.route != nullptr || resolving.contains(mail.domain)) {
            all = false;
            continue;
        }
        std::string kind = mail.domain + "|" + mail.tenant + "|" + mail.job + "|" + mail.transport + "|" + mail.sender_domain + "|" +
                           std::to_string(mail.priority) + "|" + std::to_string(mail.attempts);
        for (const mail::Mark& mark : mail.marks) kind += "|" + mark.field + "=" + mark.value;
        const auto [answer, is_new] = answers.try_emplace(std::move(kind), false);
        if (is_new) answer->second = may_start(entry, now);
        all = answer->second;
    }
    for (const auto& [lane, all] : lanes) {
        if (all) return violate("mail for " + std::get<0>(lane) + " of '" + std::get<1>(lane) + "' by '" + std::get<2>(lane) + "' waits although it may start");
    }
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
    for (const std::uint32_t candidate : event.unhealthy) failed_.insert(session->second.route->candidates[candidate].remote);
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
    if (entry.fate != Fate::queued || entry.admit.held == action.held) {
        violate("item " + action.item.text() + " cannot change its hold");
    }
    entry.admit.held = action.held;
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
    failed_.clear();
    unsure_until_ = {};
    last_session_ = 0;
    for (auto& [id, entry] : entries_) {
        if (entry.fate != Fate::queued) continue;
        if (entry.sending) ++cut_short_;
        waiting_items_.insert(id);
        entry.sending = entry.remove_asked = false;
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
