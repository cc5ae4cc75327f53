// DATA and BDAT: from the go-ahead to the reply that the message is safe.

#include "reception/composition.h"
#include "reception/session.h"

namespace sluice::reception {
namespace {

using std::chrono::steady_clock;

// A client earns a millisecond with every octet: slower than 1 kB/s over long is not waited for (DoS-1).
constexpr std::chrono::milliseconds per_octet{1};
constexpr std::size_t reserve_max = 1 << 20;       // a declared SIZE is believed up to this
constexpr std::size_t usual_message = 8 * 1024;
constexpr std::size_t large_read = 64 * 1024;
constexpr std::size_t noted_at_once = 64 * 1024;
constexpr std::size_t linger_octets_max = 1 << 20;

bool is_smuggling(smtp::DataFault fault) {
    return fault == smtp::DataFault::bare_eol || fault == smtp::DataFault::nul;
}

std::string tls_text(const net::TlsSession* tls) {
    return tls == nullptr ? std::string() : tls->version + " " + tls->cipher;
}

}  // namespace

smtp::DataLimits Session::data_limits() const {
    const config::ConnectionSettings& connection = settings().connection;
    smtp::DataLimits limits;
    limits.size_max = connection.message_bytes_max;
    limits.line_max = connection.data_line_max;
    limits.bare_eol = connection.strict_bare_eol ? smtp::BareEol::refuse : smtp::BareEol::normalise;
    return limits;
}

std::size_t Session::content_read_size() const {
    return transaction_ && transaction_->declared_size() > large_read ? large_read : InputBuffer::content_size;
}

void Session::begin_content() {
    content_began_ = steady_clock::now();
    content_octets_ = 0;
    content_noted_ = 0;
    const std::size_t declared = std::min<std::uint64_t>(transaction_->declared_size(), reserve_max);
    transaction_->content.reserve(declared == 0 ? usual_message : declared + declared / 64 + 2);
}

// The wait for any octet is bounded, and so is the whole content by what has come of it.
void Session::extend_content_deadline() {
    const auto now = steady_clock::now();
    const auto patience = settings().smtp.inactivity_timeout;
    const auto earned = content_began_ + patience + per_octet * static_cast<std::int64_t>(content_octets_);
    wait_until(std::min(now + patience, earned));
}

Task<Result<>> Session::receive_data() {
    const auto objection = co_await ask_about_data();
    if (objection) {
        if (refuse(*objection, "data") == Next::hang_up) over_ = true;
        end_transaction();
        co_return Result<>();
    }
    say(smtp::Reply(354, "", "go ahead, make my day"));
    begin_content();
    smtp::DataDecoder decoder(data_limits());
    for (;;) {
        decoder.feed(input_.rest(), transaction_->content);
        content_octets_ = decoder.wire_octets();
        if (no_room()) break;
        // Who sends stray line ends may never send the true end of data: that reply does not wait for it.
        if (decoder.done() || is_smuggling(decoder.fault())) break;
        CO_TRY_VOID(co_await more_content());
    }
    const bool at_end = decoder.done();
    if (transaction_) {
        CO_TRY_VOID(co_await settle(decoder.fault()));
    }
    if (!at_end) {
        CO_TRY_VOID(co_await linger(decoder));
    }
    co_return Result<>();
}

Task<Result<>> Session::more_content() {
    CO_TRY_VOID(co_await flush());
    extend_content_deadline();
    co_return co_await fill(content_read_size());
}

// Long content may meet the end of memory half-way: true when that was the end of the session (DoS-7).
bool Session::no_room() {
    if (content_octets_ - content_noted_ < noted_at_once) return false;
    const auto why = around_.acceptance.no_room_after(content_octets_ - std::exchange(content_noted_, content_octets_));
    if (!why) return false;
    refuse(smtp::Reply(421, "4.3.1", *why), "content");
    over_ = true;
    end_transaction();
    return true;
}

// Lets a refused client finish, for a short while and to no effect: closing with octets unread would reset the
// connection and might take our reply away.
Task<Result<>> Session::linger(smtp::DataDecoder& decoder) {
    CO_TRY_VOID(co_await flush());
    stream_->set_timeout(rules_->patience.linger);
    deadline_.set(TimePoint::max());
    std::string nothing;
    while (!decoder.done() && decoder.wire_octets() < content_octets_ + linger_octets_max) {
        const Result<> filled = co_await fill(InputBuffer::content_size);
        if (!filled) break;
        decoder.feed(input_.rest(), nothing);
    }
    co_return Result<>();
}

Task<Result<>> Session::receive_chunk() {
    const bool goes_on = transaction_ && transaction_->chunked();
    if (!goes_on) {
        if (const auto refusal = refuse_content()) co_return co_await drop_chunk(*refusal);
        const auto objection = co_await ask_about_data();
        if (objection) {
            CO_TRY_VOID(co_await drop_chunk(*objection));
            end_transaction();
            co_return Result<>();
        }
        begin_content();
    }
    transaction_->begin_chunk(chunk_);
    for (;;) {
        smtp::ChunkReader& chunks = transaction_->chunks();
        const std::size_t before = input_.rest().size();
        chunks.feed(input_.rest(), transaction_->content);
        content_octets_ += before - input_.rest().size();
        if (no_room()) co_return Result<>();
        if (chunks.chunk_complete()) break;
        CO_TRY_VOID(co_await more_content());
    }
    smtp::DataFault fault = transaction_->chunks().fault();
    if (fault == smtp::DataFault::none && !chunk_.last) {
        const smtp::Reply taken(250, "2.0.0", std::to_string(chunk_.size) + " octets received");
        // An empty chunk is no progress: without end they would be a session that never says anything (DoS-4).
        if (chunk_.size > 0) say(taken);
        else if (answer_idle(taken) == Next::hang_up) over_ = true;
        co_return Result<>();
    }
    if (fault == smtp::DataFault::none) fault = smtp::settle_content(transaction_->content, data_limits(), false);
    co_return co_await settle(fault);
}

// The octets of a chunk that nobody wants are read all the same: the next command stands behind them (BD-3).
Task<Result<>> Session::drop_chunk(smtp::Reply refusal) {
    const std::uint64_t size_max = settings().connection.message_bytes_max;
    if (size_max != 0 && chunk_.size > size_max) {
        refuse(smtp::reply_for(smtp::DataFault::too_large), "bdat");
        over_ = true;
        co_return Result<>();
    }
    content_began_ = steady_clock::now();
    content_octets_ = 0;
    while (content_octets_ < chunk_.size) {
        if (input_.empty()) {
            CO_TRY_VOID(co_await more_content());
        }
        const std::size_t used = std::min<std::uint64_t>(input_.rest().size(), chunk_.size - content_octets_);
        input_.rest().remove_prefix(used);
        content_octets_ += used;
    }
    if (refuse(refusal, "bdat") == Next::hang_up) over_ = true;
    if (refusal.transient()) end_transaction();
    co_return Result<>();
}

// The content is complete, or was found wanting: takes the message or refuses it. Either ends the transaction.
Task<Result<>> Session::settle(smtp::DataFault fault) {
    if (fault == smtp::DataFault::none) co_return co_await accept_message();
    smtp::Reply refusal = smtp::reply_for(fault);
    if (fault == smtp::DataFault::too_large && asks(Hook::oversize)) co_await ask_about_size(refusal);
    if (refuse(refusal, "dot") == Next::hang_up) over_ = true;
    if (is_smuggling(fault)) over_ = true;
    end_transaction();
    co_return Result<>();
}

Bearer Session::bearer(std::string_view tls) const {
    const mail::ReceivedWith with{
        extended_, false, stream_->tls() != nullptr, !auth_user_.empty(), transaction_->envelope().smtputf8};
    Bearer bearer;
    bearer.client_ip = client_text_;
    bearer.helo = helo_;
    bearer.tls = tls;
    bearer.with = with.keyword();
    bearer.origin = "smtp " + client_text_;
    bearer.auth_user = auth_user_;
    bearer.port = listener_.port;
    bearer.submits = relaying();
    bearer.strict_header = rules_->submission_port(listener_);
    bearer.knows_smtputf8 = offered_.smtputf8;
    return bearer;
}

Task<Result<>> Session::accept_message() {
    const std::string cipher = tls_text(stream_->tls());
    const MessageId id = around_.ids.next();
    const bool asked = asks(Hook::content);
    if (asked) {
        const bool ours = co_await offer_to_plugins(id, cipher);
        if (!ours) co_return Result<>();
    }
    // Whoever was asked, and whatever about: what only a plugin's word let in does not go out without one.
    if (transaction_->plugins_must_take && !relaying()) {
        const smtp::Reply refusal(451, "4.3.5", "Queuing declined or disabled; please try again later");
        if (refuse(refusal, "dot") == Next::hang_up) over_ = true;
        end_transaction();
        co_return Result<>();
    }
    const Bearer from = bearer(cipher);
    Parts parts;
    parts.traced = asked;
    parts.notes = std::move(transaction_->notes);
    parts.envelope = transaction_->take_envelope();
    parts.content = std::move(transaction_->content);
    // It may wait in memory for long, and the bound on that counts its octets: no room twice its size stays with it.
    if (parts.content.capacity() > 2 * parts.content.size()) parts.content.shrink_to_fit();
    auto message = compose(std::move(parts), from, id, around_.clock.now(), settings());
    if (!message) {
        transaction_->give_back(std::move(parts.envelope));  // NOLINT(bugprone-use-after-move): a refusal leaves it there
        if (refuse(message.error(), "dot") == Next::hang_up) over_ = true;
        end_transaction();
        co_return Result<>();
    }
    co_return co_await make_durable(std::move(*message), cipher);
}

// Only after accept() may 250 be said.
Task<Result<>> Session::make_durable(mail::MessagePtr message, std::string cipher) {
    const Result<> accepted = co_await around_.acceptance.accept(message);
    if (!accepted) {
        const bool full = accepted.error().code == Errc::disk_full;
        const smtp::Reply refusal = full ? smtp::Reply(452, "4.3.1", "Out of storage; please try again later")
                                         : smtp::Reply(451, "4.3.0", "Message could not be stored; please try again later");
        transaction_->give_back(message->envelope);
        if (refuse(refusal, "dot") == Next::hang_up) over_ = true;
        end_transaction();
        co_return Result<>();
    }
    const std::string text = "Message Queued (" + message->id.text() + ")";
    if (transaction_->known_to_plugins) {
        transaction_->give_back(message->envelope);  // plugins hear of the end with what has ended
        tell(Hook::queued, text);
    }
    end_transaction();
    ++messages_;
    idle_commands_ = 0;
    event::Accepted fact{*message, client_text_, helo_, cipher};
    fact.took = std::chrono::duration_cast<Duration>(steady_clock::now() - content_began_);
    around_.events.record(fact);
    say(250, "2.0.0", text);
    co_return Result<>();
}

}  // namespace sluice::reception
