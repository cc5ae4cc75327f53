// What the world outside does: hosts, names, senders and operators.

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "sim/policy_maker.h"
#include "sim/world.h"

namespace sluice::sim {

using Verdict = queue::AttemptEnded::Verdict;

// ---- names -----------------------------------------------------------------------------------------------------

void World::answer_dns(const std::string& domain) {
    resolving_.erase(domain);
    DnsMood mood = healed_ ? DnsMood::fine : scenario_.domains.at(domain).dns;
    if (mood == DnsMood::flaky) mood = random_.chance(0.5) ? DnsMood::temporary : DnsMood::fine;
    switch (mood) {
        case DnsMood::temporary: return tell(queue::RouteResolved{domain, fail(Errc::dns_temporary, "SERVFAIL")});
        case DnsMood::no_domain: return tell(queue::RouteResolved{domain, fail(Errc::dns_no_domain, "NXDOMAIN")});
        case DnsMood::flaky:
        case DnsMood::fine: break;
    }
    const queue::RoutePtr route = route_to(domain);
    judge_.routed(route);
    tell(queue::RouteResolved{domain, route});
}

// Some hosts have an IPv6 address, which is the only one then; MX records change now and then.
queue::RoutePtr World::route_to(const std::string& domain) {
    const Domain& known = scenario_.domains.at(domain);
    auto route = std::make_shared<queue::Route>();
    route->key = domain;
    std::set<std::string> seen;
    const bool shortened = !healed_ && known.mx.size() > 1 && scenario_.reconfigured_per_hour > 0 && random_.chance(0.2);
    for (const auto& [host, level] : known.mx) {
        if (!seen.insert(host).second) continue;
        const std::string number = std::to_string(std::distance(scenario_.hosts.begin(), scenario_.hosts.find(host)) + 1);
        const bool ipv6 = crc32c(host) % 3 == 0;
        route->candidates.push_back({host, ipv6 ? "[2001:db8:1::" + number + "]:25" : "198.51.100." + number + ":25", level});
        route->mx_hash = crc32c(host, route->mx_hash);
        if (shortened) break;
    }
    route->expires = now_ + known.ttl;
    return route;
}

// ---- hosts -----------------------------------------------------------------------------------------------------

const std::string& World::host_of(const queue::Deliver& action, std::uint32_t candidate) const {
    return action.route->candidates[candidate].mx_host;
}

Mood World::mood_of(const std::string& host) const {
    return healed_ ? Mood::obedient : scenario_.hosts.at(host).mood;
}

void World::connect(const queue::Deliver& action) {
    std::vector<std::uint32_t> unhealthy;
    for (const std::uint32_t candidate : action.candidates) {
        const std::string& host = host_of(action, candidate);
        const Mood mood = mood_of(host);
        if (mood == Mood::dead) {
            unhealthy.push_back(candidate);
            continue;
        }
        if (mood == Mood::refuses_for_good) {
            return in_flight(Duration(5) + within(Duration(200)), [this, action, unhealthy] { give_up(action, true, unhealthy); });
        }
        const Duration took = Duration(2) + within(Duration(200));
        in_flight(took, [this, action, candidate, host] {
            lines_[action.session].host = host;
            const queue::SessionOpened event{action.session, candidate};
            judge_.opened(event);
            tell(event);
            transact(action, host, Duration(1));
        });
        return;
    }
    in_flight(Duration(30'000), [this, action, unhealthy] { give_up(action, false, unhealthy); });
}

// No candidate of the group could be used.
void World::give_up(const queue::Deliver& action, bool permanent, std::vector<std::uint32_t> unhealthy) {
    queue::AttemptEnded event;
    event.item = action.work.item;
    event.session = action.session;
    event.permanent = permanent;
    event.unhealthy = std::move(unhealthy);
    event.next = now_ + Duration(60'000) + within(Duration(900'000));
    Fate fate = Fate::queued;
    event.verdict = action.last_resort ? Verdict::deferred : Verdict::next_candidate;
    if (action.last_resort && permanent && action.permanent_so_far) {
        event.verdict = Verdict::done;
        fate = Fate::failed;
    }
    lines_[action.session].closing = true;
    hang_up(action.session, Duration(1'000));
    report(event, fate);
}

void World::transact(const queue::Deliver& action, const std::string& host, Duration from_now) {
    const Mood mood = mood_of(host);
    Duration took = from_now + Duration(10) + within(Duration(400));
    if (mood == Mood::tarpits) took += Duration(60'000) + within(Duration(180'000));
    if (mood == Mood::drops_idle && !action.open && random_.chance(0.1)) {
        // It had hung up before the message came: both facts cross on their way.
        in_flight(Duration(1), [this, session = action.session] {
            lines_.erase(session);
            judge_.closed(session);
            tell(queue::SessionClosed{session});
        });
        in_flight(Duration(2), [this, action] { end(action, Verdict::fresh_session, Fate::queued, false); });
        return;
    }
    in_flight(took, [this, action, host] { finish(action, host); });
}

void World::finish(const queue::Deliver& action, const std::string& host) {
    // The connection ended while the message was on its way to it.
    if (!lines_.contains(action.session)) return end(action, Verdict::fresh_session, Fate::queued, false);
    Line& line = lines_[action.session];
    ++line.messages;
    switch (mood_of(host)) {
        case Mood::closes_each: return end(action, Verdict::done, Fate::delivered, false);
        case Mood::greylists: {
            const auto [seen, is_new] = greylist_.try_emplace(action.work.item, now_);
            const bool early = is_new || now_ < seen->second + Duration(300'000);
            return early ? end(action, Verdict::deferred, Fate::queued, true)
                         : end(action, Verdict::done, Fate::delivered, true);
        }
        case Mood::throttles:
            if (line.messages <= scenario_.hosts.at(host).after) return end(action, Verdict::done, Fate::delivered, true);
            return end(action, action.last_resort ? Verdict::deferred : Verdict::next_candidate, Fate::queued, false);
        case Mood::rejects_some:
            if (random_.chance(0.2)) return end(action, Verdict::done, Fate::failed, true);
            if (random_.chance(0.25)) return end(action, Verdict::deferred, Fate::queued, random_.chance(0.8));
            return end(action, Verdict::done, Fate::delivered, true);
        case Mood::drops_idle:
            if (!action.open && random_.chance(0.3)) return end(action, Verdict::fresh_session, Fate::queued, false);
            return end(action, Verdict::done, Fate::delivered, true);
        case Mood::dead:  // died while the session was open
        case Mood::refuses_for_good:
            return end(action, action.last_resort ? Verdict::deferred : Verdict::next_candidate, Fate::queued, false);
        case Mood::obedient:
        case Mood::tarpits: return end(action, Verdict::done, Fate::delivered, true);
    }
}

void World::end(const queue::Deliver& action, Verdict verdict, Fate fate, bool reusable) {
    queue::AttemptEnded event;
    event.item = action.work.item;
    event.session = action.session;
    event.verdict = verdict;
    event.reusable = reusable;
    if (verdict == Verdict::deferred) {
        event.next = now_ + within(Duration(900'000));
        if (random_.chance(0.3)) event.pending = {static_cast<std::uint32_t>(random_.below(5))};
        event.delay_notified = random_.chance(0.1);
    }
    if (verdict != Verdict::done && random_.chance(0.05)) event.source_unusable = Duration(120'000);
    const auto line = lines_.find(action.session);
    if (!reusable && line != lines_.end()) {
        line->second.closing = true;
        hang_up(action.session, Duration(1'000));
    }
    const bool may_drop = reusable && mood_of(line->second.host) == Mood::drops_idle;
    const std::uint64_t uses = may_drop ? line->second.uses : 0;
    report(event, fate);
    if (!may_drop || !random_.chance(0.5)) return;
    in_flight(Duration(100) + within(Duration(4'000)), [this, session = action.session, uses] {
        const auto idle = lines_.find(session);
        if (idle == lines_.end() || idle->second.closing || idle->second.uses != uses) return;
        idle->second.closing = true;
        hang_up(session, Duration(0));
    });
}

void World::report(queue::AttemptEnded event, Fate fate) {
    judge_.ended(event, fate, now_);
    tell(std::move(event));
}

// The connection is reported closed a little later.
void World::hang_up(queue::SessionId session, Duration most) {
    in_flight(within(most), [this, session] {
        lines_.erase(session);
        judge_.closed(session);
        tell(queue::SessionClosed{session});
    });
}

// ---- people ----------------------------------------------------------------------------------------------------

void World::plan_workload() {
    for (const Stream& stream : scenario_.workload) {
        Instant at = start_;
        for (std::uint32_t i = 0; i < stream.items; ++i) {
            at += Duration(static_cast<std::int64_t>(2'000 / stream.per_second * random_.unit()));
            outside_.add(at, [this, &stream] { submit(stream); });
        }
    }
}

void World::plan_trouble(double per_hour, const Step& step) {
    const double hours = static_cast<double>(scenario_.faults_for.count()) / 3'600'000;
    for (double i = 1; i <= per_hour * hours; ++i) outside_.add(start_ + within(scenario_.faults_for), step);
}

void World::submit(const Stream& stream) {
    auto message = std::make_shared<mail::Message>();
    message->content.assign(200 + random_.below(2'000), 'x');
    queue::Admit admit;
    admit.id = ItemId{MessageId{++last_message_}, 0};
    admit.domain = stream.to[random_.below(stream.to.size())];
    admit.tenant = stream.tenant;
    admit.job = stream.job;
    admit.transport = stream.transport;
    admit.sender_domain = stream.sender_domain;
    if (!stream.list.empty()) admit.marks.push_back({"header.list-id", stream.list});
    admit.lifetime = stream.lifetime;
    admit.priority = stream.priority;
    admit.arrival = admit.due = now_;
    admit.size = static_cast<std::uint32_t>(message->size());
    admit.source_hash = static_cast<std::uint32_t>(random_.next());
    admit.fresh = std::move(message);
    if (stream.varied) vary(admit);
    if (scenario_.operator_per_hour > 0 && random_.chance(0.1)) admit.due += within(Duration(600'000));
    judge_.admitted(admit);
    tell(std::move(admit));
}

void World::vary(queue::Admit& admit) {
    const auto some = [this](const char* name) { return random_.chance(0.3) ? std::string() : name + std::to_string(random_.below(3)); };
    admit.job = some("job");
    admit.transport = some("transport");
    admit.sender_domain = some("sender");
    if (!admit.sender_domain.empty()) admit.sender_domain += ".test";
    admit.marks.clear();
    if (random_.chance(0.5)) admit.marks.push_back({"header.list-id", some("list")});
    if (random_.chance(0.5)) admit.marks.push_back({"notes.campaign", random_.chance(0.5) ? "a" : "b"});
}

queue::Selection World::random_selection() {
    queue::Selection which;
    const std::vector<ItemId> items = judge_.items();
    if (!items.empty() && random_.chance(0.6)) {
        which.item = items[random_.below(items.size())];
    } else if (random_.chance(0.9)) {
        auto domain = scenario_.domains.begin();
        std::advance(domain, random_.below(scenario_.domains.size()));
        which.domain = domain->first;
    }
    return which;
}

void World::operate() {
    if (random_.chance(0.4)) return intervene();
    const queue::Selection which = random_selection();
    switch (random_.below(4)) {
        case 0: return tell(queue::Hold{which});
        case 1: return tell(queue::Release{which});
        case 2: judge_.flushing(which, now_); return tell(queue::Flush{which});
        default: break;
    }
    judge_.removing(which);
    tell(queue::Remove{which});
}

// Adds, replaces or removes a condition or suspension.
void World::intervene() {
    if (healed_) return;
    const std::string id = std::to_string(random_.below(6));
    switch (random_.below(4)) {
        case 0: return tell(queue::RemoveSuspension{id, "operator", ""});
        case 1: return tell(queue::RemoveCondition{id, "operator", ""});
        case 2: {
            policy::Suspension suspension = random_suspension();
            suspension.id = id;
            return tell(queue::SetSuspension{std::move(suspension)});
        }
        default: break;
    }
    std::optional<policy::DynamicCondition> condition = random_condition();
    if (!condition) return;
    condition->id = id;
    tell(queue::SetCondition{std::move(*condition)});
}

std::string World::random_value(policy::Field field) {
    using policy::Field;
    const std::string number = std::to_string(1 + random_.below(8));
    switch (field) {
        case Field::tenantid: return random_.chance(0.2) ? "''" : "tenant" + std::to_string(random_.below(3));
        case Field::recipientdomain: return random_.chance(0.2) ? "'/[" + number + "5]/'" : "domain" + number + ".test";
        case Field::priority: return random_.chance(0.5) ? number : "'>=" + number + "'";
        case Field::localip: return random_.chance(0.3) ? "''" : "192.0.2." + number;
        case Field::remotemx: return random_.chance(0.3) ? "'/[" + number + "2]$/'" : "host" + number;
        case Field::grouping: return random_.chance(0.5) ? "host" + number : "'/h/'";
        default: return "";
    }
}

policy::Suspension World::random_suspension() {
    using policy::Field;
    std::string text = "{";
    for (const Field field : {Field::tenantid, Field::recipientdomain, Field::priority, Field::localip, Field::remotemx, Field::grouping}) {
        if (random_.chance(0.25)) text += std::string(policy::name_of(field)) + ": " + random_value(field) + ", ";
    }
    if (random_.chance(0.3)) text += "percent: " + std::to_string(1 + random_.below(99)) + ", ";
    if (random_.chance(0.2)) text += "cron: '*/" + std::to_string(2 + random_.below(9)) + " * * * *', ";
    if (random_.chance(0.2)) text += "new_connections_only: true, ";
    text += "ttl: " + std::to_string(1 + random_.below(600)) + "}";
    Problems problems;
    std::optional<policy::Suspension> suspension = policy::parse_suspension(text, "random", policy::PolicySet{}, problems);
    ASSERT(suspension);
    return *suspension;
}

// About one of the policies in force, if there is one.
std::optional<policy::DynamicCondition> World::random_condition() {
    if (options_.policies == nullptr || options_.policies->policies.empty()) return std::nullopt;
    const policy::Policy& policy = *options_.policies->policies[random_.below(options_.policies->policies.size())];
    std::string text = "{policy: '" + policy.name + "', if: {";
    for (const policy::Field field : policy.fields) {
        const std::string value = random_.chance(0.7) ? random_value(field) : "";
        if (!value.empty()) text += std::string(policy::name_of(field)) + ": " + value + ", ";
    }
    const char* const classes[] = {"ordinary", "warm_up", "back_off"};
    text += std::string("}, class: ") + classes[random_.below(3)] + ", then: {concurrency: " + std::to_string(random_.below(6));
    if (random_.chance(0.4)) text += ", rate: " + std::to_string(1 + random_.below(20)) + "/" + std::to_string(1 + random_.below(30));
    if (random_.chance(0.2)) text += ", messages_per_connection: " + std::to_string(1 + random_.below(9));
    text += "}, ttl: " + std::to_string(1 + random_.below(900)) + "}";
    Problems problems;
    std::optional<policy::DynamicCondition> condition = policy::parse_condition(text, "random", *options_.policies, problems);
    ASSERT(condition);
    return condition;
}

void World::lift_everything() {
    std::vector<std::string> ids;
    for (const auto& [id, suspension] : judge_.suspensions()) ids.push_back(id);
    for (const std::string& id : ids) tell(queue::RemoveSuspension{id, "operator", ""});
    ids.clear();
    for (const auto& [id, condition] : judge_.conditions()) ids.push_back(id);
    for (const std::string& id : ids) tell(queue::RemoveCondition{id, "operator", ""});
}

// The same counters with other limits.
policy::PolicySetPtr World::tightened(const policy::PolicySetPtr& set) {
    if (set == nullptr) return nullptr;
    auto changed = std::make_shared<policy::PolicySet>(*set);
    changed->text.clear();
    for (policy::PolicyPtr& policy : changed->policies) {
        auto copy = std::make_shared<policy::Policy>(*policy);
        if (copy->fallback && copy->fallback->concurrency != 0) copy->fallback->concurrency = static_cast<std::uint32_t>(1 + random_.below(6));
        policy = std::move(copy);
    }
    return changed;
}

void World::reconfigure() {
    if (healed_) return;
    options_.disabled = random_.chance(0.1);
    options_.concurrency_max = static_cast<std::uint32_t>(1 + random_.below(40));
    options_.destination_concurrency = static_cast<std::uint32_t>(1 + random_.below(12));
    options_.session_messages_max = static_cast<std::uint32_t>(1 + random_.below(30));
    options_.lifetime = Duration(3'600'000 + random_.below(5 * 24 * 3'600'000ULL));
    if (random_.chance(0.3)) options_.sources4 = {"192.0.2.7", "192.0.2.8"};
    if (random_.chance(0.3)) options_.transports = random_transports(random_);
    if (random_.chance(0.2)) options_.policies = nullptr;
    if (random_.chance(0.3)) options_.policies = random_policies(random_);
    if (random_.chance(0.3)) options_.policies = tightened(options_.policies);
    if (random_.chance(0.2)) options_.suspensions = nullptr;
    if (random_.chance(0.2)) {
        policy::Suspension suspension = random_suspension();
        suspension.ttl = Duration(0);
        auto file = std::make_shared<policy::SuspensionFile>();
        file->suspensions.push_back(std::move(suspension));
        options_.suspensions = std::move(file);
    }
    judge_.configured(options_, now_);
    tell(queue::Configure{for_core()});
}

}  // namespace sluice::sim
