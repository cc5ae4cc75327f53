#include "reception/session.h"

#include <openssl/rand.h>

#include <array>

#include "base/text.h"

namespace sluice::reception {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t replies_held_max = 32 * 1024;  // more is sent at once, even in the middle of a group

std::string random_session_id() {
    std::array<unsigned char, 16> bytes{};
    ASSERT(RAND_bytes(bytes.data(), bytes.size()) == 1);
    return to_upper(hex_encode({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
}

}  // namespace

Session::Session(
    const Surroundings& surroundings, Census& census, RulesPtr rules, net::StreamPtr stream, net::Endpoint listener)
    : around_(surroundings), census_(census), rules_(std::move(rules)), stream_(std::move(stream)), listener_(std::move(listener)),
      client_(stream_->remote()), client_text_(client_.address.text()), id_(random_session_id()),
      deadline_(around_.shard.executor(), *this), goodbyes_(around_.shard.executor()), connected_(steady_clock::now()) {}

Task<> Session::run() {
    Result<> ended = co_await converse();
    deadline_.stop();
    co_await goodbyes_.close();
    co_await finish(std::move(ended));
    if (entered_) census_.leave(client_.address);
    if (known_to_plugins_) tell(Hook::left);
    log_disconnect();
}

// Reads commands until somebody says goodbye. An error means that the link is gone or that a deadline passed.
// Only what has to wait is awaited: most commands of a group are obeyed without leaving this coroutine.
Task<Result<>> Session::converse() {
    CO_TRY_VOID(co_await open());
    while (!over_) {
        const auto line = lines_.next(input_.rest(), command_octets_max());
        if (!line) {
            CO_TRY_VOID(co_await wait_for_input());
            continue;
        }
        waiting_for_command_ = false;
        const Next next = obey(*line);
        if (next != Next::command) {
            CO_TRY_VOID(co_await carry_out(next));
        }
        if (replies_.size() > replies_held_max) {
            CO_TRY_VOID(co_await flush());
        }
    }
    co_return co_await flush();
}

// Input ran dry in front of a command or within one: replies go out before we wait.
Task<Result<>> Session::wait_for_input() {
    CO_TRY_VOID(co_await flush());
    if (!waiting_for_command_) begin_wait();
    co_return co_await fill(InputBuffer::idle_size);
}

// The deadline is for the whole command, so octets that trickle in do not move it (DoS-1).
void Session::begin_wait() {
    waiting_for_command_ = true;
    wait_until(steady_clock::now() + settings().smtp.inactivity_timeout);
}

// A stream whose deadline passed takes no more words, so ours comes first.
void Session::wait_until(TimePoint when) {
    deadline_.set(when);
    stream_->set_deadline(when + rules_->patience.linger);
}

Task<Result<>> Session::fill(std::size_t size) {
    const std::span<char> space = input_.space(size);
    if (leaving_) co_return fail(Errc::cancelled, "the session is over");
    reading_ = true;
    deadline_.arm();
    const Result<std::size_t> count = co_await stream_->read_some(space);
    reading_ = false;
    if (!count) co_return fail(count.error());
    input_.received(*count);
    co_return Result<>();
}

void Session::deadline_passed() {
    if (!reading_ || leaving_) return;
    const smtp::Reply timeout(421, "4.4.2", settings().me + " waited too long for you; closing");
    record_refusal(timeout, "timeout", {});
    leave(timeout);
}

void Session::stop() {
    stopping_ = true;
    const bool idle = reading_ && waiting_for_command_ && !transaction_;
    if (idle && !leaving_) leave(smtp::Reply(421, "4.3.2", settings().me + " is shutting down; please come back"));
}

// Ends the session from outside of run(): the reply goes out, then the stream is cut, which ends the read under way.
void Session::leave(const smtp::Reply& reply) {
    leaving_ = true;
    stream_->set_timeout(rules_->patience.linger);
    goodbyes_.spawn(say_farewell(smtp::format(reply)));
}

Task<> Session::say_farewell(std::string goodbye) {
    co_await stream_->write(goodbye);
    co_await stream_->close();
}

Task<Result<>> Session::flush() {
    if (replies_.empty()) co_return Result<>();
    stream_->set_timeout(settings().smtp.inactivity_timeout);
    CO_TRY_VOID(co_await stream_->write(replies_));
    if (replies_.capacity() > 1024) {
        replies_ = std::string();
    } else {
        replies_.clear();
    }
    co_return Result<>();
}

Session::Next Session::obey(const smtp::CommandLines::Line& line) {
    using Kind = smtp::CommandLines::Kind;
    if (stopping_) {
        say(421, "4.3.2", settings().me + " is shutting down; please come back");
        return Next::hang_up;
    }
    if (line.kind == Kind::too_long) {
        return refuse(smtp::Reply(500, "5.5.6", "Command line is too long"), "command");
    }
    if (line.kind == Kind::unclean) {
        // A line end that is not CRLF is how commands are smuggled: nothing of this session is trusted any more.
        refuse(smtp::Reply(500, "5.5.2", "Bare CR, LF or NUL in a command; goodbye"), "command");
        return Next::hang_up;
    }
    if (loop_) return obey_loop(line.text);
    if (is_for_plugins(line.text)) return ask_about_command(line.text);
    const bool utf8 = transaction_ && transaction_->envelope().smtputf8;
    const smtp::CommandSyntax syntax{extended_ ? &offered_ : nullptr, utf8};
    auto command = smtp::parse_command(line.text, syntax);
    return command ? dispatch(std::move(*command)) : refuse_line(command.error());
}

Task<Result<>> Session::carry_out(Next next) {
    switch (next) {
        case Next::command:
            break;
        case Next::data:
            co_return co_await receive_data();
        case Next::chunk:
            co_return co_await receive_chunk();
        case Next::starttls:
            co_return co_await start_tls();
        case Next::auth:
            co_return co_await authenticate();
        case Next::plugins:
            co_return co_await ask_plugins();
        case Next::hang_up:
            over_ = true;
            break;
    }
    co_return Result<>();
}

// A deadline that passed while nobody was reading is not told to the client: it does not read our replies either.
Task<> Session::finish(Result<> ended) {
    if (!ended && log_enabled(event::Level::debug)) {
        around_.log.write(event::Level::debug, id_, "core", "session ended", {{"error", ended.error().text()}});
    }
    if (!leaving_) co_await stream_->close();
}

void Session::say(const smtp::Reply& reply) { smtp::append(replies_, reply); }

Session::Next Session::refuse(const smtp::Reply& reply, std::string_view stage, std::string_view forward_path) {
    record_refusal(reply, stage, forward_path);
    say(reply);
    if (reply.permanent()) ++errors_;
    return weigh_errors();
}

Session::Next Session::weigh_errors() {
    const std::uint32_t errors_max = settings().connection.errors_max;
    if (errors_ < errors_max || errors_max == 0) return Next::command;
    say(421, "4.7.0", "Too many errors; goodbye");
    return Next::hang_up;
}

void Session::record_refusal(const smtp::Reply& reply, std::string_view stage, std::string_view forward_path) {
    const std::string text = reply.full_text();
    const std::string reverse_path = transaction_ ? transaction_->envelope().reverse_path.text() : std::string();
    event::Refused fact;
    fact.session = id_;
    fact.client = client_text_;
    fact.stage = stage;
    fact.reply = text;
    fact.reverse_path = reverse_path;
    fact.forward_path = forward_path;
    around_.events.record(fact);
}

std::size_t Session::command_octets_max() const {
    const std::size_t by_standard = smtp::command_line_max(offered_);
    return std::max<std::size_t>(by_standard, settings().connection.command_line_max);
}

void Session::log_connect() {
    if (!log_enabled(event::Level::info)) return;
    around_.log.write(
        event::Level::info, id_, "core", "connect",
        {{"ip", client_text_}, {"port", client_.port}, {"local_ip", listener_.address.text()},
         {"local_port", listener_.port}});
}

void Session::log_disconnect() {
    if (!log_enabled(event::Level::notice)) return;
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - connected_);
    around_.log.write(
        event::Level::notice, id_, "core", "disconnect",
        {{"ip", client_text_}, {"helo", helo_}, {"relay", relaying() ? "Y" : "N"}, {"esmtp", extended_ ? "Y" : "N"},
         {"tls", stream_->tls() != nullptr ? "Y" : "N"}, {"errors", errors_}, {"txns", transactions_},
         {"rcpts", recipients_}, {"msgs", messages_}, {"time", static_cast<double>(took.count()) / 1000.0}});
}

}  // namespace sluice::reception
