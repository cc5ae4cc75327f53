#include "sim/receivers.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/crc32c.h"

namespace sluice::sim {
namespace {

using delivery::Stage;

const delivery::Verdict no_answer{Stage::connect, 0, Errc::timed_out, {}, "no answer"};
const delivery::Verdict connection_refused{Stage::connect, 0, Errc::refused, {}, "connection refused"};
const delivery::Verdict too_slow{Stage::dot, 0, Errc::timed_out, {}, "no answer"};

std::string replaced(std::string text, const std::string& what, const std::string& by) {
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) text.replace(at, what.size(), by);
    return text;
}

std::string host_for(const std::string& pattern, const std::string& domain) {
    std::string label = domain;
    std::replace(label.begin(), label.end(), '.', '-');
    return replaced(replaced(pattern, "{domain}", domain), "{label}", label);
}

}  // namespace

Receivers::Receivers(const Traffic& traffic, std::uint64_t seed)
    : traffic_(traffic), seed_(seed), busy_until_ms_(traffic.receivers.size(), 0), seen_(traffic.receivers.size()) {
    for (std::uint32_t domain = 0; domain < traffic.domains.size(); ++domain) sites_.push_back(make_site(domain));
}

Receivers::Site Receivers::make_site(std::uint32_t domain) {
    const Receiver& receiver = traffic_.receivers[traffic_.receiver_of[domain]];
    Site site;
    site.route.key = traffic_.domains[domain];
    for (const auto& [pattern, level] : receiver.mx) add_host(site, receiver, host_for(pattern, traffic_.domains[domain]), level);
    return site;
}

void Receivers::add_host(Site& site, const Receiver& receiver, const std::string& host, std::uint32_t level) {
    std::vector<std::string>& addresses = host_addresses_[host];
    if (addresses.empty()) addresses = receiver.addresses;
    while (addresses.empty() || (receiver.addresses.empty() && addresses.size() < receiver.address_count)) {
        ++made_up_;
        addresses.push_back("10." + std::to_string(made_up_ >> 16 & 255) + "." + std::to_string(made_up_ >> 8 & 255) + "." +
                            std::to_string(made_up_ & 255));
    }
    for (const std::string& address : addresses) {
        const bool ipv6 = address.find(':') != std::string::npos;
        site.route.candidates.push_back({host, ipv6 ? "[" + address + "]:25" : address + ":25", level});
        site.route.mx_hash = crc32c(address, site.route.mx_hash);
        const auto number = static_cast<std::uint32_t>(address_numbers_.size());
        site.addresses.push_back(address_numbers_.try_emplace(host + " " + address, number).first->second);
    }
}

queue::RoutePtr Receivers::route(std::uint32_t domain, Instant now) {
    auto route = std::make_shared<queue::Route>(sites_[domain].route);
    route->expires = now + traffic_.receivers[traffic_.receiver_of[domain]].ttl;
    return route;
}

std::uint32_t Receivers::source(const std::string& bind) {
    return sources_.try_emplace(bind, static_cast<std::uint32_t>(sources_.size())).first->second;
}

// What is left to chance is drawn anew for each purpose, but never depends on what happened before.
Random Receivers::chance(std::uint64_t message, std::uint64_t purpose) const {
    Random mixed(seed_ ^ message * 0x9E3779B97F4A7C15ULL ^ purpose * 0xC2B2AE3D27D4EB4FULL);
    return Random(mixed.next());
}

Duration Receivers::within(Span span, Random& random) {
    const double seconds = span.least + (span.most - span.least) * random.unit();
    return Duration(std::max<std::int64_t>(std::llround(seconds * 1'000), 1));
}

Receivers::Outcome Receivers::connect(
    Link& link, std::uint64_t message, std::uint32_t attempts, Instant now, const config::OutboundSettings& patience
) {
    const std::uint32_t number = receiver_of(link);
    const Behaviour& behaviour = traffic_.receivers[number].behaviour(now - traffic_.begin);
    Seen& seen = seen_[number];
    Random random = chance(message, std::uint64_t{attempts} << 8 | 1);
    if (behaviour.unreachable) {
        ++seen.refused_connections;
        ++seen.answers["no connection"];
        return {patience.connect_timeout, &no_answer};
    }
    const Duration took = within(behaviour.connect, random);
    if (behaviour.sessions_max != 0 && seen.sessions >= behaviour.sessions_max) {
        ++seen.refused_connections;
        ++seen.answers["connection refused"];
        return {took, &connection_refused};
    }
    if (const ReplyRule* const rule = answer(behaviour, true, link, message, attempts, now)) {
        ++seen.refused_connections;
        const bool silent = rule->answer.code == 0 && rule->answer.error == Errc::timed_out;
        return {silent ? patience.greeting_timeout : took, &rule->answer};
    }
    ++seen.connections;
    count(link, 1);
    link.counted = true;
    seen.sessions_peak = std::max(seen.sessions_peak, seen.sessions);
    return {took, nullptr};
}

Receivers::Outcome Receivers::transact(
    Link& link, std::uint64_t message, std::uint32_t attempts, Instant now, const config::OutboundSettings& patience
) {
    const std::uint32_t number = receiver_of(link);
    const Behaviour& behaviour = traffic_.receivers[number].behaviour(now - traffic_.begin);
    Seen& seen = seen_[number];
    Random random = chance(message, std::uint64_t{attempts} << 8 | 2);
    const Duration took = within(behaviour.message, random);
    if (behaviour.unreachable) {
        ++seen.answers["no answer"];
        return {patience.mail_timeout, &too_slow};
    }
    if (const ReplyRule* const rule = answer(behaviour, false, link, message, attempts, now)) {
        const config::Milliseconds config::OutboundSettings::* const timeout = delivery::facts_of(rule->answer.stage).timeout;
        const bool silent = rule->answer.code == 0 && rule->answer.error == Errc::timed_out;
        return {silent && timeout != nullptr ? patience.*timeout : took, &rule->answer};
    }
    Duration after = took;
    if (behaviour.messages_per_second > 0) {
        double& busy = busy_until_ms_[number];
        const auto now_ms = static_cast<double>((now - traffic_.begin).count());
        busy = std::max(busy, now_ms) + 1'000 / behaviour.messages_per_second;
        after += Duration(static_cast<std::int64_t>(busy - now_ms));
        if (after > patience.dot_timeout) {
            ++seen.answers["no answer"];
            return {patience.dot_timeout, &too_slow};
        }
    }
    ++link.messages;
    ++seen.messages;
    const std::int64_t minute = (now - traffic_.begin).count() / 60'000;
    if (std::exchange(seen.minute, minute) != minute) seen.in_minute = 0;
    seen.minute_peak = std::max(seen.minute_peak, ++seen.in_minute);
    return {after, nullptr};
}

void Receivers::close(Link& link) {
    if (std::exchange(link.counted, false)) count(link, -1);
}

// ---- rules -----------------------------------------------------------------------------------------------------

std::uint64_t Receivers::scope(const ReplyRule& rule, const Link& link) const {
    const std::uint64_t number = rule.per == ReplyRule::Per::source ? link.source : rule.per == ReplyRule::Per::address ? link.address : 0;
    return std::uint64_t{rule.id} << 32 | number;
}

std::uint32_t& Receivers::open(ReplyRule::Per per, const Link& link) {
    const std::uint64_t number = per == ReplyRule::Per::source ? link.source : link.address;
    return open_[std::uint64_t{receiver_of(link)} << 40 | static_cast<std::uint64_t>(per) << 36 | number];
}

void Receivers::count(const Link& link, std::int32_t by) {
    const auto delta = static_cast<std::uint32_t>(by);
    seen_[receiver_of(link)].sessions += delta;
    open(ReplyRule::Per::source, link) += delta;
    open(ReplyRule::Per::address, link) += delta;
}

const ReplyRule* Receivers::answer(
    const Behaviour& behaviour, bool connecting, Link& link, std::uint64_t message, std::uint32_t attempts, Instant now
) {
    for (const ReplyRule& rule : behaviour.replies) {
        if ((rule.answer.stage == Stage::greeting) != connecting) continue;
        if (!applies(rule, link, message, attempts, now)) continue;
        if (rule.block_for > Duration::zero()) {
            Counter& counter = counters_[scope(rule, link)];
            if (counter.blocked_until <= now) counter.blocked_until = now + rule.block_for;
        }
        ++seen_[receiver_of(link)].answers[rule.text];
        return &rule;
    }
    return nullptr;
}

bool Receivers::applies(const ReplyRule& rule, const Link& link, std::uint64_t message, std::uint32_t attempts, Instant now) {
    if (rule.block_for > Duration::zero() && counters_[scope(rule, link)].blocked_until > now) return true;
    if (rule.share < 1) {
        // Who is refused for good is refused every time.
        const std::uint64_t again = rule.answer.code >= 500 ? 0 : attempts + 1;
        if (!chance(message, (again << 20 | rule.id) << 8 | 3).chance(rule.share)) return false;
    }
    switch (rule.when) {
        case ReplyRule::When::share: return true;
        case ReplyRule::When::sessions:
            return (rule.per == ReplyRule::Per::receiver ? seen_[receiver_of(link)].sessions : open(rule.per, link)) >= rule.count;
        case ReplyRule::When::session_messages: return link.messages >= rule.count;
        case ReplyRule::When::rate: return is_over_rate(rule, counters_[scope(rule, link)], now);
        case ReplyRule::When::greylist: {
            const auto [seen, is_new] = first_seen_.try_emplace(message, now);
            if (is_new || now < seen->second + rule.wait) return true;
            first_seen_.erase(seen);
            return false;
        }
    }
    return false;
}

// Counts those that it lets through.
bool Receivers::is_over_rate(const ReplyRule& rule, Counter& counter, Instant now) {
    while (!counter.times.empty() && now >= counter.times.front() + rule.in) counter.times.pop_front();
    if (counter.times.size() >= rule.count) return true;
    counter.times.push_back(now);
    return false;
}

}  // namespace sluice::sim
