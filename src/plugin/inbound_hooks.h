#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>

#include "async/mailbox.h"
#include "event/log.h"
#include "plugin/hosts.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// What the plugin host says. Value.
struct HostAnswer {
    reception::Answer answer;
    bool decided = false;  // of a part of a hook's listeners: those behind it need not be asked
    std::string rdns;      // opening: the client's name
};

// The hooks of mail in of one shard, answered by the plugin host. Shard-owned, except wants().
class InboundHooks final : public reception::Hooks {
public:
    InboundHooks(async::Executor executor, Hosts& hosts, event::Log& log);

    bool wants(reception::Hook hook) const override { return hosts_.wants(hook); }
    Task<reception::Answer> ask(reception::Hook hook, const reception::Occasion& occasion) override;
    void tell(reception::Hook hook, const reception::Occasion& occasion) override;

    // The same with more members of the message, which begin with a comma. `knows_content`: as inbound_question().
    Task<HostAnswer> put(
        reception::Hook hook, const reception::Occasion& occasion, std::string more, bool knows_content = false);
    void tell(reception::Hook hook, const reception::Occasion& occasion, const std::string& more);
    // Who would be asked about that session; null: nobody.
    JavaScriptListenersPtr listeners(const reception::Visitor& visitor) const;

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
