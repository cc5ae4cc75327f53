// The part of ClientSession that carries mail: MAIL, RCPT..., DATA or BDAT, content, decision.

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/text.h"
#include "base/working_on.h"
#include "delivery/client_session.h"
#include "delivery/downgrade.h"
#include "mail/header.h"
#include "smtp/command.h"
#include "smtp/data.h"

namespace sluice::delivery {
namespace {

// The replies to so many commands fit in the buffers between us and the peer, whatever their length, so neither side
// waits for the other to read (RFC 2920 §3.1, PL-7).
constexpr std::size_t flight_commands_max = 28;
// A body up to this size travels with its envelope: losing it to a refusal costs less than a round trip.
constexpr std::size_t small_content_max = 64 * 1024;
// Every block has block_timeout to go out.
constexpr std::size_t block_bytes_max = 256 * 1024;
// A server must take 100 (RFC 5321 §4.5.3.1.8); more would only come back as 452.
constexpr std::size_t group_recipients_max = 100;

// "Too many recipients" concerns the transaction, not the mailbox: the same again without the others is welcome
// (RFC 5321 §4.5.3.1.10, where 552 counts as 452).
bool asks_for_new_transaction(const smtp::Reply& reply) {
    if (reply.code != 452 && reply.code != 552) return false;
    return !reply.enhanced || (reply.enhanced->subject == 5 && reply.enhanced->detail == 3);
}

}  // namespace

struct ClientSession::Transaction {
    const mail::Message& message;
    std::span<const std::uint32_t> recipients;
    Verdicts& verdicts;
    std::string_view trace, content;  // as they go out
    std::string seven_bit;            // holds `content` when it had to be converted
    bool has_leading_dot = false;
    bool chunked = false;
    bool needs_utf8 = false;
    mail::BodyType body = mail::BodyType::unspecified;
    bool mail_accepted = false;
    std::size_t rcpt_replies = 0;
    bool content_sent = false;  // all of it, with its end

    std::size_t size() const { return trace.size() + content.size(); }
    const mail::Recipient& recipient(std::size_t place) const { return message.envelope.recipients[recipients[place]]; }
};

bool ClientSession::mail_max_reached() const {
    const auto& limit = extensions_.limits.mail_max;
    return limit && transaction_count_ >= *limit;
}

Task<> ClientSession::deliver(
    const mail::Message& message, std::span<const std::uint32_t> recipients, Verdicts& verdicts) {
    ASSERT(verdicts.size() == recipients.size());
    ++message_count_;
    untouched_ = true;
    Transaction transaction{
        .message = message,
        .recipients = recipients,
        .verdicts = verdicts,
        .trace = message.trace,
        .content = message.content,
        .seven_bit = {}};
    refuse_unfit(transaction);
    bool begun = false;
    while (!broken_ && !pipelining_failed_ && !mail_max_reached() && next_group(transaction)) {
        if (std::exchange(begun, true) && is_out_of_step()) {
            broken_ = true;
            break;
        }
        const auto done = co_await converse(transaction);
        if (!done) {
            const Stage stage = transaction.content_sent ? Stage::dot : dialogue_.stage();
            end_with(transaction, Verdict::of_error(stage, done.error()));
            // It may have read the first of our commands, and thrown away those that came with it.
            if (in_flight_ && stage != Stage::dot && done.error().code == Errc::timed_out) pipelining_failed_ = true;
        }
    }
}

// Between transactions: a reply too many would be taken for the next one's first, and all that follow for their neighbours'.
bool ClientSession::is_out_of_step() {
    return dialogue_.has_surplus() || dialogue_.stream().idle_link_is_dead();
}

void ClientSession::refuse_all(Transaction& transaction, const Verdict& verdict) {
    for (auto& place : transaction.verdicts) {
        if (!place) place = verdict;
    }
}

// What this peer cannot take is not sent (SZ-5, 8B-2, BD-8, EA-3).
void ClientSession::refuse_unfit(Transaction& transaction) {
    const WorkingOn working(transaction.message.id);
    const mail::Message& message = transaction.message;
    const mail::ContentTraits& traits = message.traits;
    const auto refuse = [](Errc error, const char* status, const char* text) {
        return Verdict{Stage::mail, 0, error, status, text};
    };
    transaction.has_leading_dot = traits.has_leading_dot;
    transaction.chunked = extensions_.chunking && (settings_->outbound.chunking || traits.has_bare_eol);
    transaction.body = message.envelope.body;
    if (traits.has_8bit && transaction.body != mail::BodyType::binary_mime) {
        transaction.body = mail::BodyType::eight_bit_mime;
    }
    if (traits.has_bare_eol && !(extensions_.chunking && extensions_.binarymime)) {
        refuse_all(transaction, refuse(Errc::unsupported, "5.6.1", "the peer does not offer BINARYMIME"));
    }
    using EightBit = config::OutboundSettings::EightBit;
    const EightBit eight_bit = settings_->outbound.eight_bit;
    if (traits.has_8bit && !extensions_.eight_bit_mime && eight_bit != EightBit::send) {
        if (eight_bit == EightBit::bounce || !convert(transaction)) {
            refuse_all(transaction, refuse(Errc::unsupported, "5.6.3", "the peer does not offer 8BITMIME"));
        }
    }
    if (extensions_.size_max > 0 && transaction.size() > extensions_.size_max) {
        refuse_all(transaction, refuse(Errc::too_large, "5.3.4", "the message is larger than the peer's SIZE"));
    }
    const bool raw_header = traits.has_8bit_header &&
                            (message.envelope.smtputf8 || settings_->outbound.eight_bit != EightBit::send);
    transaction.needs_utf8 = raw_header || message.envelope.reverse_path.local_needs_utf8();
    const Verdict no_utf8 = refuse(Errc::unsupported, "5.6.7", "the peer does not offer SMTPUTF8");
    if (transaction.needs_utf8 && !extensions_.smtputf8) refuse_all(transaction, no_utf8);
    for (std::size_t place = 0; place < transaction.verdicts.size(); ++place) {
        if (!transaction.recipient(place).address.local_needs_utf8()) continue;
        transaction.needs_utf8 = true;
        if (!extensions_.smtputf8 && !transaction.verdicts[place]) transaction.verdicts[place] = no_utf8;
    }
}

// True when the content goes out in 7 bits now.
bool ClientSession::convert(Transaction& transaction) {
    auto converted = to_seven_bit(transaction.content);
    if (!converted || !is_ascii(transaction.trace)) return false;
    transaction.seven_bit = std::move(*converted);
    transaction.content = transaction.seven_bit;
    transaction.has_leading_dot = mail::scan_content(transaction.content).has_leading_dot;
    transaction.body = mail::BodyType::seven_bit;
    return true;
}

// The undecided recipients of the next transaction. RCPTDOMAINMAX needs no care: an item has one domain.
bool ClientSession::next_group(const Transaction& transaction) {
    const std::size_t room = std::min<std::size_t>(
        extensions_.limits.rcpt_max.value_or(group_recipients_max), group_recipients_max);
    group_.clear();
    for (std::size_t place = 0; place < transaction.verdicts.size() && group_.size() < room; ++place) {
        if (!transaction.verdicts[place]) group_.push_back(place);
    }
    return !group_.empty();
}

void ClientSession::add_mail(const Transaction& transaction) {
    const mail::Envelope& envelope = transaction.message.envelope;
    if (envelope.body == transaction.body) {
        commands_ += smtp::format_mail(envelope, transaction.size(), transaction.needs_utf8, extensions_);
        return;
    }
    mail::Envelope declared;  // all of it but the recipients
    declared.reverse_path = envelope.reverse_path;
    declared.ret = envelope.ret;
    declared.envid = envelope.envid;
    declared.mt_priority = envelope.mt_priority;
    declared.body = transaction.body;
    commands_ += smtp::format_mail(declared, transaction.size(), transaction.needs_utf8, extensions_);
}

void ClientSession::compose(Transaction& transaction) {
    const WorkingOn working(transaction.message.id);
    commands_.clear();
    steps_.clear();
    accepted_.clear();
    transaction.mail_accepted = false;
    transaction.rcpt_replies = 0;
    transaction.content_sent = false;
    if (needs_rset_) {
        commands_ += "RSET\r\n";
        steps_.push_back({Step::Kind::rset, 0, commands_.size()});
    }
    add_mail(transaction);
    steps_.push_back({Step::Kind::mail, 0, commands_.size()});
    const bool utf8 = transaction.needs_utf8 && extensions_.smtputf8;
    for (const std::size_t place : group_) {
        commands_ += smtp::format_rcpt(transaction.recipient(place), utf8, extensions_);
        steps_.push_back({Step::Kind::rcpt, place, commands_.size()});
    }
    commands_ += transaction.chunked ? smtp::format_bdat(transaction.size(), true) : "DATA\r\n";
    steps_.push_back({transaction.chunked ? Step::Kind::bdat : Step::Kind::data, 0, commands_.size()});
}

// Two cursors over one script: commands sent, replies read. Sending waits for all replies after each flight.
Task<Result<>> ClientSession::converse(Transaction& transaction) {
    compose(transaction);
    needs_rset_ = false;
    std::size_t sent = 0;
    while (sent < steps_.size() && !broken_ && !pipelining_failed_) {
        const Step::Kind kind = steps_[sent].kind;
        const bool past_mail = kind == Step::Kind::rcpt || kind == Step::Kind::data || kind == Step::Kind::bdat;
        if (past_mail && !transaction.mail_accepted) co_return Result<>();
        if (past_mail && kind != Step::Kind::rcpt && accepted_.empty()) {
            needs_rset_ = true;
            co_return Result<>();
        }
        if (dialogue_.has_surplus()) {
            if (sent == 0) dialogue_.enter(Stage::mail);
            co_return co_await note_unasked(transaction);
        }
        const std::size_t end = flight_end(transaction, sent);
        in_flight_ = end - sent > 1;
        CO_TRY_VOID(co_await send_flight(transaction, sent, end));
        for (; sent < end && !broken_; ++sent) {
            const Step step = steps_[sent];
            auto read = co_await read_step(transaction, step);
            if (!read) co_return read;
        }
    }
    co_return Result<>();
}

std::size_t ClientSession::flight_end(const Transaction& transaction, std::size_t from) const {
    if (!extensions_.pipelining || !settings_->outbound.pipelining || !terms_.pipelining) return from + 1;
    const std::size_t end = std::min(from + flight_commands_max, steps_.size());
    const bool with_content = end == steps_.size() && transaction.chunked;
    if (with_content && transaction.size() > small_content_max && end - from > 1) return end - 1;
    return end;
}

Task<Result<>> ClientSession::send_flight(Transaction& transaction, std::size_t from, std::size_t to) {
    const std::size_t begin = from == 0 ? 0 : steps_[from - 1].end;
    const std::string_view lines = std::string_view(commands_).substr(begin, steps_[to - 1].end - begin);
    if (steps_[to - 1].kind != Step::Kind::bdat) {
        const Step::Kind kind = steps_[from].kind;
        dialogue_.enter(
            kind == Step::Kind::data ? Stage::data : kind == Step::Kind::rcpt ? Stage::rcpt : Stage::mail);
        co_return co_await dialogue_.send(lines);
    }
    pieces_.clear();
    pieces_.push_back(lines);
    pieces_.push_back(transaction.trace);
    pieces_.push_back(transaction.content);
    CO_TRY_VOID(co_await write_blocks(lines));
    transaction.content_sent = true;
    co_return Result<>();
}

// Sends pieces_, in blocks of their own deadline when they are many octets. `lines`: commands among them, for the log.
Task<Result<>> ClientSession::write_blocks(std::string_view lines) {
    std::size_t total = 0;
    for (const std::string_view piece : pieces_) total += piece.size();
    dialogue_.enter(Stage::body);
    if (total <= block_bytes_max) co_return co_await dialogue_.send_with_content(lines, pieces_);

    std::vector<std::string_view> block;
    std::size_t gathered = 0;
    for (std::string_view piece : pieces_) {
        while (!piece.empty()) {
            const std::size_t size = std::min(piece.size(), block_bytes_max - gathered);
            block.push_back(piece.substr(0, size));
            piece.remove_prefix(size);
            gathered += size;
            if (gathered < block_bytes_max) continue;
            dialogue_.enter(Stage::body);
            CO_TRY_VOID(co_await dialogue_.send_with_content(lines, block));
            lines = {};
            block.clear();
            gathered = 0;
        }
    }
    dialogue_.enter(Stage::body);
    co_return co_await dialogue_.send_with_content(lines, block);
}

Task<Result<>> ClientSession::read_step(Transaction& transaction, Step step) {
    if (step.kind == Step::Kind::bdat) co_return co_await read_decision(transaction);
    dialogue_.enter(
        step.kind == Step::Kind::rcpt   ? Stage::rcpt
        : step.kind == Step::Kind::data ? Stage::data
                                        : Stage::mail);
    CO_TRY(auto reply, co_await dialogue_.reply());
    if (reply.code == 421) {
        end_with(transaction, judge(dialogue_.stage(), reply));
        co_return Result<>();
    }
    switch (step.kind) {
        case Step::Kind::rset:
            if (reply.positive()) co_return Result<>();
            // A session that cannot forget its last transaction is worth nothing (C5321-19).
            co_return fail(Errc::link_closed, "RSET refused: " + kept(reply.full_text()));
        case Step::Kind::mail: co_return note_mail(transaction, std::move(reply));
        case Step::Kind::rcpt: co_return note_rcpt(transaction, step.place, std::move(reply));
        case Step::Kind::data: co_return co_await send_data(transaction, std::move(reply));
        case Step::Kind::bdat: break;
    }
    UNREACHABLE();
}

Task<Result<>> ClientSession::note_unasked(Transaction& transaction) {
    CO_TRY(const auto farewell, co_await hear_unasked());
    end_with(transaction, judge(dialogue_.stage(), farewell));
    co_return Result<>();
}

// The commands are sound one by one, so a peer that knows one of them not, or not now, when they come together does not cope with
// pipelining, whatever it offered. What it says to them then decides nobody.
bool ClientSession::confuses(const smtp::Reply& reply) {
    if (!in_flight_ || (reply.code != 500 && reply.code != 502 && reply.code != 503)) return false;
    log_.info("outbound", "PIPELINING is offered and does not work", {{"reply", printable(kept(reply.full_text()))}});
    pipelining_failed_ = true;
    return true;
}

Result<> ClientSession::note_mail(Transaction& transaction, smtp::Reply reply) {
    untouched_ = false;
    ++transaction_count_;
    if (confuses(reply)) return {};
    if (reply.intermediate()) return fail(Errc::bad_reply, "answer to MAIL: " + kept(reply.full_text()));
    transaction.mail_accepted = reply.positive();
    if (transaction.mail_accepted) return {};
    const Verdict verdict = judge(Stage::mail, reply);
    for (const std::size_t place : group_) transaction.verdicts[place] = verdict;
    return {};
}

// 251 and 252 are acceptance like 250 (RFC 5321 §3.4; Haraka's A1).
Result<> ClientSession::note_rcpt(Transaction& transaction, std::size_t place, smtp::Reply reply) {
    if (reply.intermediate()) return fail(Errc::bad_reply, "answer to RCPT: " + kept(reply.full_text()));
    ++transaction.rcpt_replies;
    if (!transaction.mail_accepted) return {};
    if (reply.positive()) {
        accepted_.push_back(place);
    } else if (confuses(reply)) {
        return {};
    } else if (accepted_.empty() || !asks_for_new_transaction(reply)) {
        transaction.verdicts[place] = judge(Stage::rcpt, reply);
    }
    return {};
}

// The content as DATA wants it, into pieces_.
void ClientSession::stuff(const Transaction& transaction) {
    const WorkingOn working(transaction.message.id);
    pieces_.clear();
    smtp::append_stuffed(pieces_, transaction.trace, transaction.has_leading_dot);
    smtp::append_stuffed(pieces_, transaction.content, transaction.has_leading_dot);
    const bool only_trace = transaction.content.empty();
    pieces_.push_back(smtp::data_terminator(only_trace ? transaction.trace : transaction.content));
}

Task<Result<>> ClientSession::send_data(Transaction& transaction, smtp::Reply reply) {
    if (reply.positive()) co_return fail(Errc::bad_reply, "answer to DATA: " + kept(reply.full_text()));
    if (!reply.intermediate()) {
        if (!accepted_.empty() && confuses(reply)) co_return Result<>();
        const Verdict verdict = judge(Stage::data, reply);
        for (const std::size_t place : accepted_) transaction.verdicts[place] = verdict;
        needs_rset_ = transaction.mail_accepted;
        co_return Result<>();
    }
    if (accepted_.empty()) {
        // Every RCPT was refused, yet the peer waits for content: an empty one ends this (RFC 2920 §3.1), but LMTP
        // promises no reply to it.
        if (pipelining_failed_) broken_ = true;  // whom it would send an empty message to is anybody's guess
        if (broken_) co_return Result<>();
        if (terms_.lmtp) co_return fail(Errc::bad_reply, "354 without an accepted recipient");
        auto emptied = co_await ask(Stage::dot, ".\r\n", Dialogue::Showing::plain);
        needs_rset_ = true;
        if (!emptied) co_return fail(emptied.error());
        co_return Result<>();
    }
    if (dialogue_.has_surplus()) co_return co_await note_unasked(transaction);
    in_flight_ = false;
    stuff(transaction);
    CO_TRY_VOID(co_await write_blocks({}));
    transaction.content_sent = true;
    co_return co_await read_decision(transaction);
}

// One reply decides all accepted recipients; in LMTP each has its own, in the order of RCPT (RFC 2033 §4.2).
Task<Result<>> ClientSession::read_decision(Transaction& transaction) {
    const std::size_t replies = terms_.lmtp && !accepted_.empty() ? accepted_.size() : 1;
    for (std::size_t i = 0; i < replies; ++i) {
        dialogue_.enter(Stage::dot);
        CO_TRY(auto reply, co_await dialogue_.reply());
        if (reply.intermediate()) co_return fail(Errc::bad_reply, "answer to content: " + kept(reply.full_text()));
        if (!reply.positive()) needs_rset_ = true;
        if (reply.code == 421) {
            end_with(transaction, judge(Stage::dot, reply));
            co_return Result<>();
        }
        if (!accepted_.empty() && confuses(reply)) co_return Result<>();
        const Verdict verdict = judge(Stage::dot, reply);
        if (terms_.lmtp && !accepted_.empty()) {
            transaction.verdicts[accepted_[i]] = verdict;
        } else {
            for (const std::size_t place : accepted_) transaction.verdicts[place] = verdict;
        }
    }
    if (accepted_.empty()) needs_rset_ = transaction.mail_accepted;
    co_return Result<>();
}

// The link is of no use any more. Whose acceptance the peer may have said or was about to say shares the fate of the
// transaction; the others were not part of it, so nothing that the peer may have done concerns them.
void ClientSession::end_with(const Transaction& transaction, const Verdict& verdict) {
    broken_ = true;
    if (pipelining_failed_ && !transaction.content_sent) return;  // no wonder; another connection decides
    const bool all_answered = transaction.rcpt_replies == group_.size();
    for (const std::size_t place : all_answered ? accepted_ : group_) {
        if (!transaction.verdicts[place]) transaction.verdicts[place] = verdict;
    }
    for (auto& place : transaction.verdicts) {
        if (place) continue;
        place = verdict;
        if (facts_of(verdict.stage).may_duplicate) place->stage = Stage::mail;
    }
}

}  // namespace sluice::delivery
