#include "delivery/client_session.h"

#include "base/assert.h"
#include "base/text.h"
#include "smtp/command.h"

namespace sluice::delivery {

ClientSession::ClientSession(
    net::StreamPtr stream, SessionTerms terms, std::shared_ptr<const config::Settings> settings, event::Log& log,
    std::string name)
    : settings_(std::move(settings)),
      terms_(std::move(terms)),
      log_(log),
      dialogue_(std::move(stream), StageTimeouts(settings_->outbound, terms_.how.get(), terms_.lmtp), log, std::move(name)) {}

Verdict ClientSession::judge(Stage stage, const smtp::Reply& reply) const {
    if (reply.contradicts_itself()) {
        log_.info("outbound", "enhanced code contradicts the reply code, which decides", {{"reply", kept(reply.full_text())}});
    }
    Verdict verdict;
    verdict.stage = stage;
    verdict.code = static_cast<std::uint16_t>(reply.code);
    if (reply.enhanced) verdict.status = reply.enhanced->text();
    verdict.text = kept(reply.text());
    return verdict;
}

Task<Result<smtp::Reply>> ClientSession::ask(Stage stage, std::string_view line, Dialogue::Showing showing) {
    dialogue_.enter(stage);
    if (dialogue_.has_surplus() && stage != Stage::quit) co_return co_await hear_unasked();
    CO_TRY_VOID(co_await dialogue_.send(line, showing));
    co_return co_await dialogue_.reply();
}

// While nothing is asked, nothing is answered: taken for an answer, this would shift all that follow by one. Only 421 may come
// by itself (RFC 5321 §3.8).
Task<Result<smtp::Reply>> ClientSession::hear_unasked() {
    CO_TRY(auto reply, co_await dialogue_.reply());
    if (reply.code != 421) co_return fail(Errc::bad_reply, "nobody had asked for: " + kept(reply.full_text()));
    co_return reply;
}

namespace {

// The conversation itself came to an end, rather than to a refusal by either side, after which QUIT is still polite.
bool link_is_lost(const Verdict& verdict) {
    if (verdict.code != 0 || verdict.error == Errc::auth_unavailable) return false;
    return verdict.error != Errc::tls_failed || verdict.stage == Stage::tls;
}

}  // namespace

Task<std::optional<Verdict>> ClientSession::open() {
    auto stopped = co_await await_greeting();
    if (!stopped) stopped = co_await hello();
    if (!stopped) stopped = co_await start_tls();
    if (!stopped) stopped = co_await authenticate();
    opened_ = !stopped;
    broken_ = stopped && link_is_lost(*stopped);
    co_return stopped;
}

Task<std::optional<Verdict>> ClientSession::await_greeting() {
    dialogue_.enter(Stage::greeting);
    const auto greeting = co_await dialogue_.reply();
    if (!greeting) co_return Verdict::of_error(Stage::greeting, greeting.error());
    if (greeting->positive()) co_return std::nullopt;
    if (greeting->intermediate()) co_return Verdict{Stage::greeting, 0, Errc::bad_reply, {}, kept(greeting->full_text())};
    co_return judge(Stage::greeting, *greeting);
}

// EHLO, and HELO for a host that does not know it (C5321-06): then no extension is used. Where TLS is mandatory that
// would end in clear, so the refusal stands.
Task<std::optional<Verdict>> ClientSession::hello() {
    const smtp::Verb verb = terms_.lmtp ? smtp::Verb::lhlo : smtp::Verb::ehlo;
    extensions_ = smtp::Extensions();
    std::string line = smtp::format_hello(verb, terms_.helo_name);
    auto reply = co_await ask(Stage::helo, line, Dialogue::Showing::plain);
    if (reply && reply->positive()) {
        extensions_ = smtp::parse_extensions(*reply);
        co_return std::nullopt;
    }
    if (reply && reply->permanent() && !terms_.lmtp) {
        if (is_demanded(terms_.tls)) {
            co_return Verdict{Stage::helo, 0, Errc::tls_failed, {}, "EHLO refused, so no TLS: " + kept(reply->full_text())};
        }
        dialogue_.timeouts().fall_back_to_helo();
        line = smtp::format_hello(smtp::Verb::helo, terms_.helo_name);
        reply = co_await ask(Stage::helo, line, Dialogue::Showing::plain);
        if (reply && reply->positive()) co_return std::nullopt;
    }
    if (!reply) co_return Verdict::of_error(Stage::helo, reply.error());
    if (reply->intermediate()) co_return Verdict{Stage::helo, 0, Errc::bad_reply, {}, kept(reply->full_text())};
    co_return judge(Stage::helo, *reply);
}

Task<std::optional<Verdict>> ClientSession::start_tls() {
    if (terms_.tls == TlsMode::off) co_return std::nullopt;
    const bool mandatory = is_demanded(terms_.tls);
    if (!extensions_.starttls) {
        if (!mandatory) co_return std::nullopt;
        co_return Verdict{Stage::starttls, 0, Errc::tls_failed, {}, "TLS is demanded, but STARTTLS is not offered"};
    }
    const auto reply = co_await ask(Stage::starttls, "STARTTLS\r\n", Dialogue::Showing::plain);
    if (!reply) co_return Verdict::of_error(Stage::starttls, reply.error());
    if (!reply->positive()) {
        if (reply->intermediate()) co_return Verdict{Stage::starttls, 0, Errc::bad_reply, {}, kept(reply->full_text())};
        if (mandatory || reply->code == 421) co_return judge(Stage::starttls, *reply);
        log_.info("outbound", "STARTTLS refused, going on in clear", {{"reply", printable(kept(reply->full_text()))}});
        co_return std::nullopt;
    }
    dialogue_.enter(Stage::tls);
    // Octets sent in clear after the 220 would be taken for words from inside TLS (CVE-2011-0411). Those that are not
    // read yet spoil the handshake.
    if (dialogue_.has_surplus()) {
        co_return Verdict{Stage::tls, 0, Errc::bad_reply, {}, "octets in clear between STARTTLS and the handshake"};
    }
    const auto secured = co_await dialogue_.stream().start_tls_client(terms_.tls_context, terms_.tls_name);
    if (!secured) {
        tls_broken_ = terms_.tls == TlsMode::opportunistic && secured.error().code != Errc::cancelled;
        co_return Verdict::of_error(Stage::tls, secured.error());
    }
    co_return co_await hello();  // what was offered in clear is forgotten (RFC 3207 §4.2)
}

Channel ClientSession::channel() const {
    const bool local = !dialogue_.stream().remote().path.empty();
    if (local || settings_->outbound.auth_cleartext) return Channel::trusted;
    if (tls() == nullptr) return Channel::clear;
    return tls()->verified ? Channel::trusted : Channel::unverified_tls;
}

Task<std::optional<Verdict>> ClientSession::authenticate() {
    if (terms_.credentials.user.empty()) co_return std::nullopt;
    auto sasl = choose_exchange(extensions_.auth, terms_.credentials, channel());
    if (!sasl) {
        if (!settings_->outbound.auth_fallback_plain) co_return Verdict::of_error(Stage::auth, sasl.error());
        log_.warn("outbound", "sending without AUTH, as auth_fallback_plain permits", {{"reason", sasl.error().detail}});
        co_return std::nullopt;
    }
    co_return co_await exchange(std::move(*sasl));
}

// RFC 4954 §4: challenges come as 334 in base64.
Task<std::optional<Verdict>> ClientSession::exchange(std::unique_ptr<SaslExchange> sasl) {
    std::string line = "AUTH ";
    line += sasl->mechanism();
    if (const auto initial = sasl->initial()) line += " " + (initial->empty() ? "=" : base64_encode(*initial));
    line += "\r\n";
    dialogue_.conceal(terms_.credentials.password);
    while (true) {
        // Its last word is what proves who we are, or a part of that.
        dialogue_.conceal(trim(line.substr(line.rfind(' ') + 1)));
        const auto reply = co_await ask(Stage::auth, line, Dialogue::Showing::secret);
        if (!reply) co_return Verdict::of_error(Stage::auth, reply.error());
        if (reply->positive() && !sasl->satisfied()) {
            co_return Verdict{Stage::auth, 0, Errc::bad_reply, {}, "235 before the server proved itself"};
        }
        if (reply->positive()) {
            authenticated_ = true;
            co_return std::nullopt;
        }
        if (!reply->intermediate()) co_return judge(Stage::auth, *reply);
        const auto challenge = base64_decode(trim(reply->text()));
        // LOGIN's prompts mean nothing, and some servers do not even encode them.
        auto answer = sasl->respond(challenge.value_or(std::string()));
        if (!answer) co_return Verdict::of_error(Stage::auth, answer.error());
        line = base64_encode(*answer) + "\r\n";
    }
}

Task<> ClientSession::quit() {
    if (!broken_) {
        const auto ignored = co_await ask(Stage::quit, "QUIT\r\n", Dialogue::Showing::plain);
        (void)ignored;
        broken_ = true;
    }
    co_await dialogue_.stream().close();
}

}  // namespace sluice::delivery
