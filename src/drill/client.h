#pragma once

#include <functional>
#include <string>

#include "async/task_group.h"
#include "base/random.h"
#include "drill/ledger.h"
#include "drill/link.h"
#include "drill/plan.h"

namespace sluice::drill {

// A message as a client of this stream would write it. Its number is what the ledger gives it next.
Sent compose_sent(const StreamPlan& stream, std::uint64_t number, Random& random);

// One connection of a client that gives one message to the engine by SMTP: whole, or as far as chance has it. Tells the
// ledger what it sent and whether it was told 250. True: the message is with the engine; false: to be tried again.
Task<bool> submit(
    const StreamPlan& stream, Ledger& ledger, Random& random, LinkPtr link, net::StreamPtr wire,
    std::shared_ptr<net::TlsContext> tls);

}  // namespace sluice::drill
