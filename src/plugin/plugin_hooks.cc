#include "plugin/plugin_hooks.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "delivery/settlement.h"
#include "plugin/facts.h"
#include "plugin/notifications.h"

namespace sluice::plugin {
namespace {

using delivery::AfterDeferral;
using delivery::Before;
using delivery::Hearing;
using delivery::Hook;
using namespace std::chrono_literals;

constexpr std::size_t known_routes_max = 10'000;
constexpr Duration known_for = 5s;  // so long a route may outlive a change of the settings

void defer(Before& before, std::string text, const std::string& by) {
    before.what = Before::What::defer;
    before.text = std::move(text);
    before.by = by;
}

}  // namespace

// Where the plugins' answers about an attempt have led so far.
struct PluginHooks::Course {
    Before before;
    boost::json::object terms;
    bool gate_passed = false;  // send_email is decided
    std::vector<std::uint32_t> left;  // the recipients that plugins left, when they removed some
    // The same for native plugins: what JavaScript plugins before them have changed.
    mail::MessagePtr edited;
    std::optional<queue::Work> fewer;
};

PluginHooks::PluginHooks(
    async::Executor executor, NativeHost& natives, Hosts* node, std::unique_ptr<ShardHooks> node_hooks, Images& images, Images& edits,
    dns::Router& router, const Clock& clock, event::Log& log)
    : natives_(natives), node_(node), node_hooks_(std::move(node_hooks)), images_(images), edits_(edits), router_(router),
      clock_(clock), log_(log), caller_(executor, natives) {}

std::shared_ptr<const PluginHooks::Steps> PluginHooks::steps_of(Hook hook) {
    Planned& planned = plans_[static_cast<std::size_t>(hook)];
    JavaScriptListenersPtr listeners = node_ == nullptr ? nullptr : node_->listeners();
    if (planned.steps == nullptr || planned.listeners != listeners) {
        planned.steps = std::make_shared<const Steps>(plan(hook, natives_, listeners.get()));
        planned.listeners = std::move(listeners);
    }
    return planned.steps;
}

// ---- one native plugin -----------------------------------------------------------------------------------------

// After an attempt, where nobody counts microseconds.
Task<> PluginHooks::hear(const NativeListener& listener, const Hearing& about, NativeReply& reply) {
    const ItemId item = about.attempted.work.item;
    NativeItemEvent event(listener.number, about, images_.get(item), clock_);
    co_await caller_.ask(listener, event, reply);
    boost::json::object ignored;
    note(listener, item, *about.attempted.message, reply, ignored);
}

// Keeps what a plugin notes on the item, and sees what of it concerns this attempt.
void PluginHooks::note(
    const NativeListener& listener, ItemId item, const mail::Message& message, const NativeReply& reply, boost::json::object& terms) {
    if (reply.force_tls) terms["force_tls"] = true;
    if (reply.notes.empty()) return;
    auto notes = reply.noted();
    if (notes && !images_.note(item, message.notes, *notes)) {
        notes = fail(Errc::too_large, "more than 64 Ki characters of notes for one item");
    }
    if (!notes) {
        log_.warn(
            "plugins", "notes of a native plugin are not kept",
            {{"plugin", listener.module->listed.name}, {"item", item.text()}, {"reason", notes.error().detail}});
        return;
    }
    if (const std::string bind = text_member(*notes, "outbound_ip"); !bind.empty()) terms["bind"] = bind;
    if (const std::string helo = text_member(*notes, "outbound_helo"); !helo.empty()) terms["helo"] = helo;
}

// ---- before an attempt -----------------------------------------------------------------------------------------

Task<Before> PluginHooks::before_attempt(const queue::Work& work, mail::MessagePtr message) {
    const auto steps = steps_of(Hook::before_attempt);
    if (steps->size() == 1 && steps->front().native == nullptr && steps->front().spans.empty()) {
        co_return co_await node_hooks_->before_attempt(work, std::move(message));
    }
    const std::string& domain = message->items[work.item.index].domain;
    Course course;
    for (const Step& step : *steps) {
        if (step.native == nullptr) {
            const bool over = co_await ask_node(step, work, message, course);
            if (over) break;
            continue;
        }
        const NativeListener& listener = *step.native;
        if (step.number == SLUICE_HOOK_SEND_EMAIL && course.gate_passed) continue;
        NativeItemEvent event(
            course.fewer ? *course.fewer : work, course.edited ? course.edited : message, images_.get(work.item), clock_);
        NativeReply reply;
        reply.mx.swap(spare_mx_);
        const std::unique_ptr<NativeQuestion> question = caller_.begin(listener, event, reply);
        if (question != nullptr) co_await caller_.wait(*question, reply);
        caller_.tell_silence(listener, event, reply);
        if (reply.cancelled) {
            course.before.what = Before::What::cancelled;
            break;
        }
        note(listener, work.item, *message, reply, course.terms);
        if (step.number == SLUICE_HOOK_SEND_EMAIL) {
            if (weigh_gate(listener, reply, work, course)) break;
            continue;
        }
        if (reply.in_time && reply.code == SLUICE_CONT) continue;
        const bool known = weigh_route(listener, reply, domain, course.before);
        if (!known) co_await look_up_route(listener, reply, domain, course.before);
        spare_mx_.swap(reply.mx);
        break;
    }
    if (course.before.what == Before::What::go && !course.terms.empty()) co_await obey_terms(*message, work.item, course);
    course.before.pending = std::move(course.left);
    co_return std::move(course.before);
}

// What send_email says; whether nobody else is asked about the attempt.
bool PluginHooks::weigh_gate(const NativeListener& listener, const NativeReply& reply, const queue::Work& work, Course& course) {
    if (!reply.in_time || reply.code == SLUICE_CONT) return false;
    course.gate_passed = true;
    if (reply.code != SLUICE_DELAY) return false;
    const std::string& name = listener.module->listed.name;
    if (reply.delay <= Duration(0)) {
        log_.warn("plugins", "a plugin answered send_email with DELAY and no time: the mail is sent now", {{"plugin", name}});
        return false;
    }
    course.before.what = Before::What::later;
    course.before.delay = reply.delay;
    course.before.by = name;
    log_.info("outbound", "a plugin puts an item off", {{"item", work.item.text()}, {"plugin", name}, {"ms", reply.delay.count()}});
    return true;
}

// The plugin host's part. Whether nobody else is asked about the attempt.
Task<bool> PluginHooks::ask_node(const Step& step, const queue::Work& work, const mail::MessagePtr& message, Course& course) {
    const bool routes = step.spans.find("\"get_mx\"") != std::string::npos;
    if (!routes && course.gate_passed) co_return false;
    Span span;
    span.text = step.spans;
    queue::Work asked = work;
    if (!course.left.empty()) asked.pending = course.left;
    Before before = co_await node_hooks_->before_attempt(asked, message, span);
    for (const auto& [name, value] : span.terms) course.terms[name] = value;
    if (!before.pending.empty()) course.left = before.pending;
    course.edited = with_edits(edits_, work.item, message);
    if (!course.left.empty()) course.fewer.emplace(work).pending = course.left;
    if (before.what != Before::What::go || before.route != nullptr) {
        course.before = std::move(before);
        co_return true;
    }
    if (span.decided && !routes) course.gate_passed = true;
    co_return span.decided && routes;
}

// What get_mx says, when it says something, or does not answer. False: its hosts have to be looked up.
bool PluginHooks::weigh_route(
    const NativeListener& listener, const NativeReply& reply, const std::string& domain, Before& before) {
    const std::string& name = listener.module->listed.name;
    if (!reply.in_time) {
        defer(before, "plugin timeout", name);
    } else if (reply.denies_for_now()) {
        defer(before, reply.reason.empty() ? "no route now" : reply.reason, name);
    } else if (reply.denies()) {
        before.what = Before::What::fail;
        before.text = reply.reason.empty() ? "no route" : reply.reason;
        before.by = name;
    } else if (reply.code == SLUICE_OK) {
        route_key_.assign(domain).append(1, '\0').append(reply.mx);
        const auto known = routes_.find(route_key_);
        if (known == routes_.end() || clock_.now() >= known->second.until) return false;
        before.route = known->second.route;
    }
    return true;
}

Task<> PluginHooks::look_up_route(
    const NativeListener& listener, const NativeReply& reply, const std::string& domain, Before& before) {
    const std::string& name = listener.module->listed.name;
    std::string key = route_key_;
    auto hosts = reply.hosts();
    if (!hosts) co_return defer(before, hosts.error().detail, name);
    const queue::Transport first = hosts->front().transport;
    std::erase_if(*hosts, [&](const dns::Nexthop& host) { return host.transport != first; });
    auto route = co_await router_.to_hosts(domain, std::move(*hosts));
    if (!route) {
        defer(before, "no way to the hosts that a plugin named: " + route.error().detail, name);
        if (route.error().code == Errc::cancelled) before.what = Before::What::cancelled;
        co_return;
    }
    before.route = *route;
    if (routes_.size() >= known_routes_max) routes_.clear();
    routes_[std::move(key)] = Known{*route, std::min((*route)->expires, clock_.now() + known_for)};
}

// Applies what plugins want of this attempt, whoever chose its route.
Task<> PluginHooks::obey_terms(const mail::Message& message, ItemId item, Course& course) {
    check_terms(course.terms, item, log_);
    if (course.terms.empty()) co_return;
    if (course.before.route == nullptr) {
        auto route = co_await router_.resolve(domain_of(message, item, course.terms));
        // What is wrong with the domain is told as for any other mail.
        if (!route) co_return;
        course.before.route = std::move(*route);
    }
    course.before.route = with_terms(course.before.route, course.terms);
}

// ---- after an attempt ------------------------------------------------------------------------------------------

Task<AfterDeferral> PluginHooks::deferred(const Hearing& about) {
    const ItemId item = about.attempted.work.item;
    const auto steps = steps_of(Hook::deferred);
    AfterDeferral after;
    for (const Step& step : *steps) {
        if (step.native == nullptr) {
            Span span;
            span.text = step.spans;
            AfterDeferral part = co_await node_hooks_->deferred(about, span);
            part.removed.insert(part.removed.end(), after.removed.begin(), after.removed.end());
            if (part.removed_by.empty()) part.removed_by = after.removed_by;
            after = std::move(part);
            if (span.decided || after.what != AfterDeferral::What::usual) break;
            continue;
        }
        NativeReply reply;
        co_await hear(*step.native, about, reply);
        if (weigh_deferral(*step.native, reply, item, after)) break;
    }
    co_return after;
}

// Whether the chain ends here.
bool PluginHooks::weigh_deferral(const NativeListener& listener, const NativeReply& reply, ItemId item, AfterDeferral& after) {
    if (!reply.in_time || reply.code == SLUICE_CONT) return reply.cancelled;
    after.by = listener.module->listed.name;
    if (!reply.denies_for_now()) {
        after.what = AfterDeferral::What::drop;
    } else if (reply.delay > Duration(0)) {
        after.what = AfterDeferral::What::later;
        after.delay = reply.delay;
    } else {
        log_.warn(
            "plugins", "a plugin answered deferred with DENYSOFT and no time: the usual delay is used",
            {{"item", item.text()}, {"plugin", after.by}});
    }
    return true;
}

Task<delivery::AfterBounce> PluginHooks::bounce(const Hearing& about) {
    const auto steps = steps_of(Hook::bounce);
    delivery::AfterBounce after;
    for (const Step& step : *steps) {
        if (step.native == nullptr) {
            Span span;
            span.text = step.spans;
            delivery::AfterBounce part = co_await node_hooks_->bounce(about, span);
            if (part.silenced_by) co_return part;
            if (part.notification) after.notification = std::move(part.notification);
            continue;
        }
        NativeReply reply;
        co_await hear(*step.native, about, reply);
        if (reply.cancelled) break;
        if (!reply.in_time || reply.code == SLUICE_CONT) continue;
        after.silenced_by = step.native->module->listed.name;
        break;
    }
    co_return after;
}

Task<mail::MessagePtr> PluginHooks::notification(mail::MessagePtr message) {
    if (!wants_notifications()) co_return message;
    co_return co_await show_notification(*inbound_, std::move(message), log_);
}

// Nobody waits for what the plugin host says, so its part cannot end the chain.
void PluginHooks::delivered(const Hearing& about) {
    const ItemId item = about.attempted.work.item;
    const auto steps = steps_of(Hook::delivered);
    boost::json::object ignored;
    for (const Step& step : *steps) {
        if (step.native == nullptr) {
            Span span;
            span.text = step.spans;
            node_hooks_->delivered(about, span);
            continue;
        }
        NativeItemEvent event(SLUICE_HOOK_DELIVERED, about, images_.get(item), clock_);
        if (step.native->may_block) {
            natives_.call_elsewhere(*step.native, event, 0);
            continue;
        }
        sluice_call call;
        const std::int32_t code = natives_.call(*step.native, call, event);
        note(*step.native, item, *about.attempted.message, call.reply, ignored);
        if (code != SLUICE_CONT && code != SLUICE_PENDING) break;
    }
}

void PluginHooks::record(ItemId item, bool decided, spool::Batch& batch) {
    images_.record(item, decided, batch);
    edits_.record(item, decided, batch);
}

void PluginHooks::configure(const config::SettingsPtr& settings) {
    if (node_hooks_ != nullptr) node_hooks_->configure(settings);
}

void PluginHooks::ended(ItemId item) {
    // A native plugin may have noted something on a delivery that was the last.
    images_.forget(item);
    if (node_hooks_ != nullptr) node_hooks_->ended(item);
}

}  // namespace sluice::plugin
