// The judge's own books of what policies and suspensions allow, and of what should have started.

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "queue/remote.h"
#include "sim/judge.h"

namespace sluice::sim {

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
    std::string ip(queue::ip_of(candidate.remote));
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
    if (rate.algorithm() == policy::RateAlgorithm::fixed_window) return check_windows(rate, starts, now);
    std::deque<Instant>& times = starts.times;
    while (!times.empty() && now >= times.front() + rate.per()) times.pop_front();
    times.push_back(now);
    const double step = static_cast<double>(rate.per().count()) * 1.01 / rate.count();
    // What the bucket remembers of other limits puts it ahead of the pace by a hundredth at most, or nothing would have started.
    const double ahead = now < unsure_until_ ? static_cast<double>(rate.per().count()) / 100 : 0;
    starts.paced_ms = std::max(starts.paced_ms, static_cast<double>(to_ms(now)) + ahead) + step;
    return times.size() <= rate.count();
}

// The word is kept if it is in one of the windows that are possible.
bool Judge::check_windows(const policy::Rate& rate, Starts& starts, Instant now) const {
    std::vector<Window>& windows = starts.windows;
    const bool is_first = windows.empty();
    if (is_first && now < unsure_until_) starts.from_before = Window{now, 0};
    bool begins_one = is_first;
    for (Window& window : windows) {
        if (now >= window.begin + rate.per()) window = {now, 0};
        ++window.used;
    }
    std::erase_if(windows, [&](const Window& window) { return window.used > rate.count(); });
    if (std::optional<Window>& before = starts.from_before) {
        begins_one = true;  // it may have ended just now
        const bool is_over = now >= before->begin + rate.per() || ++before->used > rate.count();
        if (is_over) before.reset();
    }
    if (begins_one) windows.push_back({now, 1});
    return !windows.empty();
}

// ---- what should have started ----------------------------------------------------------------------------------

// As the documentation promises: a start each 1.01 of an even pace, and a hundredth of the interval ahead of it.
bool Judge::surely_has_room(const policy::Rate& rate, const Starts& starts, Instant now) {
    constexpr double rounding_ms = 2;
    if (rate.algorithm() == policy::RateAlgorithm::token_bucket) {
        return static_cast<double>(to_ms(now)) >= starts.paced_ms - static_cast<double>(rate.per().count()) / 100 + rounding_ms;
    }
    return std::all_of(starts.windows.begin(), starts.windows.end(),
                       [&](const Window& window) { return window.used < rate.count() || now >= window.begin + rate.per(); });
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

// What the first bucket says that names a transport. Those that count by the local address are not asked: it is not known before.
std::string Judge::transport_for(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const {
    if (options_.policies == nullptr) return admit.transport;
    Session session;
    session.served = admit;
    session.route = route;
    session.candidate = candidate;
    for (const policy::PolicyPtr& policy : options_.policies->policies) {
        if (policy->field_set.has(policy::Field::localip)) continue;
        std::vector<std::string> values;
        for (const policy::Field field : policy->fields) values.push_back(value_of(field, session));
        policy::FieldTexts texts;
        for (std::size_t i = 0; i < values.size(); ++i) texts.set(policy->fields[i], values[i]);
        texts = policy::in_groups(*policy, texts);
        const std::string& transport = limits_of(*policy, texts).transport;
        if (!transport.empty()) return transport;
        if (policy->limits_of(texts).stop) break;
    }
    return admit.transport;
}

std::vector<std::string> Judge::locals(const Entry& entry, const queue::RoutePtr& route, std::uint32_t candidate) const {
    const bool ipv6 = route->candidates[candidate].remote.starts_with('[');
    std::vector<std::string> found = ipv6 ? options_.sources6 : options_.sources4;
    if (const queue::LocalPool* const pool = pool_for(entry.admit, route, candidate)) {
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
    const std::vector<std::string> sources = locals(entry, route, candidate);
    return !sources.empty() && std::all_of(sources.begin(), sources.end(), [&](const std::string& source) {
        session.bind4 = session.bind6 = source;
        return surely_has_room(counted(session), now);
    });
}

// Over the best level of the hosts that can be reached, or else of those that could not.
bool Judge::may_start(const Entry& entry, Instant now) const {
    const auto known = routes_.find(entry.admit.domain);
    if (known == routes_.end()) return false;
    const queue::RoutePtr& route = known->second;
    using Rank = std::pair<bool, std::uint32_t>;  // avoided, level
    std::optional<Rank> best;
    bool may = false;
    for (std::uint32_t i = 0; i < route->candidates.size(); ++i) {
        const queue::Candidate& candidate = route->candidates[i];
        if (locals(entry, route, i).empty()) continue;
        const auto mark = avoided_.find(candidate.remote);
        const Rank rank{mark != avoided_.end() && now < mark->second, candidate.level};
        if (best && rank > *best) continue;
        if (!best || rank < *best) may = false;
        best = rank;
        may = may || may_start(entry, route, i, now);
    }
    return may;
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

}  // namespace sluice::sim
