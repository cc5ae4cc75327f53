#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "delivery/disposition.h"
#include "policy/observation.h"
#include "policy/policy_set.h"
#include "queue/core.h"

namespace sluice::delivery {

struct Attempted;

// A verdict in the words of the policy file. Nothing for success, and for what is no fault of the peer.
std::optional<policy::Observation> observation_of(const Verdict& verdict);

// What this attempt says of its host for those who count failures: one entry for each different answer.
void observe(const Attempted& attempted, std::vector<queue::Failed>& failures);

// The ruling as the rules of the policy file want it to be: `treat: defer` and `treat: bounce`.
Ruling treated(const Ruling& ruling, const Verdict& verdict, const Attempted& attempted, const policy::PolicySet* policies);

}  // namespace sluice::delivery
