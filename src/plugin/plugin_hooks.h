#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "delivery/hooks.h"
#include "dns/router.h"
#include "plugin/images.h"
#include "plugin/native_host.h"
#include "plugin/plan.h"
#include "plugin/shard_hooks.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// The hooks of one shard, answered by native plugins and the plugin host in one chain. Without native plugins for a hook
// the plugin host is asked as if there were none; without JavaScript plugins there is no plugin host. Shard-owned.
class PluginHooks final : public delivery::Hooks {
public:
    // `node` is null when there is no plugin host, and `node_hooks` then, too.
    PluginHooks(
        async::Executor executor, NativeHost& natives, Hosts* node, std::unique_ptr<ShardHooks> node_hooks, Images& images,
        Images& edits, dns::Router& router, const Clock& clock, event::Log& log);

    bool wants(delivery::Hook hook) const override { return natives_.wants(hook) || (node_ != nullptr && node_->wants(hook)); }
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message) override;
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about) override;
    Task<delivery::AfterBounce> bounce(const delivery::Hearing& about) override;
    // Notifications are put to these before they are queued, as what the API brings is; they outlive us.
    void show_notifications(reception::Hooks& hooks) { inbound_ = &hooks; }
    bool wants_notifications() const override { return inbound_ != nullptr && inbound_->wants(reception::Hook::injected); }
    Task<mail::MessagePtr> notification(mail::MessagePtr message) override;
    void delivered(const delivery::Hearing& about) override;
    mail::MessagePtr edited(ItemId item, mail::MessagePtr message) const override { return with_edits(edits_, item, std::move(message)); }
    void record(ItemId item, bool decided, spool::Batch& batch) override;
    void configure(const config::SettingsPtr& settings);
    void ended(ItemId item) override;

private:
    using Steps = std::vector<Step>;
    struct Planned {
        JavaScriptListenersPtr listeners;
        std::shared_ptr<const Steps> steps;
    };
    // A route to the hosts of an answer, kept for a moment for those that ask the same.
    struct Known {
        queue::RoutePtr route;
        Instant until;
    };
    struct Course;

    std::shared_ptr<const Steps> steps_of(delivery::Hook hook);
    Task<> hear(const NativeListener& listener, const delivery::Hearing& about, NativeReply& reply);
    void note(const NativeListener& listener, ItemId item, const mail::Message& message, const NativeReply& reply, boost::json::object& terms);
    Task<bool> ask_node(const Step& step, const queue::Work& work, const mail::MessagePtr& message, Course& course);
    bool weigh_gate(const NativeListener& listener, const NativeReply& reply, const queue::Work& work, Course& course);
    bool weigh_route(const NativeListener& listener, const NativeReply& reply, const std::string& domain, delivery::Before& before);
    Task<> look_up_route(const NativeListener& listener, const NativeReply& reply, const std::string& domain, delivery::Before& before);
    Task<> obey_terms(const mail::Message& message, ItemId item, Course& course);
    bool weigh_deferral(const NativeListener& listener, const NativeReply& reply, ItemId item, delivery::AfterDeferral& after);

    NativeHost& natives_;
    Hosts* const node_;
    const std::unique_ptr<ShardHooks> node_hooks_;
    Images& images_;  // of notes
    Images& edits_;   // of envelopes
    dns::Router& router_;
    const Clock& clock_;
    event::Log& log_;
    NativeCaller caller_;
    std::array<Planned, delivery::hook_count> plans_;
    absl::flat_hash_map<std::string, Known> routes_;  // by domain and hosts
    std::string route_key_, spare_mx_;                // buffers, for answers that come at once
    reception::Hooks* inbound_ = nullptr;
};

}  // namespace sluice::plugin
