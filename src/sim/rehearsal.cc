#include "sim/rehearsal.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"
#include "delivery/observing.h"
#include "delivery/retry.h"
#include "queue/remote.h"

namespace sluice::sim {
namespace {

using Verdict = queue::AttemptEnded::Verdict;
using delivery::Fate;
using delivery::Stage;

constexpr Duration dns_takes{20};
constexpr Duration closing_takes{30};
constexpr Duration look_at_least{100};
constexpr std::int64_t looks = 8'640;   // a run has about so many: every ten seconds of a day
constexpr std::int64_t stretches = 24;  // an hour of a day
constexpr std::size_t buckets_shown = 20;

std::uint64_t number_of(ItemId item) { return item.message.value; }

}  // namespace

Rehearsal::Rehearsal(const Traffic& traffic, config::SettingsPtr settings, const queue::Options& options, std::uint64_t seed)
    : traffic_(traffic),
      settings_(std::move(settings)),
      seed_(seed),
      core_(options),
      receivers_(traffic, seed),
      arrivals_(traffic, seed),
      waiting_(options.policies),
      looks_(seed ^ 0x10075),
      now_(traffic.begin),
      end_(traffic.begin + traffic.lasts + traffic.drains),
      look_every_(std::max(traffic.lasts / looks, look_at_least)),
      draw_every_(traffic.lasts / stretches),
      queued_(traffic.tenants.size(), 0) {
    for (std::uint32_t domain = 0; domain < traffic.domains.size(); ++domain) domains_.emplace(traffic.domains[domain], domain);
    mail_.reserve(traffic.messages());
    report_.all.name = "all";
    for (const std::string& tenant : traffic.tenants) report_.tenants.emplace_back().name = tenant;
    for (const Receiver& receiver : traffic.receivers) report_.receivers.emplace_back().name = receiver.name;
    look_at_ = looked_at_ = now_;
    draw_at_ = now_ + draw_every_;
}

Rehearsed Rehearsal::run() {
    while (step()) {
    }
    return result();
}

// The next thing to happen; false when nothing will, or time is over. Looking comes first, so that it sees what was.
bool Rehearsal::step() {
    const Instant mail = arrivals_.next(), flight = agenda_.next(), timer = core_.next_timer();
    const Instant next = std::min({mail, flight, timer});
    if (mail == Instant::max() && (queued_all_ == 0 || next > end_)) return false;
    if (std::min(look_at_, draw_at_) <= next) {
        if (draw_at_ < look_at_) draw();
        else look();
        return true;
    }
    now_ = std::max(now_, next);
    if (flight == next) take(agenda_.take());
    else if (mail == next) admit();
    else tell(queue::Tick{});
    return true;
}

void Rehearsal::admit() {
    const Arrival arrival = arrivals_.take();
    mail_.push_back({arrival.tenant, arrival.domain});
    queue::Admit event;
    event.id = ItemId{MessageId{mail_.size()}, 0};
    event.domain = traffic_.domains[arrival.domain];
    event.tenant = traffic_.tenants[arrival.tenant];
    if (traffic_.recorded.empty()) {
        const Source& source = traffic_.sources[arrival.source];
        event.job = source.job;
        event.transport = source.transport;
        event.sender_domain = source.sender_domain;
        event.marks = source.marks;
    }
    event.arrival = event.due = now_;
    event.size = arrival.size;
    event.priority = arrival.priority;
    event.source_hash = static_cast<std::uint32_t>(Random(seed_ ^ mail_.size()).next());
    for (Tally* const tally : {&report_.all, &report_.tenants[arrival.tenant], &report_.receivers[traffic_.receiver_of[arrival.domain]]}) {
        ++tally->accepted;
    }
    ++shape_.accepted;
    ++queued_[arrival.tenant];
    report_.queued_peak = std::max(report_.queued_peak, ++queued_all_);
    tell(std::move(event));
}

void Rehearsal::tell(queue::Event event) {
    actions_.clear();
    core_.handle(std::move(event), now_, actions_);
    for (queue::Action& action : actions_) carry_out(action);
}

// Nothing here tells the core anything at once: all of it takes time.
void Rehearsal::carry_out(queue::Action& action) {
    if (auto* const deliver = std::get_if<queue::Deliver>(&action)) return begin(*deliver);
    if (const auto* const resolve = std::get_if<queue::Resolve>(&action)) {
        return agenda_.add(now_ + dns_takes, {Kind::resolved, domains_.at(resolve->key)});
    }
    if (const auto* const shut = std::get_if<queue::Close>(&action)) return close(shut->session, closing_takes);
    if (auto* const conclude = std::get_if<queue::Conclude>(&action)) {
        const std::uint64_t message = number_of(conclude->work.item);
        conclusions_[message] = {std::move(conclude->work), std::move(conclude->how), delivery::Verdict::of_error(Stage::route, conclude->error)};
        agenda_.add(now_ + Duration(1), {Kind::concluded, message});
    }
}

void Rehearsal::take(const Step& step) {
    switch (step.kind) {
        case Kind::resolved: {
            const auto domain = static_cast<std::uint32_t>(step.what);
            return tell(queue::RouteResolved{traffic_.domains[domain], receivers_.route(domain, now_)});
        }
        case Kind::connected: {
            const Line& line = lines_.at(step.what);
            tell(queue::SessionOpened{step.what, line.candidates[line.next]});
            return send(step.what, lines_.at(step.what));
        }
        case Kind::turned_away: return turned_away(step.what);
        case Kind::answered: return answered(step.what);
        case Kind::closed: {
            receivers_.close(lines_.at(step.what).link);
            lines_.erase(step.what);
            return tell(queue::SessionClosed{step.what});
        }
        case Kind::concluded: return concluded(step.what);
    }
}

// ---- attempts --------------------------------------------------------------------------------------------------

void Rehearsal::begin(queue::Deliver& action) {
    ++report_.attempts;
    Line& line = lines_[action.session];
    line.route = std::move(action.route);
    line.work = std::move(action.work);
    line.how = std::move(action.how);
    line.open = action.open;
    line.last_resort = action.last_resort;
    line.permanent = action.permanent_so_far;
    line.link.domain = mail_[number_of(line.work.item) - 1].domain;
    line.unhealthy.clear();
    if (!action.open) return send(action.session, line);
    report_.sessions_peak = std::max<std::uint64_t>(report_.sessions_peak, lines_.size());
    line.candidates = std::move(action.candidates);
    line.bind4 = std::move(action.bind);
    line.bind6 = std::move(action.bind6);
    knock(action.session, line);
}

void Rehearsal::knock(queue::SessionId session, Line& line) {
    const std::uint32_t candidate = line.candidates[line.next];
    const bool ipv6 = queue::family_of(line.route->candidates[candidate].remote) == queue::Family::ipv6;
    line.link.address = receivers_.address(line.link.domain, candidate);
    line.link.source = receivers_.source(ipv6 ? line.bind6 : line.bind4);
    const Receivers::Outcome outcome =
        receivers_.connect(line.link, number_of(line.work.item), line.work.attempts, now_, settings_->outbound);
    line.answer = outcome.answer;
    if (outcome.answer == nullptr) ++report_.connections;
    agenda_.add(now_ + outcome.after, {outcome.answer == nullptr ? Kind::connected : Kind::turned_away, session});
}

// The next candidate that the core allowed, unless the answer decides; none left: the attempt ends (as OutboundSession does it).
void Rehearsal::turned_away(queue::SessionId session) {
    Line& line = lines_.at(session);
    const delivery::Ruling ruling = delivery::rule(*line.answer, {.more_hosts = true});
    const bool of_host = ruling.fate == Fate::next_candidate;
    if (of_host) {
        line.unhealthy.push_back(line.candidates[line.next]);
        line.permanent = line.permanent && ruling.host_refused_for_good;
    }
    if (of_host && line.next + 1 < line.candidates.size()) {
        ++line.next;
        return knock(session, line);
    }
    answered(session);
}

void Rehearsal::send(queue::SessionId session, Line& line) {
    const Receivers::Outcome outcome =
        receivers_.transact(line.link, number_of(line.work.item), line.work.attempts, now_, settings_->outbound);
    line.answer = outcome.answer;
    agenda_.add(now_ + outcome.after, {Kind::answered, session});
}

void Rehearsal::answered(queue::SessionId session) {
    Line& line = lines_.at(session);
    queue::AttemptEnded event;
    event.session = session;
    event.unhealthy = std::move(line.unhealthy);
    event.delivered = line.answer == nullptr;
    if (line.answer != nullptr && settings_->policies != nullptr && settings_->policies->watches_failures()) {
        const bool turned_away = line.open && line.answer->stage < Stage::mail;
        std::optional<policy::Observation> seen = delivery::observation_of(*line.answer);
        if (seen) event.failures.push_back({turned_away ? line.candidates[line.next] : queue::Failed::connected, std::move(*seen)});
    }
    const bool reused = !line.open && line.answer != nullptr && line.answer->stage == Stage::mail;
    const delivery::Standing standing{.more_hosts = !line.last_resort, .permanent_so_far = line.permanent, .reused_untouched = reused};
    end(std::move(event), line.work, line.how.get(), line.answer, standing, line.permanent);
}

void Rehearsal::concluded(std::uint64_t message) {
    const Conclusion conclusion = std::move(conclusions_.at(message));
    conclusions_.erase(message);
    end({}, conclusion.work, conclusion.how.get(), &conclusion.verdict, {}, true);
}

// What it means is for the engine's own rules to say.
void Rehearsal::end(
    queue::AttemptEnded&& event, const queue::Work& work, const policy::DeliverySettings* how, const delivery::Verdict* answer,
    const delivery::Standing& standing, bool permanent
) {
    delivery::Ruling ruling{.fate = Fate::delivered};
    if (answer != nullptr) ruling = delivery::rule(*answer, standing);
    const Instant arrival = work.arrival;
    event.item = work.item;
    event.reusable = event.session != 0 && !ruling.session_spent;
    if (ruling.fate == Fate::deferred) {
        event.verdict = Verdict::deferred;
        const std::optional<Instant> next = retry(work, how);
        if (next) event.next = *next;
        else ruling.fate = Fate::expired;
    }
    if (ruling.fate == Fate::next_candidate) event.verdict = Verdict::next_candidate;
    if (ruling.fate == Fate::fresh_session) event.verdict = Verdict::fresh_session;
    if (ruling.fate == Fate::expired) event.verdict = Verdict::done;
    event.permanent = permanent && ruling.host_refused_for_good;
    count(number_of(work.item), ruling.fate, arrival);
    if (event.session != 0 && !event.reusable) close(event.session, closing_takes);
    tell(std::move(event));
}

void Rehearsal::close(queue::SessionId session, Duration after) { agenda_.add(now_ + after, {Kind::closed, session}); }

std::optional<Instant> Rehearsal::retry(const queue::Work& work, const policy::DeliverySettings* how) {
    Random random(Random(seed_ ^ number_of(work.item) * 0x9E3779B97F4A7C15ULL ^ work.attempts).next());
    const auto next = delivery::next_attempt(settings_->outbound, how, work.attempts, work.arrival, now_, random);
    return next ? std::optional(next->when) : std::nullopt;
}

// ---- books -----------------------------------------------------------------------------------------------------

void Rehearsal::count(std::uint64_t message, Fate fate, Instant arrival) {
    const Mail mail = mail_[message - 1];
    const bool decided = fate == Fate::delivered || fate == Fate::failed || fate == Fate::expired;
    for (Tally* const tally : {&report_.all, &report_.tenants[mail.tenant], &report_.receivers[traffic_.receiver_of[mail.domain]]}) {
        if (fate == Fate::deferred) ++tally->deferrals;
        if (fate == Fate::failed) ++tally->bounced;
        if (fate == Fate::expired) ++tally->expired;
        if (fate != Fate::delivered) continue;
        ++tally->delivered;
        tally->latency.add(now_ - arrival);
    }
    if (fate == Fate::deferred) ++shape_.deferrals;
    if (decided) {
        --queued_[mail.tenant];
        --queued_all_;
    }
    if (fate != Fate::delivered) return;
    ++shape_.delivered;
    const std::int64_t minute = (now_ - traffic_.begin).count() / 60'000;
    if (std::exchange(minute_, minute) != minute) in_minute_ = 0;
    report_.minute_peak = std::max(report_.minute_peak, ++in_minute_);
}

// At moments that no pattern of the traffic can follow.
void Rehearsal::look() {
    waiting_.look(core_, look_at_ - looked_at_);
    looked_at_ = look_at_;
    look_at_ += look_every_ / 2 + Duration(static_cast<std::int64_t>(looks_.below(static_cast<std::uint64_t>(look_every_.count()))));
}

void Rehearsal::draw() {
    const queue::Stats stats = core_.stats();
    shape_.at = draw_at_ - traffic_.begin;
    shape_.ready = stats.ready;
    shape_.scheduled = stats.scheduled;
    shape_.sending = stats.sending;
    shape_.sessions = stats.sessions;
    shape_.queued = queued_;
    report_.shapes.push_back(std::exchange(shape_, {}));
    draw_at_ += draw_every_;
}

Rehearsed Rehearsal::result() {
    if (shape_.accepted + shape_.delivered + shape_.deferrals > 0) {
        draw_at_ = now_;
        draw();
    }
    report_.seed = seed_;
    report_.lasted = now_ - traffic_.begin;
    report_.seen = receivers_.seen();
    report_.policies = waiting_.policies();
    report_.buckets = waiting_.buckets(buckets_shown);
    return std::move(report_);
}

}  // namespace sluice::sim
