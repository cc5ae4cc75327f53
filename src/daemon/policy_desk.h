#pragma once

#include <string>

#include "control/backend.h"
#include "daemon/acceptance.h"

namespace sluice::daemon {

class Engine;

// What an operator sees of conditions and suspensions, and does to them. What it answers is durable. Lives on the control shard.
class PolicyDesk {
public:
    PolicyDesk(Engine& engine, async::Executor executor, SpoolAcceptance& acceptance);

    Task<Result<control::PolicyReply>> set_condition(std::string json, bool dry_run);
    Task<Result<control::PolicyReply>> set_suspension(std::string json, bool dry_run);
    Task<Result<>> remove_condition(control::PolicyRemoval removal);
    Task<Result<>> remove_suspension(control::PolicyRemoval removal);
    Task<control::PolicyList<control::ConditionDetail>> conditions();
    Task<control::PolicyList<control::SuspensionDetail>> suspensions();

private:
    template <class What>
    Task<Result<control::PolicyReply>> set(What what, bool dry_run);
    Task<Result<>> tell(queue::Event event);
    policy::PolicySetPtr policies() const;

    Engine& engine_;
    async::Executor executor_;
    SpoolAcceptance& acceptance_;
};

}  // namespace sluice::daemon
