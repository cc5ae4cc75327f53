#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/problem.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// Warnings about a set that is valid, but probably not meant: conditions that are never reached, groups that overlap, limits that can
// never bind, conditions that name a member of a group and so mean all of it. `file` is how they call it.
std::vector<Problem> review(const PolicySet& set, const std::string& file);

// What a policy allows in one case, as it comes out when the wider policies have had their say. Value.
struct Ceiling {
    std::string policy;
    int line = 0;
    std::string when;    // the condition, "otherwise", or "always" for a policy without conditions
    std::string limits;  // as given
    std::string per;     // what has a bucket of its own: "localip, remotemx"; "the engine"
    std::optional<std::uint32_t> sessions;  // at most so many in a bucket, if limited; less than given where a wider policy has less
    std::string bound_by;                   // that policy
};
std::vector<Ceiling> ceilings(const PolicySet& set);

}  // namespace sluice::policy
