#pragma once

#include <vector>

#include "delivery/hooks.h"
#include "dns/router.h"
#include "event/events.h"
#include "plugin/edits.h"
#include "plugin/hosts.h"
#include "plugin/images.h"
#include "plugin/intake.h"

namespace sluice::plugin {

// What the hooks of a shard work with; everything outlives them.
struct HookSurroundings {
    Hosts& host;
    Images& images;  // of notes
    Images& edits;   // of envelopes: Edit::format()
    dns::Router& router;
    Intake& intake;
    spool::IdSource& ids;
    const Clock& clock;
    event::Recorder& events;
    event::Log& log;
};

// A part of a hook's listeners that the plugin host is asked for, between native plugins; and what comes back. Value.
struct Span {
    std::string text;           // JSON, see plan.h; empty: all of them
    bool decided = false;       // one of them has ended the chain
    boost::json::object terms;  // what they want of this attempt by way of the todo; not obeyed yet, where it is a part
    std::string octets;         // what came in front of the answer
};

// Leaves out of the todo's wishes, with a warning, what is no local address and no name for EHLO.
void check_terms(boost::json::object& terms, ItemId item, event::Log& log);
// The todo's wishes for an attempt, checked, on a copy of the route.
queue::RoutePtr with_terms(const queue::RoutePtr& route, const boost::json::object& terms);
// The domain whose route the mail takes: the todo's, where a plugin changed it.
std::string domain_of(const mail::Message& message, ItemId item, const boost::json::object& terms);
// The message with the envelope that plugins made for this item.
mail::MessagePtr with_edits(const Images& edits, ItemId item, mail::MessagePtr message);

// The hooks of one shard, answered by the plugin host. Shard-owned.
class ShardHooks final : public delivery::Hooks {
public:
    ShardHooks(async::Executor executor, const HookSurroundings& surroundings, config::SettingsPtr settings);
    void configure(config::SettingsPtr settings) { settings_ = std::move(settings); }

    bool wants(delivery::Hook hook) const override { return around_.host.wants(hook); }
    mail::MessagePtr edited(ItemId item, mail::MessagePtr message) const override;
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message) override;
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about) override;
    Task<delivery::AfterBounce> bounce(const delivery::Hearing& about) override;
    // That is for all plugins together: PluginHooks.
    bool wants_notifications() const override { return false; }
    Task<mail::MessagePtr> notification(mail::MessagePtr message) override { co_return message; }
    void delivered(const delivery::Hearing& about) override;
    void record(ItemId item, bool decided, spool::Batch& batch) override;
    void ended(ItemId item) override;

    // The same of a part.
    Task<delivery::Before> before_attempt(const queue::Work& work, mail::MessagePtr message, Span& span);
    Task<delivery::AfterDeferral> deferred(const delivery::Hearing& about, Span& span);
    Task<delivery::AfterBounce> bounce(const delivery::Hearing& about, Span& span);
    void delivered(const delivery::Hearing& about, const Span& span);

private:
    Task<Result<boost::json::object>> ask(
        delivery::Hook hook, ItemId item, std::string text, Span& span, const std::string* content = nullptr);
    Task<> interpret(
        const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span,
        delivery::Before& before);
    Task<> choose_route(
        const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span,
        delivery::Before& before);

    Editing editing_of(
        const boost::json::object& answer, const mail::Message& message, ItemId item,
        const std::vector<std::uint32_t>& recipients) const;
    void keep(ItemId item, const Edit& edit);
    mail::MessagePtr message_for_others(const Editing& editing, const mail::MessagePtr& message, ItemId item) const;
    void keep_parts(const Editing& editing, const mail::Message& original, const mail::Message& message, spool::Batch& batch);
    void forget_parts(const Editing& editing, const mail::Message& message);
    Task<Result<>> record_edits(ItemId item, mail::MessagePtr message, Editing editing, bool decided);
    void tell_divided(ItemId item, const mail::Message& parts) const;
    void tell_unkept(ItemId item, const Editing& editing) const;
    void tell_removed(
        ItemId item, const mail::Message& message, const std::vector<std::uint32_t>& places, const std::string& by) const;

    async::Executor executor_;
    const HookSurroundings around_;
    config::SettingsPtr settings_;
    async::Mailbox<Question*> answers_;
};

}  // namespace sluice::plugin
