#include "plugin/notifications.h"

#include <utility>

#include "reception/revision.h"

namespace sluice::plugin {

using reception::Answer;

Task<mail::MessagePtr> show_notification(reception::Hooks& hooks, mail::MessagePtr message, event::Log& log) {
    const std::string content = message->trace + message->content;
    reception::Occasion about;
    about.transaction.emplace().envelope = &message->envelope;
    about.content = &content;
    about.message = message->id;
    Answer answer = co_await hooks.ask(reception::Hook::injected, about);
    if (answer.what == Answer::What::go_on) co_return rewritten(message, std::move(answer), log);
    log.warn(
        "plugins", "a notification is sent as it is, because plugins do not answer", {{"message", message->id.text()}});
    co_return message;
}

mail::MessagePtr rewritten(const mail::MessagePtr& notification, Answer answer, event::Log& log) {
    if (answer.mail_from || answer.rcpt_to) {
        log.warn("plugins", "what plugins changed of a notification's envelope is left out", {{"message", notification->id.text()}});
        answer.mail_from.reset();
        answer.rcpt_to.reset();
    }
    const auto revised = reception::revise(*notification, std::move(answer), false);
    return revised ? *revised : notification;
}

}  // namespace sluice::plugin
