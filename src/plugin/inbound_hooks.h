#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>

#include "async/mailbox.h"
#include "event/log.h"
#include "plugin/hosts.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// The hooks of mail in of one shard, answered by the plugin host. Shard-owned, except wants().
class InboundHooks final : public reception::Hooks {
public:
    InboundHooks(async::Executor executor, Hosts& hosts, event::Log& log);

    bool wants(reception::Hook hook) const override { return hosts_.wants(hook); }
    Task<reception::Answer> ask(reception::Hook hook, const reception::Occasion& occasion) override;
    void tell(reception::Hook hook, const reception::Occasion& occasion) override;

private:
    std::shared_ptr<NodeHost> host_of(const reception::Visitor& visitor);
    void follow(const std::string& session, const NodeHost* asked);

    async::Executor executor_;
    Hosts& hosts_;
    event::Log& log_;
    async::Mailbox<Question*> answers_;
    // The host that knows a session is asked about it until it ends, whoever has taken its place.
    absl::flat_hash_map<std::string, std::shared_ptr<NodeHost>> sessions_;
};

}  // namespace sluice::plugin
