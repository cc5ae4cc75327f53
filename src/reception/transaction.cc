#include "reception/transaction.h"

#include <algorithm>
#include <utility>

namespace sluice::reception {
namespace {

constexpr std::size_t few_recipients = 8;  // up to here comparing is cheaper than hashing

// The local part's case is its owner's business (RFC 5321 §2.4), quoting is not part of it.
std::string mailbox_of(const mail::Address& address) {
    std::string mailbox = address.routing_domain();
    mailbox += '\0';
    mailbox += address.local;
    return mailbox;
}

}  // namespace

Transaction::Transaction(const smtp::MailFrom& mail, std::uint64_t size_max)
    : declared_size_(mail.size.value_or(0)), chunks_(size_max) {
    envelope_.reverse_path = mail.reverse_path;
    envelope_.ret = mail.ret;
    envelope_.envid = mail.envid;
    envelope_.body = mail.body;
    envelope_.smtputf8 = mail.smtputf8;
    envelope_.mt_priority = mail.mt_priority;
}

bool Transaction::add(mail::Recipient recipient) {
    if (!is_new(recipient.address)) return false;
    envelope_.recipients.push_back(std::move(recipient));
    return true;
}

void Transaction::replace_recipients(const std::vector<mail::Address>& addresses) {
    const std::vector<mail::Recipient> before = std::exchange(envelope_.recipients, {});
    mailboxes_.clear();
    for (const mail::Address& address : addresses) {
        const auto same = [&](const mail::Recipient& one) { return one.address == address; };
        const auto found = std::find_if(before.begin(), before.end(), same);
        mail::Recipient recipient;
        if (found != before.end()) {
            recipient = *found;
        } else {
            recipient.address = address;
        }
        add(std::move(recipient));
    }
}

bool Transaction::is_new(const mail::Address& address) {
    const std::vector<mail::Recipient>& known = envelope_.recipients;
    if (known.size() < few_recipients) {
        return std::none_of(known.begin(), known.end(), [&](const mail::Recipient& one) {
            if (one.address.local != address.local) return false;
            return one.address.domain == address.domain ||
                   one.address.routing_domain() == address.routing_domain();
        });
    }
    if (mailboxes_.empty()) {
        for (const mail::Recipient& one : known) mailboxes_.insert(mailbox_of(one.address));
    }
    return mailboxes_.insert(mailbox_of(address)).second;
}

void Transaction::begin_chunk(const smtp::Bdat& chunk) {
    chunked_ = true;
    chunks_.begin(chunk.size, chunk.last);
}

}  // namespace sluice::reception
