#include "plugin/calls.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "plugin/facts.h"

namespace sluice::plugin {
namespace {

using boost::json::object;

constexpr std::size_t recipients_max = 100'000;  // above, nothing is read at all; the settings' limit is told as such
constexpr std::string_view deny = "deny", denysoft = "denysoft", ok = "ok";

reception::Injection injection_of(const object& message) {
    reception::Injection injection;
    injection.reverse_path = text_member(message, "from");
    const boost::json::value* to = message.if_contains("to");
    if (to != nullptr && to->is_array() && to->get_array().size() <= recipients_max) {
        for (const boost::json::value& one : to->get_array()) {
            injection.recipients.emplace_back(one.is_string() ? std::string(one.get_string()) : std::string());
        }
    }
    const boost::json::value* notes = message.if_contains("notes");
    if (notes != nullptr && notes->is_object() && !notes->get_object().empty()) injection.notes = boost::json::serialize(*notes);
    injection.origin = "plugin " + text_member(message, "origin");
    // Plugins send again what came from anywhere.
    injection.strict_header = false;
    return injection;
}

std::string sentence(const std::vector<reception::FieldError>& errors) {
    std::string text;
    for (const reception::FieldError& error : errors) {
        if (!text.empty()) text += "; ";
        text.append(error.field).append(": ").append(error.reason);
    }
    return text;
}

}  // namespace

Calls::Calls(const Surroundings& surroundings, config::SettingsPtr settings, async::TaskGroup& tasks, Send send)
    : around_(surroundings), settings_(std::move(settings)), tasks_(tasks), send_(std::move(send)) {}

void Calls::begin(const object& message) {
    const boost::json::value* id = message.if_contains("id");
    if (id == nullptr || !id->is_int64()) return;
    const auto request = static_cast<std::uint32_t>(id->get_int64());
    open_.erase(request);
    if (open_.size() + under_way_ >= at_once_max) return refuse(request, denysoft, "too many messages at once");
    if (const auto refusal = around_.intake.refusal()) return refuse(request, denysoft, *refusal);
    open_.emplace(request, injection_of(message));
}

void Calls::octets(const Octets& piece) {
    const auto found = open_.find(piece.request);
    if (found == open_.end()) return;  // refused already
    std::string& content = found->second.content;
    const std::uint64_t size_max = settings_.get()->connection.message_bytes_max;
    if (size_max != 0 && content.size() + piece.octets.size() > size_max) {
        return refuse(piece.request, deny, "the message is larger than " + std::to_string(size_max) + " octets");
    }
    if (const auto no_room = around_.intake.no_room_after(piece.octets.size())) {
        return refuse(piece.request, denysoft, *no_room);
    }
    content.append(piece.octets);
    if (!piece.last) return;
    reception::Injection injection = std::move(found->second);
    open_.erase(found);
    ++under_way_;
    tasks_.spawn(take(piece.request, std::move(injection), host_));
}

void Calls::host_ended() {
    open_.clear();
    ++host_;
}

Task<> Calls::take(std::uint32_t request, reception::Injection injection, std::uint64_t host) {
    const auto made = reception::make_message(std::move(injection), *settings_.get(), around_.clock, around_.ids);
    if (!made) {
        --under_way_;
        co_return tell(request, host, deny, sentence(made.error()));
    }
    const mail::MessagePtr& message = *made;
    // Before a hook can be asked about it, so that its live notes are found.
    if (host == host_) {
        const object name{{"t", "named"}, {"id", request}, {"message", message->id.text()}, {"items", message->items.size()}};
        send_(boost::json::serialize(name));
    }
    spool::Batch none;
    const Result<> taken = co_await around_.intake.take(message, std::move(none));
    --under_way_;
    if (!taken) co_return tell(request, host, denysoft, taken.error().text());
    const event::Accepted fact{
        .message = *message, .client = message->origin, .took = around_.clock.now() - message->arrival};
    around_.events.record(fact);
    tell(request, host, ok, message->id.text());
}

void Calls::tell(std::uint32_t request, std::uint64_t host, std::string_view code, std::string_view text) {
    if (host != host_) return;
    const object answer{{"t", "injected"}, {"id", request}, {"code", std::string(code)}, {"text", std::string(text)}};
    send_(boost::json::serialize(answer));
}

void Calls::refuse(std::uint32_t request, std::string_view code, std::string_view text) {
    open_.erase(request);
    tell(request, host_, code, text);
}

}  // namespace sluice::plugin
