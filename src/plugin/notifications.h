#pragma once

#include "event/log.h"
#include "mail/message.h"
#include "reception/hooks.h"

// What plugins see and make of notifications (RFC 3464) before they are queued.
namespace sluice::plugin {

// Shows it to whoever listens to pre_send_trans_email. Gives what they made of it; itself when they do not answer: whatever keeps
// them from it, the sender is told.
Task<mail::MessagePtr> show_notification(reception::Hooks& hooks, mail::MessagePtr message, event::Log& log);

// With the content that plugins gave it. Its envelope is not theirs: a notification with a sender could come back for ever.
mail::MessagePtr rewritten(const mail::MessagePtr& notification, reception::Answer answer, event::Log& log);

}  // namespace sluice::plugin
