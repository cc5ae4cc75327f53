#include "plugin/native_visit.h"

#include <utility>

namespace sluice::plugin {
namespace {

using reception::Occasion;

sluice_text body_of(mail::BodyType body) {
    switch (body) {
        case mail::BodyType::unspecified: return {};
        case mail::BodyType::seven_bit: return text_of("7BIT");
        case mail::BodyType::eight_bit_mime: return text_of("8BITMIME");
        case mail::BodyType::binary_mime: return text_of("BINARYMIME");
    }
    return {};
}

sluice_text ret_of(mail::Return ret) {
    switch (ret) {
        case mail::Return::unspecified: return {};
        case mail::Return::full: return text_of("FULL");
        case mail::Return::headers: return text_of("HDRS");
    }
    return {};
}

sluice_recipient recipient_of(const mail::Recipient& told, std::size_t place) {
    sluice_recipient recipient{};
    recipient.size = sizeof recipient;
    recipient.place = static_cast<std::uint32_t>(place);
    recipient.address = address_of(told.address);
    recipient.orcpt = some_text_of(told.orcpt);
    return recipient;
}

}  // namespace

NativeVisit::NativeVisit(std::int32_t number, const Occasion& about, const VisitDetails& details) : about_(&about), details_(details) {
    hook = number;
    point();
}

// The copy owns what the original borrows, and points there.
NativeVisit::NativeVisit(Copy, const NativeVisit& original)
    : NativeEvent(Copy{}, original), owned_(std::make_unique<Owned>()), about_(&owned_->about), details_(original.details_) {
    const Occasion& about = *original.about_;
    Owned& owned = *owned_;
    owned.about = about;
    if (about.transaction && about.transaction->envelope != nullptr) {
        owned.envelope = *about.transaction->envelope;
        owned.about.transaction->envelope = &owned.envelope;
    }
    if (about.recipient != nullptr) {
        owned.recipient = *about.recipient;
        owned.about.recipient = &owned.recipient;
    }
    if (about.content != nullptr) {
        owned.content = *about.content;
        owned.about.content = &owned.content;
    }
    const auto own = [](std::string_view& view, std::string& into) {
        into = view;
        view = into;
    };
    own(details_.rdns, owned.rdns);
    own(details_.notes, owned.notes);
    own(details_.text, owned.text);
    own(details_.refused_by, owned.refused_by);
    notes_text(false);
    point();
}

void NativeVisit::point() {
    sluice_event::size = sizeof(sluice_event);
    session_id_ = about_->visitor.session;
    message_text_ = about_->message == MessageId() ? std::string() : about_->message.text();
    connection = nullptr;
    transaction = nullptr;
    rcpt = nullptr;
    if (!session_id_.empty()) point_connection();
    if (about_->transaction && about_->transaction->envelope != nullptr) point_transaction();
    if (about_->recipient != nullptr) {
        rcpt_facts_ = recipient_of(*about_->recipient, transaction_facts_.recipient_count);
        rcpt = &rcpt_facts_;
    }
    text = some_text_of(details_.text);
    refused_by = some_text_of(details_.refused_by);
    refused_hook = details_.refused_hook;
    refused_code = details_.refused_code;
}

void NativeVisit::point_connection() {
    const reception::Visitor& visitor = about_->visitor;
    sluice_connection& facts = connection_facts_;
    facts.size = sizeof facts;
    facts.errors = visitor.errors;
    facts.id = text_of(session_id_);
    facts.remote_ip = text_of(visitor.client_ip);
    facts.local_ip = text_of(visitor.local_ip);
    facts.proxy_ip = some_text_of(visitor.proxy_ip);
    facts.rdns = some_text_of(details_.rdns);
    facts.hello = some_text_of(visitor.helo);
    facts.tls_version = some_text_of(visitor.tls_version);
    facts.tls_cipher = some_text_of(visitor.tls_cipher);
    facts.auth_user = some_text_of(visitor.auth_user);
    facts.remote_port = visitor.client_port;
    facts.local_port = visitor.local_port;
    facts.extended = visitor.extended ? 1 : 0;
    const bool relays = about_->transaction ? about_->transaction->relaying.value_or(visitor.relaying) : visitor.relaying;
    facts.relaying = relays ? 1 : 0;
    connection = &facts;
}

void NativeVisit::point_transaction() {
    const reception::Underway& underway = *about_->transaction;
    const mail::Envelope& envelope = *underway.envelope;
    sluice_transaction& facts = transaction_facts_;
    facts.size = sizeof facts;
    facts.number = underway.number;
    facts.mail_from = address_of(envelope.reverse_path);
    facts.recipient_count = static_cast<std::uint32_t>(envelope.recipients.size());
    facts.smtputf8 = envelope.smtputf8 ? 1 : 0;
    facts.declared_octets = underway.declared_size;
    facts.octets = about_->content == nullptr ? 0 : about_->content->size();
    facts.message = some_text_of(message_text_);
    facts.body = body_of(envelope.body);
    facts.ret = ret_of(envelope.ret);
    facts.envid = some_text_of(envelope.envid);
    transaction = &facts;
}

std::optional<sluice_recipient> NativeVisit::recipient_at(std::uint32_t index) const {
    if (transaction == nullptr || index >= transaction_facts_.recipient_count) return std::nullopt;
    return recipient_of(about_->transaction->envelope->recipients[index], index);
}

const std::string& NativeVisit::notes_text(bool) const {
    if (notes_.empty()) notes_ = details_.notes.empty() ? std::string_view("{}") : details_.notes;
    return notes_;
}

sluice_content NativeVisit::message_content() const {
    if (about_->content == nullptr) return {};
    return {sluice_text{}, text_of(*about_->content)};
}

}  // namespace sluice::plugin
