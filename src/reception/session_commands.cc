// What each command does, in the order of RFC 5321 §4.1.1. Nothing here waits.

#include "reception/relaying.h"
#include "reception/session.h"

#include "base/text.h"

namespace sluice::reception {

using smtp::Reply;
using smtp::Verb;

namespace {

constexpr std::uint32_t idle_commands_max = 1000;  // between two messages

}  // namespace

Session::Next Session::dispatch(smtp::Command command) {
    switch (command.verb) {
        case Verb::helo:
        case Verb::ehlo:
            return hello(command);
        case Verb::mail:
            return mail(command.as<smtp::MailFrom>());
        case Verb::rcpt:
            return rcpt(std::get<smtp::RcptTo>(command.arguments));
        case Verb::data:
            return data();
        case Verb::bdat:
            return chunk(command.as<smtp::Bdat>());
        case Verb::rset:
            return reset();
        case Verb::noop:
            return ask_later(Hook::noop, Reply(250, "2.0.0", "OK"));
        case Verb::vrfy:
            // Says nothing about who exists, to anybody (RFC 5321 §7.3).
            return ask_later(Hook::vrfy, Reply(252, "2.1.5", "Just try if you do a mail transaction"));
        case Verb::expn:
            return refuse(Reply(502, "5.5.1", "Command is not supported"), "command");
        case Verb::help:
            return answer_idle(Reply(214, "2.0.0", "See RFC 5321; ask the postmaster of " + settings().me + " for more"));
        case Verb::quit:
            return quit();
        case Verb::starttls:
            return starttls();
        case Verb::auth:
            return auth(command.as<smtp::Auth>());
        case Verb::lhlo:
            return refuse(Reply(500, "5.5.1", "This is SMTP, not LMTP"), "command");
        case Verb::unknown:
            return unknown(command.as<smtp::Words>());
    }
    UNREACHABLE();
}

// Answers a command that brings no mail closer. A client with nothing else to say is sent away (DoS-4).
Session::Next Session::answer_idle(const Reply& reply) {
    if (++idle_commands_ <= idle_commands_max) {
        say(reply);
        return Next::command;
    }
    refuse(Reply(421, "4.7.0", "Too many commands without a message; goodbye"), "command");
    return Next::hang_up;
}

Session::Next Session::refuse_line(const smtp::Refusal& refusal) {
    const Next next = refuse(refusal.reply, to_lower(smtp::name_of(refusal.verb)));
    // What follows may be content: to go on would take it for commands (BD-4).
    return refusal.payload_unknown ? Next::hang_up : next;
}

// Also in the middle of a transaction, which it ends (RFC 5321 §4.1.4).
Session::Next Session::hello(const smtp::Command& command) {
    end_transaction();
    helo_ = command.as<smtp::Hello>().name;
    extended_ = command.verb == Verb::ehlo;
    offered_ = extended_ ? extensions() : smtp::Extensions();
    const std::string& told = settings().connection.helo_message;
    const std::string greeting =
        settings().me + " Hello " + printable(helo_) + " [" + client_text_ + "]" + (told.empty() ? "" : ", " + told);
    return ask_later(Hook::hello, extended_ ? smtp::format_extensions(offered_, greeting) : Reply(250, "", greeting));
}

smtp::Extensions Session::extensions() const {
    const config::ConnectionSettings& limits = settings().connection;
    smtp::Extensions offered;
    offered.pipelining = true;
    offered.size = true;
    offered.size_max = limits.message_bytes_max;
    offered.eight_bit_mime = true;
    offered.smtputf8 = limits.smtputf8;
    offered.chunking = true;
    offered.dsn = true;
    offered.enhanced_codes = true;
    offered.starttls = stream_->tls() == nullptr && rules_->offers_starttls(listener_, client_.address);
    if (may_authenticate()) {
        for (const std::string& method : settings().auth.methods) {
            if (Authentication::supports(method)) offered.auth.push_back(method);
        }
    }
    offered.mt_priority = relaying() || !offered.auth.empty();
    // A limit of RFC 9422 has at most six digits.
    if (limits.recipients_max != 0 && limits.recipients_max <= 999'999) offered.limits.rcpt_max = limits.recipients_max;
    if (limits.messages_max != 0 && limits.messages_max <= 999'999) offered.limits.mail_max = limits.messages_max;
    return offered;
}

// Passwords cross a network in TLS only, or one that is ours alone (as Haraka).
bool Session::may_authenticate() const {
    return settings().auth.enabled && (stream_->tls() != nullptr || client_.address.is_private());
}

std::optional<Reply> Session::refuse_mail(const smtp::MailFrom& mail) const {
    if (helo_.empty()) return Reply(503, "5.5.1", "Say EHLO first");
    if (transaction_) return Reply(503, "5.5.1", "A transaction is under way already");
    if (settings().smtp.submission_requires_auth != 0 && rules_->submission_port(listener_) && !relaying()) {
        return Reply(530, "5.7.0", "Authentication required");
    }
    // A plugin that logs clients in binds them as it likes; the exact rule is the operator's own.
    const bool bound = !auth_by_plugin_ || settings().connection.constrain_sender_addresses;
    if (!auth_user_.empty() && bound && !owns_sender(settings(), auth_user_, mail.reverse_path)) {
        return Reply(553, "5.7.1", "Sender <" + mail.reverse_path.text() + "> is not owned by your login");
    }
    if (const auto why = around_.acceptance.refusal()) return Reply(452, "4.3.1", *why);
    return std::nullopt;
}

Session::Next Session::mail(const smtp::MailFrom& mail) {
    if (const auto refusal = refuse_mail(mail)) return refuse(*refusal, "mail", mail.reverse_path.text());
    const std::uint32_t messages_max = settings().connection.messages_max;
    if (messages_max != 0 && transactions_ >= messages_max) {
        refuse(Reply(421, "4.5.3", "Too many messages on this connection; please open another"), "mail");
        return Next::hang_up;
    }
    ++transactions_;
    transaction_.emplace(mail, settings().connection.message_bytes_max);
    // It was offered to who may still log in; until then nobody is more urgent than others (MP-2).
    if (!relaying() && mail.mt_priority.value_or(0) > 0) {
        transaction_->lower_priority();
        return ask_later(Hook::mail, Reply(250, "2.3.6", "0 is the priority until you log in"));
    }
    return ask_later(Hook::mail, Reply(250, "2.1.0", "sender <" + mail.reverse_path.text() + "> OK"));
}

std::optional<Reply> Session::refuse_rcpt() const {
    if (!transaction_) return Reply(503, "5.5.1", "Say MAIL first");
    if (transaction_->chunked()) return Reply(503, "5.5.1", "Content has begun already");
    const std::uint32_t recipients_max = settings().connection.recipients_max;
    if (recipients_max != 0 && transaction_->recipient_count() >= recipients_max) {
        return Reply(452, "4.5.3", "Too many recipients; send the rest in another transaction");
    }
    return std::nullopt;
}

Session::Next Session::rcpt(smtp::RcptTo& rcpt) {
    mail::Recipient& recipient = rcpt.recipient;
    if (recipient.address.domain.empty()) recipient.address.domain = settings().me;  // <Postmaster> is ours
    const std::string text = recipient.address.text();
    auto refusal = refuse_rcpt();
    const bool asking = asks(Hook::rcpt);
    if (!refusal && !asking) refusal = refuse_recipient(*rules_, relaying(), recipient.address);
    if (refusal) return refuse(*refusal, "rcpt", text);
    Reply taken(250, "2.1.5", "recipient <" + text + "> OK");
    if (asking) {
        pending_.recipient = std::move(recipient);
        return ask_later(Hook::rcpt, std::move(taken));
    }
    take_recipient(std::move(recipient));
    say(taken);
    return Next::command;
}

void Session::take_recipient(mail::Recipient recipient) {
    if (transaction_->add(std::move(recipient))) ++recipients_;
}

std::optional<Reply> Session::refuse_content() const {
    if (!transaction_) return Reply(503, "5.5.1", "Say MAIL and RCPT first");
    if (transaction_->recipient_count() == 0) return Reply(503, "5.5.1", "No valid recipients; say RCPT first");
    if (const auto why = around_.acceptance.refusal()) return Reply(452, "4.3.1", *why);
    return std::nullopt;
}

Session::Next Session::data() {
    auto refusal = refuse_content();
    if (!refusal && transaction_->chunked()) refusal = Reply(503, "5.5.1", "Content has begun with BDAT");
    if (!refusal) return Next::data;
    const Next next = refuse(*refusal, "data");
    // As for any content that is refused for now: a pipelining client goes on with its next message, and RSET is not part of it.
    // With the old transaction still there, MAIL would be refused, RCPT would add to it, and two messages would become one.
    if (refusal->transient()) end_transaction();
    return next;
}

// Whatever we think of it, the octets of the chunk follow: the content part answers.
Session::Next Session::chunk(const smtp::Bdat& chunk) {
    chunk_ = chunk;
    return Next::chunk;
}

Session::Next Session::reset() {
    if (asks(Hook::rset)) tell(Hook::rset);
    end_transaction();
    return answer_idle(Reply(250, "2.0.0", "OK"));
}

Session::Next Session::quit() {
    const std::string& told = settings().connection.close_message;
    const Reply goodbye(221, "2.0.0", settings().me + (told.empty() ? " closing connection. Have a jolly good day." : " " + told));
    if (asks(Hook::quit)) return ask_later(Hook::quit, goodbye);
    say(goodbye);
    return Next::hang_up;
}

Session::Next Session::starttls() {
    if (stream_->tls() != nullptr) return refuse(Reply(503, "5.5.1", "TLS is on already"), "starttls");
    if (!rules_->offers_starttls(listener_, client_.address)) {
        return refuse(Reply(502, "5.5.1", "STARTTLS is not offered here"), "starttls");
    }
    if (input_.empty() && lines_.idle()) return Next::starttls;
    // Somebody in the middle may have put commands behind it, to be carried out inside TLS (TLS-I1).
    refuse(Reply(554, "5.5.1", "Nothing may follow STARTTLS before the handshake; goodbye"), "starttls");
    return Next::hang_up;
}

Session::Next Session::auth(const smtp::Auth& auth) {
    if (!settings().auth.enabled) return refuse(Reply(502, "5.5.1", "AUTH is not offered here"), "auth");
    if (!may_authenticate()) return refuse(Reply(538, "5.7.11", "Encryption required for AUTH"), "auth");
    if (helo_.empty()) return refuse(Reply(503, "5.5.1", "Say EHLO first"), "auth");
    if (!auth_user_.empty()) return refuse(Reply(503, "5.5.1", "You are authenticated already"), "auth");
    if (transaction_) return refuse(Reply(503, "5.5.1", "No AUTH within a transaction"), "auth");
    if (!offered_.offers_auth(auth.mechanism)) {
        return refuse(Reply(504, "5.5.4", "Mechanism is not offered"), "auth");
    }
    auth_ = auth;
    return Next::auth;
}

Session::Next Session::unknown(const smtp::Words& words) {
    if (istarts_with(words.text, "PROXY ")) {
        refuse(Reply(421, "4.7.0", "You are no proxy that we know; goodbye"), "connect");
        return Next::hang_up;
    }
    if (asks(Hook::command)) return ask_about_command(words.text);
    return refuse(Reply(500, "5.5.2", "Unrecognised command"), "command");
}

}  // namespace sluice::reception
