// AUTH (RFC 4954): the base64 and the reply codes around a dialogue.

#include <string.h>

#include "async/blocking.h"
#include "base/text.h"
#include "reception/session.h"

namespace sluice::reception {
namespace {

constexpr std::size_t answer_octets_max = 12'288;  // RFC 4954 §4

// What a client proved itself with does not stay in memory for as long as it stays connected.
void wipe(std::optional<std::string>& secret) {
    if (secret) ::explicit_bzero(secret->data(), secret->size());
    secret.reset();
}

}  // namespace

Task<Result<>> Session::authenticate() {
    Authentication dialogue(auth_.mechanism, settings().auth.users, settings().me);
    std::optional<std::string> initial;
    if (auth_.initial) initial = base64_decode(*auth_.initial);
    wipe(auth_.initial);
    Authentication::Outcome outcome = dialogue.begin(initial);
    wipe(initial);
    while (outcome == Authentication::Outcome::challenge) {
        CO_TRY(std::optional<std::string> answer, co_await ask(dialogue.challenge()));
        if (!answer) co_return Result<>();
        outcome = dialogue.step(*answer);
        wipe(answer);
    }
    if (outcome == Authentication::Outcome::success) {
        auth_succeeded(dialogue);
        co_return Result<>();
    }
    if (outcome == Authentication::Outcome::failure) co_return co_await auth_failed(dialogue.user());
    if (refuse(smtp::Reply(501, "5.5.2", "Credentials are malformed"), "auth") == Next::hang_up) over_ = true;
    co_return Result<>();
}

// One challenge and its answer. Nothing: the dialogue is over, and the client was told.
Task<Result<std::optional<std::string>>> Session::ask(std::string_view challenge) {
    using Kind = smtp::CommandLines::Kind;
    replies_.append("334 ").append(base64_encode(challenge)).append("\r\n");
    std::optional<smtp::CommandLines::Line> line;
    while (!(line = lines_.next(input_.rest(), answer_octets_max))) {
        CO_TRY_VOID(co_await wait_for_input());
    }
    waiting_for_command_ = false;
    std::optional<smtp::Reply> refusal;
    std::optional<std::string> answer;
    if (line->kind == Kind::too_long) {
        refusal = smtp::Reply(500, "5.5.6", "Authentication exchange line is too long");
    } else if (line->text == "*") {
        refusal = smtp::Reply(501, "5.7.0", "Authentication cancelled");
    } else if (answer = base64_decode(line->text); line->kind == Kind::unclean || !answer) {
        refusal = smtp::Reply(501, "5.5.2", "Invalid base64");
    }
    if (!refusal) co_return answer;
    if (refuse(*refusal, "auth") == Next::hang_up) over_ = true;
    co_return std::optional<std::string>();
}

// Every failure costs twice the time of the one before (as Haraka), and there is an end to it (AU-6).
Task<Result<>> Session::auth_failed(std::string user) {
    const Patience& patience = rules_->patience;
    const std::uint32_t doublings = std::min(auth_failures_, 16U);
    ++auth_failures_;
    CO_TRY_VOID(co_await flush());
    const auto delay = std::min(patience.auth_delay_first * (1U << doublings), patience.auth_delay_max);
    const bool slept = co_await async::sleep_for(delay);
    if (!slept) co_return fail(Errc::cancelled, "the session was cancelled");
    if (log_enabled(event::Level::notice)) {
        around_.log.write(event::Level::notice, id_, "auth", "authentication failed",
                          {{"ip", client_text_}, {"user", user}, {"failures", auth_failures_}});
    }
    if (refuse(smtp::Reply(535, "5.7.8", "Authentication failed"), "auth") == Next::hang_up) over_ = true;
    if (auth_failures_ >= patience.auth_failures_max && !over_) {
        say(421, "4.7.0", "Too many authentication failures; goodbye");
        over_ = true;
    }
    co_return Result<>();
}

void Session::auth_succeeded(const Authentication& dialogue) {
    auth_user_ = dialogue.user();
    plugins_relay_.reset();  // what they said about somebody who had not logged in
    say(235, "2.7.0", "Authentication successful");
}

}  // namespace sluice::reception
