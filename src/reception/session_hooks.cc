// What plugins decide about a session: when they are asked, and what their answers do. Docs: docs/design/plugins.md.

#include <array>
#include <utility>

#include "base/text.h"
#include "mail/header.h"
#include "reception/relaying.h"
#include "reception/session.h"

namespace sluice::reception {

using smtp::Reply;
using What = Answer::What;

namespace {

// More than that is no header section, and too much to send to another process with every message.
constexpr std::size_t header_octets_max = 4u << 20;

// How a refusal is told when the plugin has no code or no words of its own. The codes are Haraka's.
struct Refusal {
    const char* stage;
    int deny, deny_soft;
    const char* detail;  // of the enhanced code; empty: none
    const char* text;
};
constexpr std::array<Refusal, hook_count> refusals{{
    {"connect", 554, 421, "", "Your mail is not welcome here"},
    {"helo", 550, 450, ".7.1", "Greeting denied"},
    {"command", 500, 451, ".5.1", "Unrecognised command"},
    {"mail", 550, 450, ".7.1", "Sender denied"},
    {"rcpt", 550, 450, ".7.1", "Recipient denied"},
    {"data", 554, 451, ".7.1", "Message denied"},
    {"dot", 550, 450, ".7.1", "Message denied"},
    {"dot", 550, 450, ".3.4", "Message is too big"},
    {"vrfy", 550, 450, ".7.1", "Access denied"},
    {"noop", 500, 450, ".7.1", "Command denied"},
    {"quit", 500, 450, ".7.1", "Command denied"},
    {"", 550, 450, ".7.1", "Message denied"},
    {"rset", 500, 450, ".7.1", "Command denied"},
    {"dot", 550, 450, ".7.1", "Message denied"},
    {"", 500, 450, ".7.1", "Command denied"},
    {"", 500, 450, ".7.1", "Command denied"},
}};
const Refusal& refusal_for(Hook hook) { return refusals[static_cast<std::size_t>(hook)]; }

bool refused(const Answer& answer) { return answer.what == What::deny || answer.what == What::deny_soft; }

// Words of a plugin as lines of a reply; an enhanced code in front of them becomes the reply's.
void set_words(Reply& reply, const std::vector<std::string>& words) {
    if (words.empty()) return;
    reply.lines = words;
    for (std::string& line : reply.lines) {
        const auto code = smtp::EnhancedCode::parse_prefix(line);
        if (!code || code->klass != reply.code / 100) continue;
        reply.enhanced = code;
        line.erase(0, line.find_first_not_of(' ', code->text().size()));
    }
}

std::string clean(std::string octets) { return mail::is_clean_text(octets) ? std::move(octets) : mail::clean_text(octets); }

}  // namespace

// ---- asking ----------------------------------------------------------------------------------------------------------

Occasion Session::occasion() const {
    Occasion about;
    Visitor& visitor = about.visitor;
    visitor.session = id_;
    visitor.client_ip = client_text_;
    visitor.client_port = client_.port;
    const net::Endpoint local = stream_->local();
    visitor.local_ip = local.path.empty() ? local.address.text() : "unix";
    visitor.local_port = listener_.port;
    if (proxied_) visitor.proxy_ip = stream_->remote().address.text();
    visitor.helo = helo_;
    visitor.extended = extended_;
    if (const net::TlsSession* tls = stream_->tls()) {
        visitor.tls_version = tls->version;
        visitor.tls_cipher = tls->cipher;
    }
    visitor.auth_user = auth_user_;
    visitor.relaying = session_relays();
    visitor.errors = errors_;
    visitor.begun = known_to_plugins_;
    if (transaction_) {
        Underway& underway = about.transaction.emplace();
        underway.number = transactions_;
        underway.envelope = &transaction_->envelope();
        underway.known = transaction_->recipients_known;
        underway.relaying = transaction_->relaying;
        underway.declared_size = transaction_->declared_size();
    }
    return about;
}

Task<Answer> Session::ask(Hook hook, Occasion& about) {
    Answer answer = co_await around_.hooks->ask(hook, about);
    note_known();
    learn(answer);
    co_return answer;
}

// Plugins know of all this now, and must hear how it ends.
void Session::note_known() {
    known_to_plugins_ = true;
    if (!transaction_) return;
    transaction_->known_to_plugins = true;
    transaction_->recipients_known = transaction_->recipient_count();
}

// What holds whatever else the answer says.
void Session::learn(const Answer& answer) {
    for (const Reply& reply : answer.said) {
        say(reply);
        if (reply.permanent()) ++errors_;
    }
    if (answer.relaying) plugins_relay_ = answer.relaying;
    if (answer.transaction_relaying && transaction_) transaction_->relaying = answer.transaction_relaying;
    if (!answer.auth_user.empty() && relaying()) {
        auth_user_ = answer.auth_user;
        auth_by_plugin_ = true;
    }
    plugins_read_ = answer.more;
    if (answer.loop) loop_ = answer.loop;
}

void Session::tell(Hook hook, std::string text) {
    Occasion about = occasion();
    about.text = std::move(text);
    around_.hooks->tell(hook, about);
    note_known();
}

void Session::end_transaction() {
    if (transaction_ && transaction_->known_to_plugins) tell(Hook::reset);
    transaction_.reset();
}

// ---- before the first command ----------------------------------------------------------------------------------------

// True when the greeting is still to be said.
Task<bool> Session::open_with_plugins() {
    Occasion about = occasion();
    const Answer answer = co_await ask(Hook::opening, about);
    if (answer.what == What::lost || refused(answer)) {
        const Reply reply = refusal_of(Hook::opening, answer);
        if (refuse(reply, "connect") == Next::hang_up || answer.disconnect || answer.what == What::lost) over_ = true;
        loop_ = reply;
        co_return false;
    }
    if (answer.disconnect) over_ = true;
    if (answer.what != What::ok || answer.text.empty()) co_return !over_;
    Reply banner(220, "", "");
    banner.lines = answer.text;
    say(banner);
    co_return false;
}

// The client may do nothing but leave.
Session::Next Session::obey_loop(std::string_view line) {
    return iequals(trim(line), "QUIT") ? quit() : answer_idle(*loop_);
}

// ---- commands --------------------------------------------------------------------------------------------------------

// Does at once what nobody wants to be asked about.
Session::Next Session::ask_later(Hook hook, Reply reply) {
    if (asks(hook)) {
        pending_.hook = hook;
        pending_.reply = std::move(reply);
        return Next::plugins;
    }
    if (hook != Hook::mail) return answer_idle(reply);
    say(reply);
    return Next::command;
}

// Lines that are no commands of ours: a plugin asked for this one, or it logs clients in and we do not.
bool Session::is_for_plugins(std::string_view line) const {
    const bool auth = !settings().auth.enabled && (iequals(line, "AUTH") || istarts_with(line, "AUTH "));
    return (plugins_read_ || auth) && asks(Hook::command);
}

Session::Next Session::ask_about_command(std::string_view line) {
    pending_.command = line;
    return ask_later(Hook::command, Reply(500, "5.5.2", "Unrecognised command"));
}

Task<Result<>> Session::ask_plugins() {
    Pending pending = std::exchange(pending_, Pending());
    Occasion about = occasion();
    about.command = pending.command;
    if (pending.hook == Hook::hello) about.lines = pending.reply.lines;
    if (pending.hook == Hook::rcpt) {
        about.recipient = &pending.recipient;
        about.permitted = !refuse_recipient(*rules_, false, pending.recipient.address);
    }
    Answer answer = co_await ask(pending.hook, about);
    if (conclude(pending, answer) == Next::hang_up || answer.disconnect) over_ = true;
    if (answer.reset) end_transaction();
    co_return Result<>();
}

Session::Next Session::conclude(Pending& pending, Answer& answer) {
    if (answer.loop) return answer_idle(*loop_);
    // Who wants to leave is let go, whatever plugins say.
    if (pending.hook == Hook::quit && refused(answer)) answer.what = What::ok;
    if (answer.what == What::lost || refused(answer)) return refuse_as(pending.hook, answer);
    if (pending.hook == Hook::rcpt) return conclude_rcpt(pending, answer);
    const bool decided = answer.what == What::ok;
    if (pending.hook == Hook::command) {
        if (!decided) return refuse(pending.reply, "command");
        // Usually the plugin has answered itself.
        if (!answer.said.empty()) return weigh_errors();
        pending.reply = Reply(250, "2.0.0", "OK");
    }
    if (pending.hook == Hook::vrfy && decided) pending.reply = Reply(250, "2.1.5", "User OK");
    if (pending.hook == Hook::hello) {
        if (!answer.lines.empty()) pending.reply.lines = std::move(answer.lines);
    } else if (decided) {
        set_words(pending.reply, answer.text);
    }
    if (pending.hook != Hook::mail && pending.hook != Hook::quit) return answer_idle(pending.reply);
    say(pending.reply);
    return pending.hook == Hook::quit ? Next::hang_up : Next::command;
}

// Taken only when the answer says so in so many words; otherwise it is as if nobody had been asked.
Session::Next Session::conclude_rcpt(Pending& pending, const Answer& answer) {
    const mail::Address& address = pending.recipient.address;
    const auto refusal = refuse_recipient(*rules_, relaying(), address);
    if (answer.what != What::ok && refusal) return refuse(*refusal, "rcpt", address.text());
    if (refusal) transaction_->plugins_must_take = true;
    set_words(pending.reply, answer.text);
    take_recipient(std::move(pending.recipient));
    transaction_->recipients_known = transaction_->recipient_count();
    say(pending.reply);
    return Next::command;
}

Session::Next Session::refuse_as(Hook hook, const Answer& answer) {
    const Next next = refuse(refusal_of(hook, answer), refusal_for(hook).stage);
    undo(hook);
    return answer.what == What::lost ? Next::hang_up : next;
}

// A refused command has not been given.
void Session::undo(Hook hook) {
    if (hook == Hook::mail) end_transaction();
    if (hook != Hook::hello) return;
    helo_.clear();
    extended_ = false;
    offered_ = smtp::Extensions();
}

Reply Session::refusal_of(Hook hook, const Answer& answer) const {
    if (answer.what == What::lost) {
        return hook == Hook::content ? Reply(451, "4.3.0", "Plugins do not answer; please try again later")
                                     : Reply(421, "4.3.0", settings().me + " cannot ask its plugins; please come back");
    }
    const bool deny = answer.what == What::deny;
    const Refusal& usual = refusal_for(hook);
    int code = deny ? usual.deny : usual.deny_soft;
    if (hook == Hook::command && answer.disconnect) code = deny ? 521 : 421;
    // A greeting has these two codes only (RFC 5321 §4.3.2).
    if (hook != Hook::opening && answer.code / 100 == code / 100) code = answer.code;
    const std::string detail = usual.detail;
    Reply reply(code, detail.empty() ? detail : (deny ? "5" : "4") + detail, usual.text);
    set_words(reply, answer.text);
    return reply;
}

// ---- content ---------------------------------------------------------------------------------------------------------

// What DATA or the first BDAT is refused with; nothing: content may come.
Task<std::optional<Reply>> Session::ask_about_data() {
    if (!asks(Hook::data)) co_return std::nullopt;
    Occasion about = occasion();
    const Answer answer = co_await ask(Hook::data, about);
    if (answer.disconnect || answer.what == What::lost) over_ = true;
    if (answer.what == What::lost || refused(answer)) co_return refusal_of(Hook::data, answer);
    if (over_) co_return Reply(421, "4.7.0", settings().me + " closes the connection");
    co_return std::nullopt;
}

Task<> Session::ask_about_size(Reply& refusal) {
    Occasion about = occasion();
    const Answer answer = co_await ask(Hook::oversize, about);
    if (answer.disconnect) over_ = true;
    if (refused(answer)) refusal = refusal_of(Hook::oversize, answer);
}

std::optional<Reply> Session::prepare_for_plugins(MessageId id, std::string_view tls) {
    if (mail::header_section_size(transaction_->content) > header_octets_max) {
        return Reply(552, "5.3.4", "Header section is larger than this server accepts");
    }
    return prepare_content(transaction_->content, transaction_->envelope(), bearer(tls), id, settings());
}

// True when the message stays with us, changed as plugins want it; otherwise the client has its reply.
Task<bool> Session::offer_to_plugins(MessageId id, std::string_view tls) {
    Answer answer;
    std::optional<Reply> refusal = prepare_for_plugins(id, tls);
    if (!refusal) {
        Occasion about = occasion();
        about.content = &transaction_->content;
        about.message = id;
        about.keeps = !transaction_->plugins_must_take;
        answer = co_await ask(Hook::content, about);
        if (answer.what == What::lost || refused(answer)) {
            refusal = refusal_of(Hook::content, answer);
        } else if (answer.what == What::go_on) {
            refusal = apply(answer);
            if (!refusal) co_return true;
        }
    }
    if (refusal) {
        if (refuse(*refusal, "dot") == Next::hang_up) over_ = true;
    } else {
        say_taken(answer);
    }
    if (answer.disconnect) over_ = true;
    end_transaction();
    co_return false;
}

void Session::say_taken(const Answer& answer) {
    ++messages_;
    idle_commands_ = 0;
    Reply reply(250, "2.0.0", "Message Queued");
    set_words(reply, answer.text);
    if (log_enabled(event::Level::notice)) {
        around_.log.write(event::Level::notice, id_, "core", "a plugin took the message",
                          {{"plugin", answer.by}, {"sender", transaction_->envelope().reverse_path.text()},
                           {"rcpts", transaction_->recipient_count()}, {"size", transaction_->content.size()}});
    }
    say(reply);
}

// Makes the message what plugins made of it. A reply: it cannot be taken so.
std::optional<Reply> Session::apply(Answer& answer) {
    std::string& content = transaction_->content;
    if (answer.changed == Answer::Changed::all) content = clean(std::move(answer.octets));
    if (answer.changed == Answer::Changed::header) {
        content.replace(0, mail::header_section_size(content), clean(std::move(answer.octets)));
    }
    transaction_->notes = std::move(answer.notes);
    if (!apply_envelope(answer)) return Reply(451, "4.3.5", "A plugin named an address that is none; please try again later");
    if (transaction_->recipient_count() == 0) return Reply(554, "5.5.1", "No valid recipients are left");
    return std::nullopt;
}

bool Session::apply_envelope(const Answer& answer) {
    mail::PathSyntax syntax;
    syntax.allow_utf8 = transaction_->envelope().smtputf8;
    if (answer.rcpt_to) {
        std::vector<mail::Address> recipients;
        for (const std::string& text : *answer.rcpt_to) {
            auto address = mail::parse_path(text, syntax);
            if (!address) return false;
            // What a plugin puts there opens no relay.
            if (refuse_recipient(*rules_, relaying(), *address)) transaction_->plugins_must_take = true;
            recipients.push_back(std::move(*address));
        }
        transaction_->replace_recipients(recipients);
        transaction_->recipients_known = transaction_->recipient_count();
    }
    if (!answer.mail_from) return true;
    syntax.allow_null = true;
    auto address = mail::parse_path(*answer.mail_from, syntax);
    if (address) transaction_->replace_sender(std::move(*address));
    return address.has_value();
}

}  // namespace sluice::reception
