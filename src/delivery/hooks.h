#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "queue/core.h"
#include "spool/spool.h"

namespace sluice::delivery {

struct Attempted;

// The hooks of mail out, in the order of an attempt. `before_attempt` stands for Haraka's send_email and get_mx.
enum class Hook : std::uint8_t { before_attempt, deferred, bounce, delivered };
inline constexpr std::size_t hook_count = 4;

// What plugins say before an attempt. Value.
struct Before {
    enum class What : std::uint8_t { go, later, defer, fail, removed, cancelled } what = What::go;
    queue::RoutePtr route;  // go: null is the route of the domain
    Duration delay{0};      // later: nothing has failed, but it is too early
    std::string text;       // defer, fail: the reason
    std::string by;         // the plugin
    // The recipients that plugins left, when they removed some; that is recorded already. `removed`: they left none.
    std::vector<std::uint32_t> pending = {};
};

// What becomes of the deferred recipients of an attempt. Value.
struct AfterDeferral {
    enum class What : std::uint8_t { usual, later, drop } what = What::usual;
    Duration delay{0};
    std::string by;
    // Those that a plugin removed, whatever becomes of the others; places in Attempted::recipients.
    std::vector<std::size_t> removed = {};
    std::string removed_by = {};
};

// What becomes of the notification of failed recipients. Value.
struct AfterBounce {
    std::optional<std::string> silenced_by;  // this plugin wants none
    mail::MessagePtr notification;           // a plugin wrote it; null: it is as it was
};

// Who is to be heard after an attempt, and about whom. Views live until the answer.
struct Hearing {
    const Attempted& attempted;
    std::span<const std::size_t> places;  // in attempted.recipients and verdicts
    Duration delay{0};                    // deferred: until the next attempt
    Duration since_arrival{0};
    mail::MessagePtr notification = {};   // bounce: what the sender will be told; null: nobody is told anything
};

// What plugins may decide about mail out. Shard-owned, except wants().
//
// A hook that nobody registered must not be called: wants() tells at the cost of one load. Whatever plugins do instead of
// answering, an answer comes in bounded time, with a safe meaning: an attempt that cannot be asked about is deferred, and
// everything else is as if no plugin had been asked.
class Hooks {
public:
    virtual ~Hooks() = default;

    virtual bool wants(Hook hook) const = 0;
    // The message with the envelope that plugins made for this item; nearly always the message itself.
    virtual mail::MessagePtr edited(ItemId item, mail::MessagePtr message) const = 0;
    virtual Task<Before> before_attempt(const queue::Work& work, mail::MessagePtr message) = 0;
    virtual Task<AfterDeferral> deferred(const Hearing& about) = 0;
    virtual Task<AfterBounce> bounce(const Hearing& about) = 0;
    // Whether some plugin is to see notifications before they are queued.
    virtual bool wants_notifications() const = 0;
    // The notification as plugins change it: signed, say. Itself when they do not answer.
    virtual Task<mail::MessagePtr> notification(mail::MessagePtr message) = 0;
    virtual void delivered(const Hearing& about) = 0;
    // The outcome of an attempt is being recorded: adds what plugins noted on the item, or forgets it with the item.
    virtual void record(ItemId item, bool decided, spool::Batch& batch) = 0;
    // After everything else about the item: it has left the queue.
    virtual void ended(ItemId item) = 0;
};

}  // namespace sluice::delivery
