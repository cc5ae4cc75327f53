#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "queue/core.h"
#include "sim/agenda.h"
#include "sim/judge.h"
#include "sim/policy_maker.h"
#include "sim/scenario.h"

namespace sluice::sim {

// How a run ended.
struct Report {
    std::optional<std::string> violation;  // nothing: all promises were kept
    std::uint64_t events = 0;              // that the core was told
    std::uint64_t attempts = 0;
    std::uint64_t delivered = 0, failed = 0, removed = 0;
    std::uint64_t passed_over = 0;
    Duration lasted{0};                    // virtual
};

// Runs the real core in a made-up world until its queue has drained and everything is at rest. The same scenario and seed
// always give the same run. Value; one thread.
class World {
public:
    // `fault`: the core is given policies that are wrong by it, the judge the true ones.
    World(Scenario scenario, std::uint64_t seed, Fault fault = Fault::none);
    Report run();

private:
    using Step = std::function<void()>;
    // A connection as its executor sees it.
    struct Line {
        std::string host;
        std::uint32_t messages = 0;
        std::uint64_t uses = 0;
        bool closing = false;
    };

    // The engine around the core.
    void tell(queue::Event event);
    void carry_out(queue::Action& action);
    void carry_out(const queue::Resolve& action);
    void carry_out(const queue::Deliver& action);
    void carry_out(const queue::Conclude& action);
    void carry_out(const queue::Close& action);
    void check_books();
    void check_idle();
    void crash();
    void heal();
    bool step();
    queue::Options for_core() const;

    // The internet.
    void connect(const queue::Deliver& action);
    void give_up(const queue::Deliver& action, bool permanent, std::vector<std::uint32_t> unhealthy);
    void transact(const queue::Deliver& action, const std::string& host, Duration from_now);
    void finish(const queue::Deliver& action, const std::string& host);
    void end(const queue::Deliver& action, queue::AttemptEnded::Verdict verdict, Fate fate, bool reusable);
    void report(queue::AttemptEnded event, Fate fate);
    void hang_up(queue::SessionId session, Duration within);
    void answer_dns(const std::string& domain);
    queue::RoutePtr route_to(const std::string& domain);
    const std::string& host_of(const queue::Deliver& action, std::uint32_t candidate) const;
    Mood mood_of(const std::string& host) const;

    // The people.
    void plan_workload();
    void plan_trouble(double per_hour, const Step& step);
    void submit(const Stream& stream);
    void vary(queue::Admit& admit);
    void operate();
    void intervene();
    policy::Suspension random_suspension();
    std::optional<policy::DynamicCondition> random_condition();
    std::string random_value(policy::Field field);
    void lift_everything();
    policy::PolicySetPtr tightened(const policy::PolicySetPtr& set);
    void reconfigure();
    queue::Selection random_selection();

    Duration within(Duration most) { return Duration(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most.count()) + 1))); }
    void in_flight(Duration from_now, Step step) { flights_.add(now_ + from_now, std::move(step)); }
    void check_expectations(Report& report);

    Scenario scenario_;
    std::uint64_t seed_;
    Random random_;
    Fault fault_;
    queue::Options options_;
    Judge judge_;
    std::unique_ptr<queue::Core> core_;
    Instant start_, now_;
    Instant tick_;             // when the next Tick is given; late now and then
    Agenda<Step> outside_, flights_;  // a crash ends what is in flight
    std::map<queue::SessionId, Line> lines_;
    std::set<std::string> resolving_;
    std::map<ItemId, Instant> greylist_;
    bool healed_ = false;
    bool restarting_ = false;  // the core does not have all items yet
    std::uint64_t last_message_ = 0;
    std::uint64_t events_ = 0;
    std::uint64_t attempts_ = 0;
};

}  // namespace sluice::sim
