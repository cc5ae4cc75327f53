#include "plugin/shard_hooks.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <iterator>
#include <utility>

#include "base/text.h"
#include "delivery/settlement.h"
#include "mail/address.h"
#include "net/address.h"
#include "plugin/facts.h"
#include "plugin/json_members.h"
#include "plugin/notifications.h"
#include "smtp/command.h"

namespace sluice::plugin {
namespace {

using delivery::AfterDeferral;
using delivery::Before;
using delivery::Hook;

constexpr std::size_t reason_bytes_max = 4 * 1024;  // of what plugins say, or what is said of it

// Message::origin of what went to recipients that a plugin added.
constexpr std::string_view added_by = "added by plugin ";
// Of what went to recipients that got an item of their own.
constexpr std::string_view split_by = "split by plugin ";

Before deferral(std::string text, std::string by = {}) {
    Before before;
    before.what = Before::What::defer;
    before.text = text.substr(0, reason_bytes_max);
    before.by = std::move(by);
    return before;
}

// The first item of a message that is a part of another one's; the parts are the last.
std::uint32_t first_part(const Editing& editing, const mail::Message& message) {
    return static_cast<std::uint32_t>(message.items.size() - editing.parts.size());
}

// Who is gone from an item: names, as outcomes and events have them, and places.
std::vector<std::pair<std::string, std::vector<std::uint32_t>>> removals(const Editing& editing, const mail::Message* others) {
    std::vector<std::pair<std::string, std::vector<std::uint32_t>>> found;
    for (const auto& [by, places] : editing.removed) found.emplace_back("plugin " + by, places);
    for (std::size_t part = 0; part < editing.parts.size(); ++part) {
        const auto index = static_cast<std::uint32_t>(first_part(editing, *others) + part);
        found.emplace_back(
            "plugin " + editing.parts[part].by + ", now " + ItemId{others->id, index}.text(), editing.parts[part].places);
    }
    return found;
}

std::string spans_member(const Span& span) { return span.text.empty() ? std::string() : ",\"spans\":" + span.text; }

}  // namespace

void check_terms(boost::json::object& terms, ItemId item, event::Log& log) {
    const auto check = [&](std::string_view name, bool right) {
        if (right) return;
        log.warn(
            "outbound", "what plugins want of an attempt is left out",
            {{"item", item.text()}, {"name", name}, {"value", printable(text_member(terms, name).substr(0, 256))}});
        terms.erase(name);
    };
    const std::string bind = text_member(terms, "bind"), helo = text_member(terms, "helo");
    check("bind", bind.empty() || net::IpAddress::parse(bind));
    check("helo", helo.empty() || smtp::is_hello_name(helo));
}

queue::RoutePtr with_terms(const queue::RoutePtr& route, const boost::json::object& terms) {
    auto changed = std::make_shared<queue::Route>(*route);
    if (terms.contains("force_tls")) changed->transport.force_tls = true;
    if (const std::string helo = text_member(terms, "helo"); !helo.empty()) changed->transport.helo = helo;
    const std::string bind = text_member(terms, "bind");
    if (changed->transport.bind.empty()) changed->transport.bind = bind;
    return changed;
}

std::string domain_of(const mail::Message& message, ItemId item, const boost::json::object& terms) {
    const auto wanted = mail::normalise_domain(text_member(terms, "domain"));
    return wanted ? *wanted : message.items[item.index].domain;
}

ShardHooks::ShardHooks(
    async::Executor executor, const HookSurroundings& surroundings, config::SettingsPtr settings)
    : executor_(executor), around_(surroundings), settings_(std::move(settings)),
      answers_(executor, [](std::vector<Question*>& questions) {
          for (Question* question : questions) question->done.set();
      }) {}

Task<Result<boost::json::object>> ShardHooks::ask(
    Hook hook, ItemId item, std::string text, Span& span, const std::string* content) {
    text += spans_member(span);
    // What native plugins have noted since: it knows the rest.
    if (const std::string noted = around_.images.take_noted(item); !noted.empty()) text += ",\"noted\":" + noted;
    Question question(hook, std::move(text), executor_);
    question.back = &answers_;
    question.content = content;
    around_.host.ask(question);
    co_await question.done.wait();
    span.octets = std::move(question.octets);
    if (question.answer) {
        std::string image = text_member(*question.answer, "image");
        if (!image.empty()) around_.images.set(item, std::move(image));
        const boost::json::value* decided = question.answer->if_contains("decided");
        span.decided = decided != nullptr && decided->is_bool() && decided->get_bool();
    }
    co_return std::move(question.answer);
}

Task<Before> ShardHooks::before_attempt(const queue::Work& work, mail::MessagePtr message) {
    Span whole;
    co_return co_await before_attempt(work, std::move(message), whole);
}

Task<Before> ShardHooks::before_attempt(const queue::Work& work, mail::MessagePtr message, Span& span) {
    auto answer = co_await ask(
        Hook::before_attempt, work.item, attempt_question(work, *message, around_.images.get(work.item), around_.clock), span);
    Before before;
    if (!answer) {
        if (answer.error().code == Errc::cancelled) {
            before.what = Before::What::cancelled;
            co_return before;
        }
        // Nobody but plugins knows where the mail goes; where they have no say about that it may as well go.
        if (!around_.host.routes()) co_return before;
        co_return deferral("no answer from plugins: " + answer.error().detail);
    }
    const std::vector<std::uint32_t>& recipients =
        work.pending.empty() ? message->items[work.item.index].recipients : work.pending;
    Editing editing = editing_of(*answer, *message, work.item, recipients);
    std::vector<std::uint32_t> left;
    std::copy_if(recipients.begin(), recipients.end(), std::back_inserter(left), [&](std::uint32_t place) {
        return !editing.removes(place);
    });
    const bool some_removed = left.size() < recipients.size();
    if (editing.any()) {
        const Result<> recorded = co_await record_edits(work.item, message, std::move(editing), left.empty());
        if (!recorded) co_return deferral("what plugins changed cannot be recorded: " + recorded.error().detail);
    }
    if (left.empty()) {
        before.what = Before::What::removed;
        co_return before;
    }
    co_await interpret(work, *message, *answer, span, before);
    if (some_removed) before.pending = std::move(left);
    co_return before;
}

mail::MessagePtr with_edits(const Images& edits, ItemId item, mail::MessagePtr message) {
    if (edits.empty()) return message;
    return Edit::parse(edits.get(item)).applied(message);
}

// What an answer says, apart from changes.
Task<> ShardHooks::interpret(
    const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span, Before& before) {
    const std::string what = text_member(answer, "what");
    before.by = text_member(answer, "by");
    before.text = text_member(answer, "text").substr(0, reason_bytes_max);
    if (what == "delay") {
        before.what = Before::What::later;
        before.delay = seconds_member(answer, "seconds");
        around_.log.info("outbound", "a plugin puts an item off", {{"item", work.item.text()}, {"plugin", before.by}, {"ms", before.delay.count()}});
    } else if (what == "deny") {
        before.what = Before::What::fail;
    } else if (what == "denysoft" || what == "failed") {
        before.what = Before::What::defer;
    } else {
        co_await choose_route(work, message, answer, span, before);
    }
}

Task<> ShardHooks::choose_route(
    const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span, Before& before) {
    auto hosts = mx_member(answer);
    if (!hosts) {
        before = deferral(hosts.error().detail);
        co_return;
    }
    boost::json::object terms = object_of(answer, "terms");
    check_terms(terms, work.item, around_.log);
    const std::string domain = domain_of(message, work.item, terms);
    const bool in_part = !span.text.empty();
    const bool has_terms = !in_part && !terms.empty();
    if (in_part) span.terms = terms;
    if (hosts->empty() && !has_terms) co_return;
    if (hosts->empty()) {
        auto route = co_await around_.router.resolve(domain);
        // What is wrong with the domain is told as for any other mail.
        if (route) before.route = with_terms(*route, terms);
        co_return;
    }
    const queue::Transport first = hosts->front().transport;
    const auto differs = [&](const dns::Nexthop& host) { return host.transport != first; };
    if (std::erase_if(*hosts, differs) > 0) {
        around_.log.info("outbound", "hosts of get_mx that need another login, protocol or local address than the first are left out", {{"item", work.item.text()}});
    }
    auto route = co_await around_.router.to_hosts(domain, std::move(*hosts));
    if (!route) {
        before = deferral("no way to the hosts that a plugin named: " + route.error().detail);
        if (route.error().code == Errc::cancelled) before.what = Before::What::cancelled;
        co_return;
    }
    before.route = has_terms ? with_terms(*route, terms) : std::move(*route);
}

Task<AfterDeferral> ShardHooks::deferred(const delivery::Hearing& about) {
    Span whole;
    co_return co_await deferred(about, whole);
}

Task<AfterDeferral> ShardHooks::deferred(const delivery::Hearing& about, Span& span) {
    const delivery::Attempted& attempted = about.attempted;
    const ItemId item = attempted.work.item;
    const auto answer =
        co_await ask(Hook::deferred, item, hearing_question(Hook::deferred, about, around_.images.get(item), around_.clock), span);
    AfterDeferral after;
    if (!answer) co_return after;
    const std::string what = text_member(*answer, "what");
    after.by = text_member(*answer, "by");
    after.delay = seconds_member(*answer, "seconds");
    if (what == "delay") after.what = AfterDeferral::What::later;
    if (what == "drop") after.what = AfterDeferral::What::drop;

    std::vector<std::uint32_t> recipients;
    recipients.reserve(about.places.size());
    for (const std::size_t place : about.places) recipients.push_back(attempted.recipients[place]);
    Editing editing = editing_of(*answer, *attempted.message, item, recipients);
    editing.parts.clear();  // the host offers them before an attempt only
    // The settlement records what is removed, with all else that became of the attempt.
    for (const std::size_t place : about.places) {
        if (editing.removes(attempted.recipients[place])) after.removed.push_back(place);
    }
    if (!editing.removed.empty()) after.removed_by = editing.removed.begin()->first;
    editing.removed.clear();
    if (editing.added.empty()) {
        keep(item, editing.edit);
    } else {
        const Result<> recorded = co_await record_edits(item, attempted.message, std::move(editing), false);
        if (!recorded) {
            around_.log.warn(
                "outbound", "what plugins changed cannot be recorded", {{"item", item.text()}, {"reason", recorded.error().text()}});
        }
    }
    co_return after;
}

Task<delivery::AfterBounce> ShardHooks::bounce(const delivery::Hearing& about) {
    Span whole;
    co_return co_await bounce(about, whole);
}

Task<delivery::AfterBounce> ShardHooks::bounce(const delivery::Hearing& about, Span& span) {
    const ItemId item = about.attempted.work.item;
    const std::string* const content = about.notification == nullptr ? nullptr : &about.notification->content;
    const auto answer = co_await ask(
        Hook::bounce, item, hearing_question(Hook::bounce, about, around_.images.get(item), around_.clock), span, content);
    delivery::AfterBounce after;
    if (!answer) co_return after;
    if (text_member(*answer, "what") == "silent") {
        after.silenced_by = text_member(*answer, "by");
    } else if (content != nullptr && text_member(*answer, "changed") == "all" && !span.octets.empty()) {
        reception::Answer written;
        written.changed = reception::Answer::Changed::all;
        written.octets = std::move(span.octets);
        after.notification = rewritten(about.notification, std::move(written), around_.log);
    }
    co_return after;
}

void ShardHooks::delivered(const delivery::Hearing& about) { delivered(about, Span()); }

void ShardHooks::delivered(const delivery::Hearing& about, const Span& span) {
    const ItemId item = about.attempted.work.item;
    around_.host.tell(
        R"({"t":"hook",)" + hearing_question(Hook::delivered, about, around_.images.get(item), around_.clock) + spans_member(span) + "}");
}

void ShardHooks::ended(ItemId item) { around_.host.forget(item); }

void ShardHooks::record(ItemId item, bool decided, spool::Batch& batch) {
    around_.images.record(item, decided, batch);
    around_.edits.record(item, decided, batch);
}

// ---- envelopes -------------------------------------------------------------------------------------------------

mail::MessagePtr ShardHooks::edited(ItemId item, mail::MessagePtr message) const {
    return with_edits(around_.edits, item, std::move(message));
}

Editing ShardHooks::editing_of(
    const boost::json::object& answer, const mail::Message& message, ItemId item,
    const std::vector<std::uint32_t>& recipients) const {
    Editing editing = editing_member(answer, recipients);
    if (!editing.added.empty() && message.origin.starts_with(added_by)) {
        editing.added.clear();
        editing.problems.emplace_back("recipients that a plugin added add none themselves");
    }
    for (const std::string& problem : editing.problems) {
        around_.log.warn(
            "outbound", "what plugins changed of an envelope is left out", {{"item", item.text()}, {"reason", problem}});
    }
    return editing;
}

void ShardHooks::keep(ItemId item, const Edit& edit) {
    if (!edit.any()) return;
    Edit all = Edit::parse(around_.edits.get(item));
    all.add(edit);
    std::string text = all.format();
    if (text.size() > edit_bytes_max) {
        around_.log.warn("outbound", "what plugins changed of an envelope is too much to keep", {{"item", item.text()}});
        return;
    }
    around_.edits.set(item, std::move(text));
}

// The same message for those whom plugins added, and with an item for each part; it goes its own way. Parts do not become younger.
mail::MessagePtr ShardHooks::message_for_others(const Editing& editing, const mail::MessagePtr& message, ItemId item) const {
    if (editing.added.empty() && editing.parts.empty()) return nullptr;
    auto copy = std::make_shared<mail::Message>(*editing.edit.applied(message));
    copy->id = around_.ids.next();
    if (editing.parts.empty()) copy->arrival = around_.clock.now();
    if (!editing.added.empty()) {
        copy->origin = std::string(added_by) + editing.added_by;
    } else if (!message->origin.starts_with(added_by)) {
        copy->origin = std::string(split_by) + editing.parts.front().by;
    }
    copy->envelope.recipients.clear();
    for (const mail::Address& address : editing.added) {
        copy->envelope.recipients.emplace_back().address = address;
        copy->envelope.smtputf8 = copy->envelope.smtputf8 || address.needs_utf8();
    }
    copy->items = mail::split_items(copy->envelope.recipients, settings_->outbound.always_split);
    for (const Part& part : editing.parts) {
        mail::ItemSpec& spec = copy->items.emplace_back();
        spec.domain = message->items[item.index].domain;
        for (const std::uint32_t place : part.places) {
            spec.recipients.push_back(static_cast<std::uint32_t>(copy->envelope.recipients.size()));
            copy->envelope.recipients.push_back(message->envelope.recipients[place]);
        }
    }
    return copy;
}

// What is different for the parts, under the names that they have in `message`.
void ShardHooks::keep_parts(
    const Editing& editing, const mail::Message& original, const mail::Message& message, spool::Batch& batch) {
    std::uint32_t index = first_part(editing, message);
    for (const Part& part : editing.parts) {
        const ItemId item{message.id, index};
        Edit edit;
        edit.reverse_path = part.edit.reverse_path;
        // Nor is what the others' sender has become theirs.
        if (!edit.reverse_path && editing.edit.reverse_path) edit.reverse_path = original.envelope.reverse_path;
        for (std::size_t at = 0; at < part.places.size(); ++at) {
            const auto changed = part.edit.recipients.find(part.places[at]);
            if (changed != part.edit.recipients.end()) edit.recipients[message.items[index].recipients[at]] = changed->second;
        }
        keep(item, edit);
        if (!part.image.empty()) around_.images.set(item, part.image);
        record(item, false, batch);
        ++index;
    }
}

void ShardHooks::forget_parts(const Editing& editing, const mail::Message& message) {
    for (std::uint32_t index = first_part(editing, message); index < message.items.size(); ++index) {
        around_.images.forget({message.id, index});
        around_.edits.forget({message.id, index});
    }
}

// All that an answer changed, in one batch: whoever was added, or is to have an item of its own, gets the message exactly when
// the change is kept.
Task<Result<>> ShardHooks::record_edits(ItemId item, mail::MessagePtr message, Editing editing, bool decided) {
    const std::string image = around_.images.get(item);
    const std::string edit_before = around_.edits.get(item);
    keep(item, editing.edit);
    spool::Batch batch;
    const mail::MessagePtr others = message_for_others(editing, message, item);
    const auto removed = removals(editing, others.get());
    for (const auto& [by, places] : removed) {
        batch.emplace_back(spool::OutcomeRecord{item, spool::Outcome::removed, places, around_.clock.now(), by});
    }
    record(item, decided, batch);
    if (!editing.parts.empty()) {
        keep_parts(editing, *message, *others, batch);
        tell_divided(item, *others);
    }
    const Result<> taken = co_await around_.intake.take(others, std::move(batch));
    if (!taken) {
        around_.images.restore(item, image);
        around_.edits.restore(item, edit_before);
        if (!editing.parts.empty()) forget_parts(editing, *others);
        tell_unkept(item, editing);
        co_return taken;
    }
    for (const auto& [by, places] : removed) tell_removed(item, *message, places, by);
    if (others != nullptr) {
        const event::Accepted fact{.message = *others, .client = others->origin};
        around_.events.record(fact);
    }
    co_return taken;
}

void ShardHooks::tell_removed(
    ItemId item, const mail::Message& message, const std::vector<std::uint32_t>& places, const std::string& by) const {
    event::Removed fact{event::ItemFact{.message = message, .item = item, .recipients = places}};
    fact.by = by;
    fact.since_arrival = around_.clock.now() - message.arrival;
    around_.events.record(fact);
}

// The live notes of a message are those of its parts.
void ShardHooks::tell_divided(ItemId item, const mail::Message& parts) const {
    const boost::json::object told{{"t", "divided"}, {"item", item.text()}, {"message", parts.id.text()}};
    around_.host.report(boost::json::serialize(told));
}

// The host gives its todo back whom it would otherwise take for kept.
void ShardHooks::tell_unkept(ItemId item, const Editing& editing) const {
    if (editing.added.empty()) return;
    boost::json::array added;
    for (const mail::Address& address : editing.added) added.emplace_back("<" + address.text() + ">");
    const boost::json::object message{{"t", "unkept"}, {"item", item.text()}, {"added", std::move(added)}};
    around_.host.report(boost::json::serialize(message));
}

}  // namespace sluice::plugin
