#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "config/settings.h"
#include "queue/core.h"
#include "sim/agenda.h"
#include "sim/arrivals.h"
#include "sim/receivers.h"
#include "sim/rehearsal_report.h"
#include "sim/waiting.h"

namespace sluice::sim {

// Runs the real core with the options of an instance under virtual time: described mail comes in, described receivers answer, and
// the engine's own rules say what that means and when to try again. The same traffic, options and seed give the same result. One
// thread.
class Rehearsal {
public:
    Rehearsal(const Traffic& traffic, config::SettingsPtr settings, const queue::Options& options, std::uint64_t seed);
    Rehearsed run();

private:
    enum class Kind : std::uint8_t { resolved, connected, turned_away, answered, closed, concluded };
    struct Step {
        Kind kind;
        std::uint64_t what;  // domain, session or message
    };
    // A session, and the attempt on it.
    struct Line {
        Receivers::Link link;
        std::vector<std::uint32_t> candidates, unhealthy;
        std::uint32_t next = 0;  // of the candidates
        std::string bind4, bind6;
        queue::RoutePtr route;
        queue::Work work;
        const delivery::Verdict* answer = nullptr;
        bool open = false, last_resort = false, permanent = true;
    };

    bool step();
    void admit();
    void tell(queue::Event event);
    void carry_out(queue::Action& action);
    void begin(queue::Deliver& action);
    void knock(queue::SessionId session, Line& line);
    void send(queue::SessionId session, Line& line);
    void take(const Step& step);
    void turned_away(queue::SessionId session);
    void answered(queue::SessionId session);
    void concluded(std::uint64_t message);
    void close(queue::SessionId session, Duration after);
    void end(queue::AttemptEnded&& event, const queue::Work& work, const delivery::Verdict* answer, const delivery::Standing& standing,
             bool permanent);
    void count(std::uint64_t message, delivery::Fate fate, Instant arrival);
    std::optional<Instant> retry(const queue::Work& work);
    void look();
    void draw();
    Rehearsed result();

    const Traffic& traffic_;
    config::SettingsPtr settings_;
    std::uint64_t seed_;
    queue::Core core_;
    Receivers receivers_;
    Arrivals arrivals_;
    Waiting waiting_;
    Random looks_;
    Instant now_, end_;
    Agenda<Step> agenda_;
    std::vector<queue::Action> actions_;
    absl::flat_hash_map<queue::SessionId, Line> lines_;
    struct Conclusion {
        queue::Work work;
        delivery::Verdict verdict;
    };
    absl::flat_hash_map<std::uint64_t, Conclusion> conclusions_;  // by message
    absl::flat_hash_map<std::string, std::uint32_t> domains_;
    struct Mail {
        std::uint32_t tenant, domain;
    };
    std::vector<Mail> mail_;  // by message
    Instant look_at_, looked_at_, draw_at_;
    Duration look_every_, draw_every_;
    Shape shape_;  // of the stretch that has begun
    std::vector<std::uint64_t> queued_;  // by tenant
    std::uint64_t queued_all_ = 0;
    std::int64_t minute_ = -1;
    std::uint64_t in_minute_ = 0;
    Rehearsed report_;
};

}  // namespace sluice::sim
