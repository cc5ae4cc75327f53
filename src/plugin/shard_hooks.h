#pragma once

#include <vector>

#include "delivery/hooks.h"
#include "dns/router.h"
#include "plugin/images.h"
#include "plugin/node_host.h"

namespace sluice::plugin {

// A part of a hook's listeners that the plugin host is asked for, between native plugins; and what comes back. Value.
struct Span {
    std::string text;           // JSON, see plan.h; empty: all of them
    bool decided = false;       // one of them has ended the chain
    boost::json::object terms;  // what they want of this attempt by way of the todo; not obeyed yet, where it is a part
};

// The todo's wishes for an attempt, on a copy of the route.
queue::RoutePtr with_terms(const queue::RoutePtr& route, const boost::json::object& terms);

// The hooks of one shard, answered by the plugin host. Shard-owned.
class ShardHooks final : public delivery::Hooks {
public:
    ShardHooks(
        async::Executor executor, NodeHost& host, Images& images, dns::Router& router, const Clock& clock, event::Log& log);

    bool wants(delivery::Hook hook) const override { return host_.wants(hook); }
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message) override;
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about) override;
    Task<std::optional<std::string>> bounce(const delivery::Hearing& about) override;
    void delivered(const delivery::Hearing& about) override;
    void record(ItemId item, bool decided, spool::Batch& batch) override;
    void ended(ItemId item) override;

    // The same of a part.
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message, Span& span);
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about, Span& span);
    Task<std::optional<std::string>> bounce(const delivery::Hearing& about, Span& span);
    void delivered(const delivery::Hearing& about, const Span& span);

private:
    Task<Result<boost::json::object>> ask(delivery::Hook hook, ItemId item, std::string text, Span& span);
    Task<> choose_route(
        const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span,
        delivery::Before& before);

    async::Executor executor_;
    NodeHost& host_;
    Images& images_;
    dns::Router& router_;
    const Clock& clock_;
    event::Log& log_;
    async::Mailbox<Question*> answers_;
};

}  // namespace sluice::plugin
