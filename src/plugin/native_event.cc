#include "plugin/native_event.h"

#include <boost/json/serialize.hpp>
#include <utility>

#include "base/text.h"
#include "delivery/settlement.h"
#include "plugin/json_members.h"
#include "plugin/native_structures.h"
#include "queue/remote.h"

namespace sluice::plugin {
namespace {

using delivery::Hook;

constexpr std::size_t message_id_size = 13;

// Those that the hook is about.
std::vector<std::uint32_t> concerned(const delivery::Hearing& about) {
    std::vector<std::uint32_t> recipients;
    recipients.reserve(about.places.size());
    for (const std::size_t place : about.places) recipients.push_back(about.attempted.recipients[place]);
    return recipients;
}

sluice_address address_of(const mail::Address& address) { return {text_of(address.local), text_of(address.domain)}; }

std::string member_text(const std::string& image, const char* member) {
    boost::system::error_code error;
    const boost::json::value parsed = parse_json(image, error);
    if (error || !parsed.is_object()) return {};
    const boost::json::value* found = parsed.get_object().if_contains(member);
    return found != nullptr && found->is_object() ? boost::json::serialize(*found) : std::string();
}

const NativeEvent* ours(const sluice_event* event) { return static_cast<const NativeEvent*>(event); }

}  // namespace

std::optional<Hook> hook_of(std::int32_t number) {
    switch (number) {
        case SLUICE_HOOK_SEND_EMAIL:
        case SLUICE_HOOK_GET_MX: return Hook::before_attempt;
        case SLUICE_HOOK_DEFERRED: return Hook::deferred;
        case SLUICE_HOOK_BOUNCE: return Hook::bounce;
        case SLUICE_HOOK_DELIVERED: return Hook::delivered;
        default: return std::nullopt;
    }
}

const char* name_of_hook(std::int32_t number) {
    switch (number) {
        case SLUICE_HOOK_SEND_EMAIL: return "send_email";
        case SLUICE_HOOK_GET_MX: return "get_mx";
        case SLUICE_HOOK_DEFERRED: return "deferred";
        case SLUICE_HOOK_BOUNCE: return "bounce";
        case SLUICE_HOOK_DELIVERED: return "delivered";
        default: return nullptr;
    }
}

NativeEvent::NativeEvent(const queue::Work& work, mail::MessagePtr message, std::string image, const Clock& clock)
    : sluice_event{}, message_(std::move(message)), id_(work.item.text()), image_(std::move(image)), own_recipients_(work.pending),
      recipients_(own_recipients_.empty() ? &message_->items[work.item.index].recipients : &own_recipients_) {
    hook = SLUICE_HOOK_SEND_EMAIL;
    item_facts_.attempts = work.attempts;
    item_facts_.attempted_count = static_cast<std::uint32_t>(recipients_->size());
    item_facts_.domain = text_of(message_->items[work.item.index].domain);
    item_facts_.arrival_ms = clock.wall_ms(work.arrival);
    item_facts_.now_ms = clock.wall_ms(clock.now());
    point();
}

NativeEvent::NativeEvent(std::int32_t number, const delivery::Hearing& about, std::string image, const Clock& clock)
    : sluice_event{}, message_(about.attempted.message), id_(about.attempted.work.item.text()), image_(std::move(image)),
      own_recipients_(concerned(about)), recipients_(&own_recipients_) {
    const delivery::Attempted& attempted = about.attempted;
    const event::Link& link = attempted.link;
    const Hook of = *hook_of(number);
    hook = number;
    item_facts_.attempts = attempted.work.attempts;
    item_facts_.attempted_count = static_cast<std::uint32_t>(attempted.recipients.size());
    item_facts_.domain = text_of(message_->items[attempted.work.item.index].domain);
    item_facts_.arrival_ms = clock.wall_ms(attempted.work.arrival);
    item_facts_.now_ms = clock.wall_ms(clock.now());
    const delivery::Fate fate = of == Hook::delivered ? delivery::Fate::delivered
                                : of == Hook::bounce  ? delivery::Fate::failed
                                                      : delivery::Fate::deferred;
    for (const std::size_t place : about.places) {
        const delivery::Verdict& verdict = *attempted.verdicts[place];
        decided_.push_back({status_for(verdict, fate), verdict.text, verdict.code});
    }
    const delivery::Verdict& first = *attempted.verdicts[about.places.front()];
    if (of == Hook::delivered) {
        response_ = first.text;
    } else {
        reason_ = printable(first.reply_text());
    }
    host_name_ = link.mx_host;
    ip_ = queue::address_of(link.remote);
    port = parse_number<std::uint16_t>(queue::port_of(link.remote)).value_or(0);
    lmtp = link.lmtp ? 1 : 0;
    secured = link.tls_version.empty() ? 0 : 1;
    authenticated = link.authenticated ? 1 : 0;
    delay_ms = of == Hook::delivered ? about.since_arrival.count() : about.delay.count();
    point();
}

NativeEvent::NativeEvent(Copy, const NativeEvent& original)
    : sluice_event(original), item_facts_(original.item_facts_), message_(original.message_), id_(original.id_),
      image_(original.image_), own_recipients_(original.own_recipients_),
      recipients_(own_recipients_.empty() ? original.recipients_ : &own_recipients_), decided_(original.decided_),
      host_name_(original.host_name_), ip_(original.ip_), response_(original.response_), reason_(original.reason_), owners_(1) {
    notes_text(false);
    notes_text(true);
    point();
}

// Everything that the structures point to is ours, or the message's, which we hold.
void NativeEvent::point() {
    sluice_event::size = sizeof(sluice_event);
    item = &item_facts_;
    reason = some_text_of(reason_);
    host_name = some_text_of(host_name_);
    ip = some_text_of(ip_);
    response = hook == SLUICE_HOOK_DELIVERED ? text_of(response_) : sluice_text{};
    item_facts_.size = sizeof item_facts_;
    item_facts_.id = text_of(id_);
    item_facts_.message = text_of(std::string_view(id_).substr(0, message_id_size));
    item_facts_.mail_from = address_of(message_->envelope.reverse_path);
    item_facts_.recipient_count = static_cast<std::uint32_t>(recipients_->size());
    item_facts_.octets = message_->size();
    item_facts_.envid = some_text_of(message_->envelope.envid);
    item_facts_.auth_user = some_text_of(message_->auth_user);
    item_facts_.origin = text_of(message_->origin);
    item_facts_.tenant = text_of(message_->tenant);
    item_facts_.job = text_of(message_->job);
    item_facts_.transport = text_of(message_->transport);
    item_facts_.priority = message_->priority;
    item_facts_.item_count = static_cast<std::uint32_t>(message_->items.size());
}

const NativeEvent* NativeEvent::keep() const {
    if (owners_ > 0) {
        ++owners_;
        return this;
    }
    return new NativeEvent(Copy{}, *this);
}

const std::string& NativeEvent::notes_text(bool live) const {
    std::string& text = live ? live_notes_ : notes_;
    if (!text.empty()) return text;
    if (!image_.empty()) text = member_text(image_, live ? "live" : "notes");
    if (text.empty()) text = message_->notes.empty() ? "{}" : message_->notes;
    return text;
}

const sluice_event* NativeEvent::keep(const sluice_event* event) { return event == nullptr ? nullptr : ours(event)->keep(); }

void NativeEvent::release(const sluice_event* event) {
    if (event == nullptr || !ours(event)->is_kept()) return;
    if (--ours(event)->owners_ == 0) delete ours(event);
}

int NativeEvent::recipient(const sluice_event* event, std::uint32_t index, sluice_recipient* recipient) {
    if (event == nullptr || recipient == nullptr) return -1;
    const NativeEvent& of = *ours(event);
    if (index >= of.recipients_->size()) return -1;
    const std::uint32_t place = (*of.recipients_)[index];
    const mail::Recipient& told = of.message_->envelope.recipients[place];
    sluice_recipient answer{};
    answer.place = place;
    answer.address = address_of(told.address);
    answer.orcpt = some_text_of(told.orcpt);
    if (index < of.decided_.size()) {
        const Decided& decided = of.decided_[index];
        answer.status = text_of(decided.status);
        answer.response = text_of(decided.response);
        answer.code = decided.code;
    }
    return give(recipient, answer) ? 0 : -1;
}

sluice_text NativeEvent::notes(const sluice_event* event, int live) {
    return event == nullptr ? sluice_text{} : text_of(ours(event)->notes_text(live != 0));
}

sluice_content NativeEvent::content(const sluice_event* event) {
    if (event == nullptr) return {};
    return {text_of(ours(event)->message_->trace), text_of(ours(event)->message_->content)};
}

}  // namespace sluice::plugin
