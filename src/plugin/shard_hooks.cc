#include "plugin/shard_hooks.h"

#include <utility>

#include "delivery/settlement.h"
#include "plugin/facts.h"

namespace sluice::plugin {
namespace {

using delivery::AfterDeferral;
using delivery::Before;
using delivery::Hook;

Before deferral(std::string text, std::string by = {}) {
    Before before;
    before.what = Before::What::defer;
    before.text = std::move(text);
    before.by = std::move(by);
    return before;
}

std::string spans_member(const Span& span) { return span.text.empty() ? std::string() : ",\"spans\":" + span.text; }

}  // namespace

queue::RoutePtr with_terms(const queue::RoutePtr& route, const boost::json::object& terms) {
    auto changed = std::make_shared<queue::Route>(*route);
    if (terms.contains("force_tls")) changed->transport.force_tls = true;
    if (const std::string helo = text_member(terms, "helo"); !helo.empty()) changed->transport.helo = helo;
    const std::string bind = text_member(terms, "bind");
    if (changed->transport.bind.empty()) changed->transport.bind = bind;
    return changed;
}

ShardHooks::ShardHooks(
    async::Executor executor, NodeHost& host, Images& images, dns::Router& router, const Clock& clock, event::Log& log)
    : executor_(executor), host_(host), images_(images), router_(router), clock_(clock), log_(log),
      answers_(executor, [](std::vector<Question*>& questions) {
          for (Question* question : questions) question->done.set();
      }) {}

Task<Result<boost::json::object>> ShardHooks::ask(Hook hook, ItemId item, std::string text, Span& span) {
    text += spans_member(span);
    // What native plugins have noted since: it knows the rest.
    if (const std::string noted = images_.take_noted(item); !noted.empty()) text += ",\"noted\":" + noted;
    Question question(hook, std::move(text), executor_);
    question.back = &answers_;
    host_.ask(question);
    co_await question.done.wait();
    if (question.answer) {
        std::string image = text_member(*question.answer, "image");
        if (!image.empty()) images_.set(item, std::move(image));
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
        Hook::before_attempt, work.item, attempt_question(work, *message, images_.get(work.item), clock_), span);
    Before before;
    if (!answer) {
        if (answer.error().code == Errc::cancelled) {
            before.what = Before::What::cancelled;
            co_return before;
        }
        // Nobody but plugins knows where the mail goes; where they have no say about that it may as well go.
        if (!host_.routes()) co_return before;
        co_return deferral("no answer from plugins: " + answer.error().detail);
    }
    const std::string what = text_member(*answer, "what");
    before.by = text_member(*answer, "by");
    before.text = text_member(*answer, "text");
    if (what == "delay") {
        before.what = Before::What::later;
        before.delay = seconds_member(*answer, "seconds");
        log_.info("outbound", "a plugin puts an item off", {{"item", work.item.text()}, {"plugin", before.by}, {"ms", before.delay.count()}});
    } else if (what == "deny") {
        before.what = Before::What::fail;
    } else if (what == "denysoft" || what == "failed") {
        before.what = Before::What::defer;
    } else {
        co_await choose_route(work, *message, *answer, span, before);
    }
    co_return before;
}

Task<> ShardHooks::choose_route(
    const queue::Work& work, const mail::Message& message, const boost::json::object& answer, Span& span, Before& before) {
    const std::string domain = message.items[work.item.index].domain;
    auto hosts = mx_member(answer);
    if (!hosts) {
        before = deferral(hosts.error().detail);
        co_return;
    }
    const boost::json::value* terms = answer.if_contains("terms");
    const bool in_part = !span.text.empty();
    if (in_part && terms != nullptr && terms->is_object()) span.terms = terms->get_object();
    const bool has_terms = !in_part && terms != nullptr && terms->is_object() && !terms->get_object().empty();
    if (hosts->empty() && !has_terms) co_return;
    if (hosts->empty()) {
        auto route = co_await router_.resolve(domain);
        // What is wrong with the domain is told as for any other mail.
        if (route) before.route = with_terms(*route, terms->get_object());
        co_return;
    }
    const queue::Transport first = hosts->front().transport;
    const auto differs = [&](const dns::Nexthop& host) { return host.transport != first; };
    if (std::erase_if(*hosts, differs) > 0) {
        log_.info("outbound", "hosts of get_mx that need another login, protocol or local address than the first are left out", {{"item", work.item.text()}});
    }
    auto route = co_await router_.to_hosts(domain, std::move(*hosts));
    if (!route) {
        before = deferral("no way to the hosts that a plugin named: " + route.error().detail);
        if (route.error().code == Errc::cancelled) before.what = Before::What::cancelled;
        co_return;
    }
    before.route = has_terms ? with_terms(*route, terms->get_object()) : std::move(*route);
}

Task<AfterDeferral> ShardHooks::deferred(const delivery::Hearing& about) {
    Span whole;
    co_return co_await deferred(about, whole);
}

Task<AfterDeferral> ShardHooks::deferred(const delivery::Hearing& about, Span& span) {
    const ItemId item = about.attempted.work.item;
    const auto answer =
        co_await ask(Hook::deferred, item, hearing_question(Hook::deferred, about, images_.get(item), clock_), span);
    AfterDeferral after;
    if (!answer) co_return after;
    const std::string what = text_member(*answer, "what");
    after.by = text_member(*answer, "by");
    after.delay = seconds_member(*answer, "seconds");
    if (what == "delay") after.what = AfterDeferral::What::later;
    if (what == "drop") after.what = AfterDeferral::What::drop;
    co_return after;
}

Task<std::optional<std::string>> ShardHooks::bounce(const delivery::Hearing& about) {
    Span whole;
    co_return co_await bounce(about, whole);
}

Task<std::optional<std::string>> ShardHooks::bounce(const delivery::Hearing& about, Span& span) {
    const ItemId item = about.attempted.work.item;
    const auto answer =
        co_await ask(Hook::bounce, item, hearing_question(Hook::bounce, about, images_.get(item), clock_), span);
    if (!answer || text_member(*answer, "what") != "silent") co_return std::nullopt;
    co_return text_member(*answer, "by");
}

void ShardHooks::delivered(const delivery::Hearing& about) { delivered(about, Span()); }

void ShardHooks::delivered(const delivery::Hearing& about, const Span& span) {
    const ItemId item = about.attempted.work.item;
    host_.tell(
        R"({"t":"hook",)" + hearing_question(Hook::delivered, about, images_.get(item), clock_) + spans_member(span) + "}");
}

void ShardHooks::ended(ItemId item) { host_.forget(item); }

void ShardHooks::record(ItemId item, bool decided, spool::Batch& batch) {
    images_.record(item, decided, batch);
}

}  // namespace sluice::plugin
