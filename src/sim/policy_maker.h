#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "policy/policy_set.h"

namespace sluice::sim {

// A policy file as anybody might write one, about the worlds that random_scenario() makes: fields, groups with every kind of pattern,
// conditions, several rates of both kinds, `stop`, `inherit`; with limits small enough to matter.
std::string random_policy_file(Random& random);
policy::PolicySetPtr random_policies(Random& random);

// What a faulty engine might do: the same policies with one kind of limit moved by one. The judge, who knows the true ones, must notice.
enum class Fault : std::uint8_t {
    none,
    session_more,     // one session more than allowed
    session_less,     // one less: room is not used
    message_more,     // one message more in a rate's interval
    message_less,
    carries_more,     // one message more on a connection
    interval_short,   // connections a little too early
    octets_more,      // a hundredth more octets
    stop_ignored,     // policies behind a `stop` count
};
// Their names, and the one of a name.
std::vector<std::string> fault_list();
Fault fault_of(const std::string& name);
policy::PolicySetPtr with_fault(const policy::PolicySetPtr& set, Fault fault);

}  // namespace sluice::sim
