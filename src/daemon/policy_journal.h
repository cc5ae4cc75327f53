#pragma once

#include <vector>

#include "event/events.h"
#include "event/log.h"
#include "queue/core.h"
#include "spool/spool.h"

namespace sluice::daemon {

// Conditions and suspensions that are not in the files live in the journal, each under a key of its own: "condition:ID", "suspension:ID".

// When the action says that one of them changed: writes that into the batch, and tells people.
void take_policy_change(const queue::Action& action, spool::Batch& batch, event::Recorder& events, event::Log& log);

// What the journal holds, as the core is told at start. A record that cannot be read is reported and left alone.
std::vector<queue::Event> recovered_policies(const std::vector<spool::PolicyRecord>& records, event::Log& log);

}  // namespace sluice::daemon
