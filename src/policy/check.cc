#include "policy/check.h"

#include <algorithm>

namespace sluice::policy {
namespace {

// Comparing every pattern with every other one is for files that people write, not for long generated lists.
constexpr std::size_t comparisons_max = 1'000'000;

// What a policy allows where: its conditions, then the default.
struct Case {
    const Match* match;  // null: otherwise
    const Limits* limits;
    int line;
};

std::vector<Case> cases_of(const Policy& policy) {
    std::vector<Case> cases;
    for (const Condition& condition : policy.conditions) cases.push_back({&condition.match, &condition.limits, condition.line});
    cases.push_back({nullptr, policy.fallback ? &*policy.fallback : &no_limits, policy.line});
    return cases;
}

// Every bucket of `fine` is a part of one bucket of `wide`.
bool is_part_of(const Policy& fine, const Policy& wide) {
    for (const Field field : wide.fields) {
        const auto found = std::find(fine.fields.begin(), fine.fields.end(), field);
        if (found == fine.fields.end()) return false;
        const RollUp* const finer = fine.roll_ups[static_cast<std::size_t>(found - fine.fields.begin())].get();
        // A group may hold values that the wider policy tells apart, unless both group the same way.
        if (finer != nullptr && fine.counts != wide.counts) return false;
    }
    return true;
}

bool may_stop(const Policy& policy) {
    const std::vector<Case> cases = cases_of(policy);
    return std::any_of(cases.begin(), cases.end(), [](const Case& c) { return c.limits->stop; });
}

// Nothing that `first` lets through can ever be too much for `second`.
bool implies(const Rate& first, const Rate& second) {
    const std::int64_t whole = (second.per() + first.per() - Duration(1)) / first.per();
    const std::int64_t windows = whole + (first.algorithm() == RateAlgorithm::fixed_window ? 1 : 0);
    return static_cast<std::int64_t>(first.count()) * windows <= second.count();
}

class Review {
public:
    Review(const PolicySet& set, const std::string& file) : set_(set), file_(file) {}

    std::vector<Problem> run() {
        for (std::size_t at = 0; at < set_.policies.size(); ++at) {
            const Policy& policy = *set_.policies[at];
            check_order(policy);
            check_members(policy);
            for (const auto& roll_up : policy.roll_ups) {
                if (roll_up != nullptr) check_groups(*roll_up);
            }
            for (const Case& one : cases_of(policy)) check_rates(one);
            check_against_others(at);
        }
        return problems_.take();
    }

private:
    void warn(int line, std::string message) { problems_.warning(file_, line, std::move(message)); }

    void check_order(const Policy& policy) {
        const std::vector<Condition>& conditions = policy.conditions;
        for (std::size_t later = 0; later < conditions.size(); ++later) {
            for (std::size_t earlier = 0; earlier < later; ++earlier) {
                if (!conditions[earlier].match.covers(conditions[later].match)) continue;
                warn(conditions[later].line, "this condition is never reached: the one on line " + std::to_string(conditions[earlier].line) +
                                                 " takes all that it would match");
                break;
            }
        }
        const auto takes_all = [](const Condition& condition) { return condition.match.is_empty(); };
        const auto found = std::find_if(conditions.begin(), conditions.end(), takes_all);
        if (found != conditions.end() && policy.fallback) {
            warn(policy.line, "`default` is never used: the condition on line " + std::to_string(found->line) + " matches everything");
        }
    }

    void check_members(const Policy& policy) {
        for (const Condition& condition : policy.conditions) {
            for (const Test& test : condition.match.all) check_members(policy, condition, test);
        }
    }

    void check_members(const Policy& policy, const Condition& condition, const Test& test) {
        const auto place = std::find(policy.fields.begin(), policy.fields.end(), test.field) - policy.fields.begin();
        const RollUp* const roll_up = policy.roll_ups[static_cast<std::size_t>(place)].get();
        for (const std::uint32_t group : test.groups) {
            const std::string& name = roll_up->groups[group].name;
            if (std::find(test.group_names.begin(), test.group_names.end(), name) != test.group_names.end()) continue;
            warn(condition.line, set_.fields.name_of(test.field) + ": what stands here names members of #" + name +
                                     "; the condition applies to that whole group");
        }
    }

    void check_groups(const RollUp& roll_up) {
        for (std::size_t later = 0; later < roll_up.groups.size(); ++later) {
            for (std::size_t earlier = 0; earlier < later; ++earlier) check_groups(roll_up.groups[earlier], roll_up.groups[later]);
        }
    }

    void check_groups(const Group& first, const Group& second) {
        for (const Pattern& mine : first.patterns) {
            for (const Pattern& theirs : second.patterns) {
                if (++comparisons_ > comparisons_max) return;
                if (mine.covers(theirs)) {
                    warn(second.line, "`" + theirs.shown() + "` never counts for #" + second.name + ": `" + mine.shown() + "` of #" + first.name +
                                          " comes first and takes all of it");
                } else if (mine.meets(theirs)) {
                    warn(second.line, "`" + theirs.shown() + "` of #" + second.name + " overlaps `" + mine.shown() + "` of #" + first.name +
                                          ": what both match counts for #" + first.name + ", which comes first");
                }
            }
        }
    }

    void check_rates(const Case& one) {
        const std::vector<Rate>& rates = one.limits->rates;
        for (std::size_t a = 0; a < rates.size(); ++a) {
            for (std::size_t b = 0; b < rates.size(); ++b) {
                if (a == b || !implies(rates[a], rates[b]) || (implies(rates[b], rates[a]) && a > b)) continue;
                warn(one.line, "rate: " + rates[b].text() + " is never reached, because " + rates[a].text() + " allows less");
            }
        }
    }

    // Limits of a policy that another one, whose buckets contain its own, never lets it reach.
    void check_against_others(std::size_t at) {
        const Policy& fine = *set_.policies[at];
        for (std::size_t other = 0; other < set_.policies.size(); ++other) {
            const Policy& wide = *set_.policies[other];
            if (other == at || !is_part_of(fine, wide) || is_stopped_before(std::max(at, other))) continue;
            // Of two that count the same things the later one is the one to speak of.
            const bool is_same = is_part_of(wide, fine);
            for (const Case& one : cases_of(fine)) check_against(one, wide, is_same && other > at);
        }
    }

    void check_against(const Case& one, const Policy& wide, bool only_below) {
        const std::vector<Case> others = cases_of(wide);
        const std::uint32_t mine = one.limits->concurrency;
        const bool all_less = mine != 0 && std::all_of(others.begin(), others.end(), [&](const Case& other) {
            return other.limits->concurrency != 0 && (other.limits->concurrency < mine || (!only_below && other.limits->concurrency == mine));
        });
        if (all_less) {
            warn(one.line, "concurrency: " + std::to_string(mine) + " is never reached, because " + wide.name + " allows no more for all that it counts together");
        }
        for (const Rate& rate : one.limits->rates) {
            const bool all_imply = std::all_of(others.begin(), others.end(), [&](const Case& other) {
                return std::any_of(other.limits->rates.begin(), other.limits->rates.end(), [&](const Rate& theirs) {
                    return implies(theirs, rate) && !(only_below && implies(rate, theirs));
                });
            });
            if (all_imply) warn(one.line, "rate: " + rate.text() + " is never reached, because " + wide.name + " allows no more for all that it counts together");
        }
    }

    bool is_stopped_before(std::size_t end) const {
        return std::any_of(set_.policies.begin(), set_.policies.begin() + static_cast<std::ptrdiff_t>(end),
                           [](const PolicyPtr& policy) { return may_stop(*policy); });
    }

    const PolicySet& set_;
    const std::string& file_;
    Problems problems_;
    std::size_t comparisons_ = 0;
};

// The most sessions that any case of a policy allows; nothing when one of them is not limited.
std::optional<std::uint32_t> sessions_max(const Policy& policy) {
    std::uint32_t most = 0;
    for (const Case& one : cases_of(policy)) {
        if (one.limits->concurrency == 0) return std::nullopt;
        most = std::max(most, one.limits->concurrency);
    }
    return most;
}

}  // namespace

std::vector<Problem> review(const PolicySet& set, const std::string& file) { return Review(set, file).run(); }

std::vector<Ceiling> ceilings(const PolicySet& set) {
    std::vector<Ceiling> found;
    for (const PolicyPtr& policy : set.policies) {
        std::string per;
        for (const Field field : policy->fields) per += (per.empty() ? "" : ", ") + set.fields.name_of(field);
        for (const Case& one : cases_of(*policy)) {
            const bool is_dead = one.match == nullptr && std::any_of(policy->conditions.begin(), policy->conditions.end(),
                                                                     [](const Condition& c) { return c.match.is_empty(); });
            if (is_dead) continue;
            Ceiling ceiling{policy->name, one.line, one.match != nullptr ? one.match->text(set.fields) : policy->conditions.empty() ? "always" : "otherwise",
                            one.limits->text(), per.empty() ? "the engine" : per, std::nullopt, {}};
            if (one.limits->concurrency != 0) ceiling.sessions = one.limits->concurrency;
            for (const PolicyPtr& wide : set.policies) {
                if (wide == policy || may_stop(*policy) || !is_part_of(*policy, *wide)) continue;
                const std::optional<std::uint32_t> most = sessions_max(*wide);
                if (!most || (ceiling.sessions && *ceiling.sessions <= *most)) continue;
                ceiling.sessions = most;
                ceiling.bound_by = wide->name;
            }
            found.push_back(std::move(ceiling));
        }
    }
    return found;
}

}  // namespace sluice::policy
