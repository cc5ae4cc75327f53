#pragma once

#include <string>

#include "async/mailbox.h"
#include "event/log.h"
#include "plugin/node_host.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// The hooks of mail in of one shard, answered by the plugin host. Shard-owned, except wants().
class InboundHooks final : public reception::Hooks {
public:
    InboundHooks(async::Executor executor, NodeHost& host, event::Log& log);

    bool wants(reception::Hook hook) const override { return host_.wants(hook); }
    Task<reception::Answer> ask(reception::Hook hook, const reception::Occasion& occasion) override;
    void tell(reception::Hook hook, const reception::Occasion& occasion) override;

private:
    async::Executor executor_;
    NodeHost& host_;
    event::Log& log_;
    async::Mailbox<Question*> answers_;
};

}  // namespace sluice::plugin
