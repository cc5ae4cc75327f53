#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "delivery/dialogue.h"
#include "delivery/disposition.h"
#include "delivery/sasl.h"
#include "mail/message.h"
#include "net/tls.h"
#include "smtp/extensions.h"

namespace sluice::delivery {

enum class TlsMode : std::uint8_t {
    off,
    opportunistic,        // when offered, with any certificate; in clear when not
    verified_if_offered,  // in clear only when it is not offered
    required,             // with any certificate, or nothing
    mandatory,            // verified, or nothing
};
inline bool is_demanded(TlsMode mode) { return mode == TlsMode::required || mode == TlsMode::mandatory; }
inline bool is_verified(TlsMode mode) { return mode == TlsMode::verified_if_offered || mode == TlsMode::mandatory; }

// How to behave towards one peer. Value.
struct SessionTerms {
    bool lmtp = false;
    std::string helo_name;
    TlsMode tls = TlsMode::off;
    std::shared_ptr<net::TlsContext> tls_context;  // unless off
    std::string tls_name;                          // SNI and the name to verify
    Credentials credentials;                       // empty user: none
    policy::DeliverySettingsPtr how;               // of delivery.yaml; may be null
    bool pipelining = true;                        // where it is offered
};

// A recipient's verdict by its place in the list given to deliver(); nothing yet: undecided.
using Verdicts = std::vector<std::optional<Verdict>>;

// The client's side of one SMTP or LMTP connection (RFC 5321, RFC 2033), from the greeting to QUIT. Shard-owned.
//
// Reads like the RFC: open() greets, says EHLO, starts TLS and authenticates; deliver() runs as many transactions as
// the recipients need; quit() says goodbye. With PIPELINING a transaction is one write and one round trip up to the
// content; with CHUNKING a small body travels along. Content is written from where it lies, never copied.
class ClientSession {
public:
    // `settings` and `log` outlive the session; `name` stands for it in the log.
    ClientSession(
        net::StreamPtr stream, SessionTerms terms, std::shared_ptr<const config::Settings> settings, event::Log& log,
        std::string name);

    // Nothing when the session is ready for mail, else what stopped it.
    Task<std::optional<Verdict>> open();
    // After open() failed: the handshake failed where going on in clear is permitted, on a new connection (TL-3).
    bool tls_is_broken() const { return tls_broken_; }

    // Carries the message to envelope.recipients[r] for every r of `recipients`, and fills their places in `verdicts`.
    // A place stays empty only if the peer's MAILMAX is reached, its PIPELINING turned out not to work, or it closed or said more than it
    // was asked between two transactions: those recipients need another connection. The first transaction always decides somebody, or ends
    // with pipelining_failed().
    Task<> deliver(const mail::Message& message, std::span<const std::uint32_t> recipients, Verdicts& verdicts);

    // Can carry another message: the link is sound, nothing surplus was said, and the peer's MAILMAX is not reached.
    bool usable() const { return opened_ && !broken_ && !pipelining_failed_ && !mail_max_reached() && !dialogue_.has_surplus(); }
    // No reply to MAIL has been read since the last call of deliver(): a dead pooled connection looks like that.
    bool untouched() const { return untouched_; }
    // The number of messages tried on this connection.
    std::uint32_t message_count() const { return message_count_; }

    // QUIT. What the peer says to it matters to nobody (C5321-09).
    Task<> quit();
    // The peer does not cope with what it offered: it wants a connection with pipelining off.
    bool pipelining_failed() const { return pipelining_failed_; }
    // The link is known to be dead: nothing more is said on it.
    void forget() { broken_ = untouched_ = true; }
    // The item at hand goes another way: nothing of it was said here.
    void pass_over() { untouched_ = true; }
    // Breaks off whatever is under way.
    void abort() { dialogue_.stream().abort(); }

    const smtp::Extensions& extensions() const { return extensions_; }
    const net::TlsSession* tls() const { return dialogue_.stream().tls(); }
    bool authenticated() const { return authenticated_; }
    bool lmtp() const { return terms_.lmtp; }
    net::Stream& stream() { return dialogue_.stream(); }

private:
    // One command of a transaction, whose reply is still to come.
    struct Step {
        enum class Kind : std::uint8_t { rset, mail, rcpt, data, bdat } kind;
        std::size_t place;  // rcpt: in the verdicts
        std::size_t end;    // where its line ends in commands_
    };
    struct Transaction;

    Task<std::optional<Verdict>> await_greeting();
    Task<std::optional<Verdict>> hello();
    Task<std::optional<Verdict>> start_tls();
    Task<std::optional<Verdict>> authenticate();
    Task<std::optional<Verdict>> exchange(std::unique_ptr<SaslExchange> sasl);
    Task<Result<smtp::Reply>> ask(Stage stage, std::string_view line, Dialogue::Showing showing);
    Task<Result<smtp::Reply>> hear_unasked();
    Channel channel() const;

    void refuse_unfit(Transaction& transaction);
    bool convert(Transaction& transaction);
    void refuse_all(Transaction& transaction, const Verdict& verdict);
    bool mail_max_reached() const;
    bool is_out_of_step();
    bool next_group(const Transaction& transaction);
    void compose(Transaction& transaction);
    void stuff(const Transaction& transaction);
    void add_mail(const Transaction& transaction);
    Task<Result<>> converse(Transaction& transaction);
    std::size_t flight_end(const Transaction& transaction, std::size_t from) const;
    Task<Result<>> send_flight(Transaction& transaction, std::size_t from, std::size_t to);
    Task<Result<>> read_step(Transaction& transaction, Step step);
    Task<Result<>> note_unasked(Transaction& transaction);
    Result<> note_mail(Transaction& transaction, smtp::Reply reply);
    Result<> note_rcpt(Transaction& transaction, std::size_t place, smtp::Reply reply);
    Task<Result<>> send_data(Transaction& transaction, smtp::Reply reply);
    Task<Result<>> read_decision(Transaction& transaction);
    Task<Result<>> write_blocks(std::string_view lines);
    bool confuses(const smtp::Reply& reply);
    void end_with(const Transaction& transaction, const Verdict& verdict);
    Verdict judge(Stage stage, const smtp::Reply& reply) const;

    std::shared_ptr<const config::Settings> settings_;
    SessionTerms terms_;
    event::Log& log_;
    Dialogue dialogue_;
    smtp::Extensions extensions_;
    bool authenticated_ = false;
    bool tls_broken_ = false;
    bool opened_ = false;
    bool broken_ = false;      // nothing more can be said
    bool needs_rset_ = false;  // the last transaction ended half way
    bool untouched_ = true;
    bool pipelining_failed_ = false;
    std::uint32_t message_count_ = 0;
    std::uint32_t transaction_count_ = 0;

    // Of the transaction under way; members for their capacity.
    std::string commands_;
    std::vector<Step> steps_;
    bool in_flight_ = false;             // the commands whose replies are read went out together
    std::vector<std::size_t> group_;     // places that it is about
    std::vector<std::size_t> accepted_;  // of these, the places whose RCPT was accepted, in order
    std::vector<std::string_view> pieces_;
};

}  // namespace sluice::delivery
