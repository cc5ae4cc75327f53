#include "sim/world.h"

#include <algorithm>

namespace sluice::sim {
namespace {

constexpr Duration drained_within{7 * 24 * 3'600'000LL};
constexpr std::uint64_t books_checked_every = 64;  // events
constexpr std::uint16_t attempts_max = 60;
constexpr std::uint64_t idleness_checked_every = 8;

}  // namespace

World::World(Scenario scenario, std::uint64_t seed, Fault fault)
    : scenario_(std::move(scenario)),
      seed_(seed),
      random_(seed * 2 + 1),
      fault_(fault),
      options_(scenario_.core),
      judge_(options_),
      start_(instant_from_ms(1'795'000'000'000)),
      now_(start_),
      tick_(Instant::max()) {
    options_.seed = seed;
    core_ = std::make_unique<queue::Core>(for_core());
}

queue::Options World::for_core() const {
    queue::Options options = options_;
    options.policies = with_fault(options_.policies, fault_);
    if (seed_ % 4 == 0) options.lanes_at_once = static_cast<std::uint32_t>(1 + seed_ % 7);
    return options;
}

Report World::run() {
    plan_workload();
    plan_trouble(scenario_.operator_per_hour, [this] { operate(); });
    plan_trouble(scenario_.reconfigured_per_hour, [this] { reconfigure(); });
    plan_trouble(scenario_.crashes_per_hour, [this] { crash(); });
    outside_.add(start_ + scenario_.faults_for, [this] { heal(); });
    while (!judge_.violation() && step()) {
    }
    Report report;
    report.events = events_;
    report.attempts = attempts_;
    report.delivered = judge_.count(Fate::delivered);
    report.failed = judge_.count(Fate::failed);
    report.removed = judge_.count(Fate::removed);
    report.passed_over = judge_.passed_over();
    report.lasted = now_ - start_;
    if (!judge_.violation()) check_expectations(report);
    report.violation = judge_.violation();
    return report;
}

// The next thing to happen, whoever it comes from; false when nothing will ever happen again.
bool World::step() {
    Agenda<Step>& agenda = flights_.empty() || outside_.next() <= flights_.next() ? outside_ : flights_;
    const Instant next = agenda.next();
    if (next == Instant::max() && tick_ == Instant::max()) return false;
    now_ = std::max(now_, std::min(next, tick_));  // a restart took time
    if (now_ - start_ > scenario_.faults_for + drained_within) {
        const queue::Stats stats = core_->stats();
        judge_.violate("stuck: " + std::to_string(stats.items) + " items are still queued, " + std::to_string(stats.ready) + " of them ready, " +
                       std::to_string(stats.sending) + " being sent, " + std::to_string(stats.held) + " held");
        return false;
    }
    if (tick_ <= next) {
        tell(queue::Tick{});
        return true;
    }
    const Step what = agenda.take();
    // What the core does because a timer is due it does before it learns of this; the books must have the same order.
    if (core_->next_timer() <= now_) tell(queue::Tick{});
    what();
    return true;
}

void World::tell(queue::Event event) {
    std::vector<queue::Action> actions;
    core_->handle(std::move(event), now_, actions);
    for (queue::Action& action : actions) carry_out(action);
    const Instant next = core_->next_timer();
    if (next <= now_) judge_.violate("a timer is due although handle() has just returned");
    // The daemon's clock is late sometimes.
    tick_ = next == Instant::max() ? next : next + (random_.chance(0.1) ? within(Duration(40)) : Duration(0));
    if (restarting_) return;
    if (++events_ % books_checked_every == 0) check_books();
    else if (events_ % idleness_checked_every == 0) check_idle();
}

void World::carry_out(queue::Action& action) {
    if (const auto* const resolve = std::get_if<queue::Resolve>(&action)) carry_out(*resolve);
    if (const auto* const deliver = std::get_if<queue::Deliver>(&action)) carry_out(*deliver);
    if (const auto* const conclude = std::get_if<queue::Conclude>(&action)) carry_out(*conclude);
    if (const auto* const close = std::get_if<queue::Close>(&action)) carry_out(*close);
    if (const auto* const removed = std::get_if<queue::Removed>(&action)) judge_.removed(*removed);
    if (const auto* const changed = std::get_if<queue::HoldChanged>(&action)) judge_.hold_changed(*changed);
    if (const auto* const changed = std::get_if<queue::ConditionChanged>(&action)) judge_.changed(*changed, now_);
    if (const auto* const changed = std::get_if<queue::SuspensionChanged>(&action)) judge_.changed(*changed);
}

void World::carry_out(const queue::Resolve& action) {
    if (options_.disabled) judge_.violate("a route is asked for although delivery is disabled");
    if (!resolving_.insert(action.key).second) judge_.violate("two questions at once for " + action.key);
    in_flight(Duration(1) + within(Duration(3'000)), [this, domain = action.key] { answer_dns(domain); });
}

void World::carry_out(const queue::Deliver& action) {
    ++attempts_;
    judge_.delivering(action, now_);
    if (judge_.violation()) return;
    if (action.open) {
        lines_[action.session];
        return connect(action);
    }
    Line& line = lines_[action.session];
    ++line.uses;
    transact(action, line.host, Duration(1));
}

void World::carry_out(const queue::Conclude& action) {
    judge_.concluding(action);
    queue::AttemptEnded event;
    event.item = action.work.item;
    // A transport may have no address of any family on the route: such mail ends when its attempts are used up.
    const bool temporary = (action.error.code == Errc::dns_temporary || action.error.code == Errc::unreachable) && action.work.attempts < attempts_max;
    event.verdict = temporary ? queue::AttemptEnded::Verdict::deferred : queue::AttemptEnded::Verdict::done;
    in_flight(Duration(1) + within(Duration(20)), [this, event, temporary]() mutable {
        event.next = now_ + Duration(60'000) + within(Duration(600'000));
        report(event, temporary ? Fate::queued : Fate::failed);
    });
}

void World::carry_out(const queue::Close& action) {
    const auto line = lines_.find(action.session);
    if (line != lines_.end() && !std::exchange(line->second.closing, true)) hang_up(action.session, Duration(500));
}

// Lanes that a suspension held back go on some at a time when it has ended, and so do all of them under other options.
void World::check_idle() {
    const queue::Stats stats = core_->stats();
    if (stats.suspensions == 0 && stats.conditions == 0 && stats.backlog == 0) judge_.check_idle(resolving_, now_);
}

// From outside, what the auditor checks from inside: if there is work and room, something must have been started.
void World::check_books() {
    core_->audit();
    const queue::Stats stats = core_->stats();
    if (stats.sessions < judge_.sessions()) judge_.violate("the core forgot a session");
    if (stats.items != judge_.items().size()) judge_.violate("the core does not have the items that are queued");
    check_idle();
    if (!judge_.nothing_suspended() || stats.suspensions > 0 || stats.backlog > 0) return;
    if ((options_.policies != nullptr && !options_.policies->policies.empty()) || options_.disabled || judge_.sessions() >= options_.concurrency_max) return;
    core_->each_domain([&](const queue::DomainStats& domain) {
        const std::string name(domain.domain);
        if (domain.ready > 0 && !resolving_.contains(name) && judge_.sessions(name) < options_.destination_concurrency) {
            judge_.violate(name + " has mail and room, but nothing is started");
        }
        return true;
    });
}

void World::crash() {
    if (healed_) return;
    flights_.clear();
    lines_.clear();
    resolving_.clear();
    judge_.crashed();
    core_ = std::make_unique<queue::Core>(for_core());
    tick_ = Instant::max();
    now_ += within(Duration(5'000));
    restarting_ = true;
    for (const auto& [id, suspension] : judge_.suspensions()) tell(queue::SetSuspension{*suspension, true});
    for (const auto& [id, condition] : judge_.conditions()) tell(queue::SetCondition{*condition, true});
    for (const queue::Admit& admit : judge_.survivors()) tell(admit);
    restarting_ = false;
}

// From here on nothing goes wrong any more, and everything queued must find its end.
void World::heal() {
    healed_ = true;
    const bool calm = scenario_.operator_per_hour == 0 && scenario_.reconfigured_per_hour == 0;
    if (!calm) {
        options_ = scenario_.core;
        options_.disabled = false;
        judge_.configured(options_, now_);
        tell(queue::Configure{for_core()});
        tell(queue::Release{});
        lift_everything();
    }
    check_books();
}

void World::check_expectations(Report& report) {
    const queue::Stats stats = core_->stats();
    if (stats.items + stats.sessions + stats.lanes + stats.buckets + stats.routes + stats.fresh_bytes + stats.conditions + stats.suspensions != 0) {
        judge_.violate("something is left although everything has ended");
    }
    const auto expect = [&](const char* what, const std::optional<std::uint64_t>& wanted, std::uint64_t got) {
        if (wanted && *wanted != got) {
            judge_.violate(std::string("expected ") + what + " " + std::to_string(*wanted) + ", got " + std::to_string(got));
        }
    };
    expect("delivered", scenario_.expect.delivered, report.delivered);
    expect("failed", scenario_.expect.failed, report.failed);
    expect("removed", scenario_.expect.removed, report.removed);
    const auto at_most = [&](const char* what, const std::optional<std::uint64_t>& most, std::uint64_t got) {
        if (most && got > *most) judge_.violate(std::string(what) + ": " + std::to_string(got) + " is more than expected");
    };
    at_most("attempts cut short", scenario_.expect.duplicated_max, judge_.cut_short());
    at_most("passed over", scenario_.expect.passed_over_max, report.passed_over);
    for (const auto& [domain, most] : scenario_.expect.waited_max) {
        const Duration waited = judge_.waited(domain);
        if (waited > most) judge_.violate(domain + " waited " + std::to_string(waited.count()) + " ms");
    }
}

}  // namespace sluice::sim
