#include "drill/ledger.h"

#include <algorithm>

#include "base/text.h"
#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

std::string text_of(std::uint64_t number) { return "message " + std::to_string(number); }

std::string clock_text() {
    const std::int64_t s = VirtualTime::now_ns() / 1'000'000;
    return std::to_string(s / 1000) + "." + std::to_string(s % 1000) + " s: ";
}

// The value of every field of this name in the whole text, body parts included.
std::vector<std::string> values_of(std::string_view text, std::string_view field) {
    std::vector<std::string> values;
    for (std::size_t at = text.find(field); at != std::string_view::npos; at = text.find(field, at + 1)) {
        if (at != 0 && text[at - 1] != '\n') continue;
        const std::size_t begin = at + field.size();
        values.emplace_back(text.substr(begin, text.find("\r\n", begin) - begin));
    }
    return values;
}

}  // namespace

// ---- clients and hosts --------------------------------------------------------------------------------------------

std::uint64_t Ledger::sent(Sent message) {
    auto book = std::make_unique<Book>();
    for (const std::string& recipient : message.recipients) book->fates[recipient];
    book->sent = std::move(message);
    sent_.push_back(std::move(book));
    ++counts_.messages;
    return sent_.size() - 1;
}

void Ledger::acknowledged(std::uint64_t number) {
    Book& book = *sent_[number];
    if (book.id == MessageId()) violate(text_of(number) + " was acknowledged, but the engine did not record it");
    book.sent.acknowledged = true;
    ++counts_.acknowledged;
    trace("ack " + std::to_string(number));
}

std::optional<std::uint64_t> Ledger::number_in(std::string_view content) {
    const auto values = values_of(content, "X-Drill: ");
    if (values.empty()) return std::nullopt;
    return parse_number<std::uint64_t>(values.front());
}

void Ledger::taken(Taken message) {
    trace("taken by " + message.host + " " + message.reverse_path + " " + std::to_string(message.content.size()));
    const bool is_report = message.content.find("report-type=delivery-status") != std::string::npos;
    if (message.reverse_path.empty() && is_report) return taken_dsn(message);
    const auto number = number_in(message.content);
    if (!number || *number >= sent_.size()) return violate(message.host + " took a message that nobody sent");
    Book& book = *sent_[*number];
    if (message.reverse_path != book.sent.reverse_path) {
        return violate(text_of(*number) + " came with the reverse-path <" + message.reverse_path + ">");
    }
    check_content(message, book);
    for (const std::string& recipient : message.recipients) {
        const std::string who = text_of(*number) + " for " + recipient;
        const auto found = book.fates.find(recipient);
        if (found == book.fates.end()) return violate(who + " was never asked for");
        if (!serves_(message.host, recipient.substr(recipient.find('@') + 1))) {
            return violate(who + " went to " + message.host + ", which is not in charge");
        }
        Fate& fate = found->second;
        check_duplicate(who, fate);
        // Who was told that the last attempt may have succeeded cannot complain.
        if (fate.end == End::bounced && !fate.possible_duplicate) violate(who + " was delivered after it had bounced");
        if (fate.end == End::removed) violate(who + " was delivered after it had been removed");
        if (!fate.commits.empty()) ++counts_.duplicates;
        fate.commits.push_back({message.link, message.reply_ends, message.says_so, life_});
    }
}

// A second delivery is right only if nobody can know whether the first one counted.
void Ledger::check_duplicate(const std::string& who, const Fate& fate) {
    for (const Fate::Commit& commit : fate.commits) {
        if (commit.life != life_) {
            if (fate.end == End::delivered && fate.durable) violate(who + " was delivered again after a crash that kept the outcome");
            continue;
        }
        if (!commit.says_so) continue;
        if (reply_was_read(commit)) {
            violate(who + " was delivered twice, though the first reply had been read");
        } else if (!fate.possible_duplicate) {
            violate(who + " was delivered twice, and no possible duplicate was recorded");
        }
    }
}

bool Ledger::reply_was_read(const Fate::Commit& commit) const {
    return *commit.reply_ends != 0 && commit.link->read_by_near() >= *commit.reply_ends;
}

// What the client sent stands at the end; above it is only what we put there.
void Ledger::check_content(const Taken& message, const Book& book) {
    const std::string_view content = message.content;
    if (!content.ends_with(book.sent.content)) return violate("content changed on its way to " + message.host);
    std::string_view added = content.substr(0, content.size() - book.sent.content.size());
    while (!added.empty()) {
        const std::size_t end = added.find("\r\n");
        if (end == std::string_view::npos) return violate("half a line was added in front of the content");
        const std::string_view line = added.substr(0, end);
        const bool known = line.starts_with("Received: ") || line.starts_with("Date: ") || line.starts_with("Message-ID: ") ||
                           line.starts_with('\t') || line.starts_with(' ');
        if (!known) return violate("unknown line in front of the content: " + std::string(line));
        added.remove_prefix(end + 2);
    }
}

void Ledger::taken_dsn(const Taken& message) {
    ++counts_.dsns;
    const auto number = number_in(message.content);
    if (!number || *number >= sent_.size()) return violate("a notification is about a message that nobody sent");
    Book& about = *sent_[*number];
    if (about.sent.reverse_path.empty()) return violate(text_of(*number) + " has a null reverse-path, and was reported on");
    if (message.recipients != std::vector<std::string>{about.sent.reverse_path}) {
        return violate("the notification about " + text_of(*number) + " went to somebody else");
    }
    const auto recipients = values_of(message.content, "Final-Recipient: rfc822;");
    const auto actions = values_of(message.content, "Action: ");
    if (recipients.empty() || recipients.size() != actions.size()) return violate("a notification without its fields");
    for (std::size_t i = 0; i < recipients.size(); ++i) {
        const std::string recipient(trim(recipients[i]));
        const auto found = about.fates.find(recipient);
        const std::string who = text_of(*number) + " for " + recipient;
        if (found == about.fates.end()) return violate("a notification names a stranger: " + who);
        const Fate& fate = found->second;
        const std::string action(trim(actions[i]));
        if (action == "failed" && !fate.ever_bounced) violate(who + " was reported as failed, but did not fail");
        if (action == "failed" && fate.end == End::delivered && fate.durable) {
            violate(who + " was delivered, then reported as failed");
        }
        if ((action == "relayed" || action == "delivered") && !fate.ever_delivered) {
            violate(who + " was reported as " + action + ", but was not");
        }
    }
}

void Ledger::violate(const std::string& what) {
    if (!violation_) violation_ = clock_text() + what;
}

void Ledger::trace(std::string_view what) {
    const auto add = [this](unsigned char c) { hash_ = (hash_ ^ c) * 1099511628211ULL; };
    const auto now = static_cast<std::uint64_t>(VirtualTime::now_ns());
    for (int shift = 0; shift < 64; shift += 8) add(static_cast<unsigned char>(now >> shift));
    for (const char c : what) add(static_cast<unsigned char>(c));
    if (verbose) std::printf("%s%.*s\n", clock_text().c_str(), static_cast<int>(what.size()), what.data());
}

// ---- the engine's life --------------------------------------------------------------------------------------------

void Ledger::died(std::int64_t durable_before_ns) {
    trace("died");
    durable_before_ns_ = durable_before_ns;
    ++life_;
}

void Ledger::recovered(const spool::RecoveredItem& item) {
    std::set<std::uint32_t>& pending = found_[item.id.message];
    pending.insert(item.pending.begin(), item.pending.end());
}

void Ledger::booted() {
    trace("booted with " + std::to_string(found_.size()));
    for (const auto& book : sent_) check_survival(*book);
    for (const auto& [id, book] : dsns_) check_survival(*book);
    found_.clear();
}

// What was promised and is undecided is still there, and what was decided for good does not come back.
void Ledger::check_survival(Book& book) {
    if (book.id == MessageId() || book.lost) return;
    const auto found = found_.find(book.id);
    for (std::size_t index = 0; index < book.sent.recipients.size(); ++index) {
        const std::string& recipient = book.sent.recipients[index];
        Fate& fate = book.fates.at(recipient);
        const bool pending = found != found_.end() && found->second.contains(static_cast<std::uint32_t>(index));
        const std::string who = book.id.text() + " for " + recipient;
        if (fate.end == End::open) {
            if (pending) continue;
            if (!book.is_dsn) {
                violate(who + " was accepted, and is gone after a crash");
            } else {
                book.lost = true;  // right only if what it tells is undecided again: looked at below
            }
        } else if (pending) {
            if (fate.durable || fate.ended_ns < durable_before_ns_) violate(who + " had been decided, and came back after a crash");
            fate.end = End::open;
            fate.dsn = MessageId();
        } else {
            fate.durable = true;
            if (fate.dsn == MessageId()) continue;
            const Book& told = *dsns_.at(fate.dsn);
            const bool told_found = found_.contains(fate.dsn);
            const bool told_ended = told.fates.begin()->second.end != End::open;
            if (!told_found && !told_ended) violate(who + " has failed, but its notification is gone after a crash");
        }
    }
}

Ledger::Book* Ledger::book_of(const event::ItemFact& fact) {
    const mail::Message& message = fact.message;
    const auto known = by_id_.find(message.id);
    if (known != by_id_.end()) return known->second;
    if (message.origin == "dsn") {
        auto& book = dsns_[message.id];
        book = std::make_unique<Book>();
        book->id = message.id;
        book->is_dsn = true;
        for (const mail::Recipient& recipient : message.envelope.recipients) {
            book->sent.recipients.push_back(recipient.address.text());
            book->fates[recipient.address.text()];
        }
        return by_id_[message.id] = book.get();
    }
    const auto number = number_in(message.content);
    if (!number || *number >= sent_.size()) {
        violate("the engine has a message that nobody sent");
        return nullptr;
    }
    // A message whose client went away may be there more than once: each time it was accepted.
    sent_[*number]->id = message.id;
    return by_id_[message.id] = sent_[*number].get();
}

void Ledger::each_recipient(
    const event::ItemFact& fact, const std::function<void(Book&, const std::string&, Fate&)>& visit) {
    Book* const book = book_of(fact);
    if (book == nullptr) return;
    for (const std::uint32_t index : fact.recipients) {
        const std::string recipient = fact.message.envelope.recipients[index].address.text();
        const auto fate = book->fates.find(recipient);
        if (fate == book->fates.end()) return violate("the engine decided about somebody else: " + recipient);
        visit(*book, recipient, fate->second);
    }
}

void Ledger::end_as(const event::ItemFact& fact, End end, MessageId dsn) {
    each_recipient(fact, [&](Book& book, const std::string& recipient, Fate& fate) {
        const std::string who = book.id.text() + " for " + recipient;
        if (fate.end != End::open) violate(who + " was decided twice");
        fate.end = end;
        fate.ended_ns = VirtualTime::now_ns();
        fate.ended_life = life_;
        fate.ever_delivered = fate.ever_delivered || end == End::delivered;
        fate.ever_bounced = fate.ever_bounced || end == End::bounced;
        fate.dsn = dsn;
        if (end == End::delivered && !book.is_dsn && fate.commits.empty()) violate(who + " was called delivered, but nobody took it");
        if (end != End::bounced) return;
        const bool wants = book.sent.notify == 0 || (book.sent.notify & mail::notify_failure) != 0;
        const bool due = !book.is_dsn && !book.sent.reverse_path.empty() && wants;
        if (due != (dsn != MessageId())) violate(who + (due ? " failed without a notification" : " failed, and a notification was not wanted"));
    });
}

void Ledger::record(const event::Accepted& fact) {
    const event::ItemFact item{fact.message, ItemId{fact.message.id, 0}, {}};
    const Book* const book = book_of(item);
    if (book == nullptr) return;
    for (std::size_t i = 0; i < fact.message.envelope.recipients.size(); ++i) {
        const bool same = i < book->sent.recipients.size() && fact.message.envelope.recipients[i].address.text() == book->sent.recipients[i];
        if (!same) violate("another envelope was accepted than was sent: " + fact.message.id.text());
    }
    trace("accepted " + fact.message.id.text());
}

void Ledger::record(const event::Refused& fact) {
    ++counts_.refused;
    trace("refused " + std::string(fact.reply));
}

void Ledger::record(const event::Delivered& fact) {
    counts_.delivered += fact.recipients.size();
    trace("delivered " + fact.item.text());
    end_as(fact, End::delivered, MessageId());
}

void Ledger::record(const event::Deferred& fact) {
    ++counts_.deferred;
    trace("deferred " + fact.item.text() + " " + std::string(fact.reply));
    each_recipient(fact, [&](Book& book, const std::string& recipient, const Fate& fate) {
        if (fate.end != End::open) violate(book.id.text() + " for " + recipient + " was tried after it had been decided");
    });
}

void Ledger::record(const event::Bounced& fact) {
    counts_.bounced += fact.recipients.size();
    trace("bounced " + fact.item.text() + " " + std::string(fact.reply));
    if (fact.dsn != MessageId() && !by_id_.contains(fact.dsn)) {
        auto book = std::make_unique<Book>();
        book->id = fact.dsn;
        book->is_dsn = true;
        const std::string to = fact.message.envelope.reverse_path.text();
        book->sent.recipients.push_back(to);
        book->fates[to];
        by_id_[fact.dsn] = book.get();
        dsns_[fact.dsn] = std::move(book);
    }
    end_as(fact, End::bounced, fact.dsn);
}

void Ledger::record(const event::Expired& fact) {
    const event::ItemFact& about = fact;
    record(event::Bounced{about, fact.dsn});
}

void Ledger::record(const event::Removed& fact) {
    counts_.removed += fact.recipients.size();
    trace("removed " + fact.item.text());
    end_as(fact, End::removed, MessageId());
}

void Ledger::record(const event::PossibleDuplicate& fact) {
    trace("possible duplicate " + fact.item.text());
    each_recipient(fact, [](Book&, const std::string&, Fate& fate) { fate.possible_duplicate = true; });
}

void Ledger::write(
    event::Level level, std::string_view session, std::string_view origin, std::string_view sentence,
    std::initializer_list<event::Field> fields) {
    std::string line = std::string(origin) + ": " + std::string(sentence);
    for (const event::Field& field : fields) line += " " + std::string(field.key) + "=" + field.value;
    if (verbose) std::printf("%s[%.*s] %s\n", clock_text().c_str(), static_cast<int>(session.size()), session.data(), line.c_str());
    const bool of_disk = disk_has_failed && origin == "spool" && sentence.find("damage") == std::string_view::npos;
    if (level <= event::Level::error && !of_disk) violate("the engine logged an error: " + line);
}

// ---- the end ------------------------------------------------------------------------------------------------------

void Ledger::settle_accounts() {
    for (const auto& book : sent_) check_end(*book);
    for (const auto& [id, book] : dsns_) check_end(*book);
}

void Ledger::check_end(const Book& book) {
    if (book.id == MessageId() || book.lost) return;
    for (const auto& [recipient, fate] : book.fates) {
        if (fate.end == End::open) violate(book.id.text() + " for " + recipient + " has no outcome at the end");
    }
}

}  // namespace sluice::drill
