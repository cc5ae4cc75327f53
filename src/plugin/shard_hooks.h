#pragma once

#include <vector>

#include "delivery/hooks.h"
#include "dns/router.h"
#include "plugin/hosts.h"
#include "plugin/images.h"

namespace sluice::plugin {

// The hooks of one shard, answered by the plugin host. Shard-owned.
class ShardHooks final : public delivery::Hooks {
public:
    ShardHooks(
        async::Executor executor, Hosts& host, Images& images, dns::Router& router, const Clock& clock, event::Log& log);

    bool wants(delivery::Hook hook) const override { return host_.wants(hook); }
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message) override;
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about) override;
    Task<std::optional<std::string>> bounce(const delivery::Hearing& about) override;
    void delivered(const delivery::Hearing& about) override;
    void record(ItemId item, bool decided, spool::Batch& batch) override;
    void ended(ItemId item) override;

private:
    Task<Result<boost::json::object>> ask(delivery::Hook hook, ItemId item, std::string text);
    Task<> choose_route(
        const queue::Work& work, const mail::Message& message, const boost::json::object& answer, delivery::Before& before);

    async::Executor executor_;
    Hosts& host_;
    Images& images_;
    dns::Router& router_;
    const Clock& clock_;
    event::Log& log_;
    async::Mailbox<Question*> answers_;
};

}  // namespace sluice::plugin
