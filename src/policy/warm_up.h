#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "policy/reactor.h"

namespace sluice::policy {

// The warm-ups of the policy file under way: for each local address and receiver the day that was reached, and how much of its quota was
// used. A day's quota is spread over the day by its rate; this class moves the days on, and back. All of its state is in the conditions of the class
// warm_up that it asks for: see adopt(). Deterministic. Owned by one thread.
class WarmUps {
public:
    static constexpr std::size_t rows_max = 20'000;
    static constexpr Duration day{86'400'000};
    static constexpr Duration forgotten_after = day * 30;

    // Other plans from now on; what is under way goes on where the plan of the same name counts the same.
    void configure(PolicySetPtr set, Instant now, Reactions& reactions);
    bool any() const { return set_ != nullptr && !set_->warm_ups.empty(); }

    // A message was tried. `failure`: null when it was taken.
    void tried(const FieldTexts& values, const Observation* failure, Instant now, Reactions& reactions);

    void advance(Instant now, Reactions& reactions);
    Instant next() const { return due_.empty() ? Instant::max() : due_.begin()->first; }

    // A condition that was in force before a restart. False when it is none of ours.
    bool adopt(const DynamicCondition& condition, Instant now, Reactions& reactions);
    // An operator removed this condition: the warm-up begins anew with the next message.
    void forget(const std::string& id);

    static constexpr const char* author = "warm-up";

private:
    struct Row {
        std::shared_ptr<const WarmUp> plan;
        Match match;
        std::string concerns;
        std::uint32_t day = 0;       // from 0; plan->days.size(): it is warm
        Instant began;               // of the day
        std::uint32_t sent = 0;      // since then
        std::uint32_t recorded = 0;  // of these; what follows may be lost in a crash
        Instant last;                // message
        std::deque<Instant> objections;
        Instant due;
    };

    std::shared_ptr<const WarmUp> plan_named(const std::string& name) const;
    Row* row_for(const std::shared_ptr<const WarmUp>& plan, const FieldTexts& values, std::string& id, Instant now, Reactions& reactions);
    bool objected(Row& row, const Observation* failure, Instant now) const;
    void begin_day(const std::string& id, Row& row, std::uint32_t day, Instant began, const char* why, Reactions& reactions);
    void close_for_today(const std::string& id, const Row& row, Instant now, Reactions& reactions) const;
    void publish(const std::string& id, Row& row, Reactions& reactions) const;
    void schedule(const std::string& id, Row& row);

    PolicySetPtr set_;
    absl::flat_hash_map<std::string, Row> rows_;  // by the id of the condition
    std::set<std::pair<Instant, std::string>> due_;
};

}  // namespace sluice::policy
