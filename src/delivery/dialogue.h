#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "delivery/stage.h"
#include "event/log.h"
#include "net/stream.h"
#include "smtp/reply.h"

namespace sluice::delivery {

// Our side of a conversation with one peer: commands go out, replies come in, each phase with its own deadline
// (RFC 5321 §4.5.3.2), every line shown at level `protocol`. Shard-owned; one coroutine uses it.
//
// Errors end the conversation: link_closed, timed_out, bad_reply (the peer broke the protocol), cancelled.
class Dialogue {
public:
    // `name` stands for the session in the log; `log` outlives the dialogue.
    Dialogue(net::StreamPtr stream, const StageTimeouts& timeouts, event::Log& log, std::string name);

    // What follows belongs to this phase; the peer gets its full time again.
    void enter(Stage stage);
    Stage stage() const { return stage_; }
    StageTimeouts& timeouts() { return timeouts_; }

    // Sends whole command lines. The log shows them unless they are `secret`.
    enum class Showing : std::uint8_t { plain, secret };
    Task<Result<>> send(std::string_view lines, Showing showing = Showing::plain);
    // Sends command lines and what follows them, content, in one go; content is not shown.
    Task<Result<>> send_with_content(std::string_view lines, std::span<const std::string_view> all);
    // A peer may repeat what it did not like. From now on a reply that contains the secret has lost its text, in the log and
    // for the caller; only a challenge keeps it for the caller. Very short secrets are words like others.
    void conceal(std::string_view secret);

    // The next reply.
    Task<Result<smtp::Reply>> reply();
    // Octets arrived that belong to no reply asked for.
    bool has_surplus() const { return !unread_.empty() || !parser_.idle(); }

    net::Stream& stream() { return *stream_; }
    const net::Stream& stream() const { return *stream_; }

private:
    void show(std::string_view mark, std::string_view lines, Showing showing);
    void show(const smtp::Reply& reply);
    bool repeats_a_secret(const smtp::Reply& reply) const;

    net::StreamPtr stream_;
    StageTimeouts timeouts_;
    event::Log& log_;
    std::string name_;
    Stage stage_ = Stage::greeting;
    smtp::ReplyParser parser_;
    std::vector<std::string> secrets_;
    std::string_view unread_;  // the part of buffer_ that was received and not parsed
    std::array<char, 2048> buffer_;
};

}  // namespace sluice::delivery
