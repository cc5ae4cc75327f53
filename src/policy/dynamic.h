#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "policy/limits.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// A condition that was added while the engine runs. It overrides those that the policy file gives one policy. Value.
struct DynamicCondition {
    enum class Class : std::uint8_t { ordinary, warm_up, back_off };  // a later one comes first

    std::string id;  // names it for ever; adding another with the same id replaces it
    Class kind = Class::ordinary;
    std::string counts;  // Policy::counts of the policy that it overrides: its groups are those of `match`
    Match match;
    Limits limits;
    Instant since;                   // newer ones come first
    std::optional<Instant> expires;
    std::string author, reason;
};

// All dynamic conditions, and which of them counts: the class decides first, then how many fields it names, then the newer one.
// Owned by one thread.
class DynamicConditions {
public:
    // Adds it, or replaces the one with its id.
    void set(DynamicCondition condition);
    // Also replaces one with the same class, fields and match, whose id it takes: so that saying a thing twice says it once.
    // Returns the id in force.
    std::string set_or_renew(DynamicCondition condition);
    bool remove(const std::string& id);
    // Removes what is over, and returns it.
    std::vector<DynamicCondition> expire(Instant now);
    // When the next one is over.
    std::optional<Instant> next_expiry() const;

    // The limits of a bucket: of the first dynamic condition that applies, or else of the policy. Borrows from both.
    const Limits& limits_of(const Policy& policy, const FieldTexts& texts, Instant now) const;
    const DynamicCondition* applying(const Policy& policy, const FieldTexts& texts, Instant now) const;

    const std::vector<DynamicCondition>& all() const { return conditions_; }  // in the order in which they are asked

private:
    std::vector<DynamicCondition> conditions_;
};

}  // namespace sluice::policy
