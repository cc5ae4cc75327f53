#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "async/task_group.h"
#include "net/deadline.h"
#include "reception/authentication.h"
#include "reception/census.h"
#include "reception/composition.h"
#include "reception/hooks.h"
#include "reception/input_buffer.h"
#include "reception/reception.h"
#include "reception/rules.h"
#include "reception/transaction.h"
#include "smtp/command.h"
#include "smtp/extensions.h"
#include "smtp/reply.h"

namespace sluice::reception {

// One client's SMTP session, from the banner to the last reply (RFC 5321 §3). Shard-owned; run() is its only
// coroutine, apart from one that says goodbye while run() waits for the client.
//
// Replies gather while there is input to read and go out in one write when it runs dry (RFC 2920 §3.2), so a client
// that pipelines gets them in groups, and one that waits is never kept waiting (PL-3).
class Session final : private net::Deadline::Owner {
public:
    // The census outlives the session.
    Session(const Surroundings& surroundings, Census& census, RulesPtr rules, net::StreamPtr stream,
            net::Endpoint listener);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Serves the client until it or we end the session. Cancelling the task ends it at once.
    Task<> run();

    // From now on the next command is answered 421; a session that waits for one outside of a transaction gets it now.
    void stop();
    void abort() { stream_->abort(); }

private:
    using TimePoint = std::chrono::steady_clock::time_point;
    // What a command leaves to do for the coroutine that reads commands.
    enum class Next : std::uint8_t { command, data, chunk, starttls, auth, plugins, hang_up };
    // A command that plugins are to be asked about, and what it does when they do not object.
    struct Pending {
        Hook hook = Hook::noop;
        smtp::Reply reply;
        mail::Recipient recipient;  // rcpt
        std::string command;        // command
    };

    // session.cc: the conversation
    Task<Result<>> converse();
    Next obey(const smtp::CommandLines::Line& line);
    Task<Result<>> carry_out(Next next);
    Task<Result<>> wait_for_input();
    Task<Result<>> fill(std::size_t size);
    Task<Result<>> flush();
    void begin_wait();
    void wait_until(TimePoint when);
    void deadline_passed() override;
    void leave(const smtp::Reply& reply);
    Task<> say_farewell(std::string goodbye);
    Task<> finish(Result<> ended);
    void log_connect();
    void log_disconnect();
    bool log_enabled(event::Level level) const { return around_.log.enabled(level); }
    std::size_t command_octets_max() const;

    // session_opening.cc: before the first command, and TLS
    Task<Result<>> open();
    bool enter();
    Task<Result<>> read_proxy_header();
    Task<Result<>> refuse_early_talker();
    Task<Result<>> start_tls();
    Task<Result<>> handshake();
    void greet();

    // session_commands.cc: what each command does
    Next dispatch(smtp::Command command);
    Next answer_idle(const smtp::Reply& reply);
    Next refuse_line(const smtp::Refusal& refusal);
    Next hello(const smtp::Command& command);
    Next mail(const smtp::MailFrom& mail);
    Next rcpt(smtp::RcptTo& rcpt);
    Next data();
    Next chunk(const smtp::Bdat& chunk);
    Next reset();
    Next quit();
    Next starttls();
    Next auth(const smtp::Auth& auth);
    Next unknown(const smtp::Words& words);
    std::optional<smtp::Reply> refuse_mail(const smtp::MailFrom& mail) const;
    std::optional<smtp::Reply> refuse_rcpt() const;
    void take_recipient(mail::Recipient recipient);
    std::optional<smtp::Reply> refuse_content() const;
    smtp::Extensions extensions() const;
    bool may_authenticate() const;

    // session_content.cc: DATA, BDAT, and what follows their last octet
    Task<Result<>> receive_data();
    Task<Result<>> receive_chunk();
    Task<Result<>> drop_chunk(smtp::Reply refusal);
    Task<Result<>> more_content();
    Task<Result<>> settle(smtp::DataFault fault);
    Task<Result<>> accept_message();
    Bearer bearer(std::string_view tls) const;
    Task<Result<>> make_durable(mail::MessagePtr message, std::string cipher);
    Task<Result<>> linger(smtp::DataDecoder& decoder);
    std::size_t content_read_size() const;
    smtp::DataLimits data_limits() const;
    void begin_content();
    bool no_room();
    void extend_content_deadline();

    // session_auth.cc
    Task<Result<>> authenticate();
    Task<Result<std::optional<std::string>>> ask(std::string_view challenge);
    Task<Result<>> auth_failed(std::string user);
    void auth_succeeded(const Authentication& dialogue);

    // session_hooks.cc: what plugins decide
    bool asks(Hook hook) const { return around_.hooks != nullptr && around_.hooks->wants(hook); }
    Next ask_later(Hook hook, smtp::Reply reply);
    Next obey_loop(std::string_view line);
    bool is_for_plugins(std::string_view line) const;
    Next ask_about_command(std::string_view line);
    Task<Result<>> ask_plugins();
    Task<bool> open_with_plugins();
    Task<std::optional<smtp::Reply>> ask_about_data();
    std::optional<smtp::Reply> prepare_for_plugins(MessageId id, std::string_view tls);
    Task<bool> offer_to_plugins(MessageId id, std::string_view tls);
    Task<> ask_about_size(smtp::Reply& refusal);
    Task<Answer> ask(Hook hook, Occasion& occasion);
    void tell(Hook hook, std::string text = {});
    void note_known();
    Occasion occasion() const;
    void learn(const Answer& answer);
    Next conclude(Pending& pending, Answer& answer);
    Next conclude_rcpt(Pending& pending, const Answer& answer);
    Next refuse_as(Hook hook, const Answer& answer);
    void undo(Hook hook);
    smtp::Reply refusal_of(Hook hook, const Answer& answer) const;
    std::optional<smtp::Reply> apply(Answer& answer);
    bool apply_envelope(const Answer& answer);
    void say_taken(const Answer& answer);
    void end_transaction();

    void say(const smtp::Reply& reply);
    void say(int code, std::string_view enhanced, std::string text) { say(smtp::Reply(code, enhanced, std::move(text))); }
    // The same for a 4xx or 5xx: counts it, records it.
    Next refuse(const smtp::Reply& reply, std::string_view stage, std::string_view forward_path = {});
    // Too many errors are the end, whoever refused.
    Next weigh_errors();
    void record_refusal(const smtp::Reply& reply, std::string_view stage, std::string_view forward_path);
    // Nothing else ever permits relaying (conformance 2.4): the client's address, a login, or a plugin's word, which counts
    // for the session or for one transaction.
    bool relaying() const {
        if (transaction_ && transaction_->relaying) return *transaction_->relaying;
        return session_relays();
    }
    bool session_relays() const { return plugins_relay_.value_or(relays_by_address_ || !auth_user_.empty()); }
    void forget_client();
    const config::Settings& settings() const { return *rules_->settings; }

    Surroundings around_;
    Census& census_;
    RulesPtr rules_;
    net::StreamPtr stream_;
    net::Endpoint listener_;
    net::Endpoint client_;       // behind a proxy: who the proxy says it is
    std::string client_text_;    // address without port
    std::string id_;             // of the session, in logs

    InputBuffer input_;
    smtp::CommandLines lines_;
    std::string replies_;        // not sent yet

    std::string helo_;           // empty: no greeting yet
    bool extended_ = false;      // EHLO rather than HELO
    smtp::Extensions offered_;
    std::string auth_user_;
    bool relays_by_address_ = false;
    bool auth_by_plugin_ = false;
    std::optional<bool> plugins_relay_;  // what plugins said about this session
    bool known_to_plugins_ = false;
    bool plugins_read_ = false;  // the next line is theirs
    std::optional<smtp::Reply> loop_;  // the answer to everything but QUIT
    Pending pending_;
    std::optional<Transaction> transaction_;
    smtp::Bdat chunk_;           // the last BDAT
    smtp::Auth auth_;            // the last AUTH

    bool over_ = false;          // the last reply is said
    bool stopping_ = false;
    bool waiting_for_command_ = false;
    bool proxied_ = false;
    bool entered_ = false;       // the census counts us
    bool reading_ = false;
    bool leaving_ = false;       // the last reply is on its way while a read waits
    bool mute_ = false;          // a handshake failed: nobody would understand us
    net::Deadline deadline_;     // of what we wait to read; the stream's own is a little later
    async::TaskGroup goodbyes_;
    std::uint32_t errors_ = 0, auth_failures_ = 0;
    std::uint32_t idle_commands_ = 0;   // since the last message
    std::uint32_t transactions_ = 0, recipients_ = 0, messages_ = 0;
    std::uint64_t content_octets_ = 0;  // of the content under way, on the wire
    std::uint64_t content_noted_ = 0;   // of those, told to admission
    TimePoint content_began_;
    TimePoint connected_;
};

}  // namespace sluice::reception
