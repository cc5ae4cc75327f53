#pragma once

#include <absl/container/flat_hash_set.h>

#include <optional>
#include <string>
#include <vector>

#include "mail/message.h"
#include "smtp/command.h"
#include "smtp/data.h"

namespace sluice::reception {

// From MAIL to the end of the content: the envelope that grows, and content that comes in chunks. Value.
class Transaction {
public:
    Transaction(const smtp::MailFrom& mail, std::uint64_t size_max);

    // Adds a recipient unless that mailbox is already there (S5321-19); false when it was.
    bool add(mail::Recipient recipient);
    // Plugins have the last word about the envelope. Recipients that stay keep their parameters.
    void replace_sender(mail::Address reverse_path) { envelope_.reverse_path = std::move(reverse_path); }
    void replace_recipients(const std::vector<mail::Address>& addresses);
    // To the usual one.
    void lower_priority() { envelope_.mt_priority = std::int8_t{0}; }
    const mail::Envelope& envelope() const { return envelope_; }
    mail::Envelope take_envelope() { return std::move(envelope_); }
    void give_back(mail::Envelope envelope) { envelope_ = std::move(envelope); }
    std::size_t recipient_count() const { return envelope_.recipients.size(); }
    // What MAIL declared by SIZE=, or 0.
    std::uint64_t declared_size() const { return declared_size_; }

    // BDAT only.
    bool chunked() const { return chunked_; }
    void begin_chunk(const smtp::Bdat& chunk);
    smtp::ChunkReader& chunks() { return chunks_; }

    std::string content;
    std::string notes;  // plugins', as JSON

    // What plugins said about this transaction, and know of it.
    std::optional<bool> relaying;
    bool known_to_plugins = false;
    std::size_t recipients_known = 0;
    // A recipient was taken because a plugin said so, from a client that may not relay: only a plugin may take the message.
    bool plugins_must_take = false;

private:
    bool is_new(const mail::Address& address);

    mail::Envelope envelope_;
    std::uint64_t declared_size_;
    smtp::ChunkReader chunks_;
    bool chunked_ = false;
    absl::flat_hash_set<std::string> mailboxes_;  // filled only once there are many recipients
};

}  // namespace sluice::reception
