#include "plugin/native_event.h"

#include <array>
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

std::string member_text(const std::string& image, const char* member) {
    boost::system::error_code error;
    const boost::json::value parsed = parse_json(image, error);
    if (error || !parsed.is_object()) return {};
    const boost::json::value* found = parsed.get_object().if_contains(member);
    return found != nullptr && found->is_object() ? boost::json::serialize(*found) : std::string();
}

const NativeEvent* ours(const sluice_event* event) { return static_cast<const NativeEvent*>(event); }

using Inbound = reception::Hook;

constexpr NativeHook outbound(const char* name, Hook hook) { return {name, hook, std::nullopt, hook != Hook::delivered, false, false}; }
// Silence is a refusal for now.
constexpr NativeHook deciding(const char* name, Inbound hook) { return {name, std::nullopt, hook, true, true, false}; }
// And so is an exception.
constexpr NativeHook last_word(const char* name, Inbound hook) { return {name, std::nullopt, hook, true, true, true}; }
constexpr NativeHook hearing(const char* name, std::optional<Inbound> hook, bool waits) { return {name, std::nullopt, hook, waits, false, false}; }

// Who is to hear how a session or a transaction ends must know it from its beginning.
constexpr std::array<NativeHook, SLUICE_HOOK_DISCONNECT> hooks{{
    outbound("send_email", Hook::before_attempt),
    outbound("get_mx", Hook::before_attempt),
    outbound("deferred", Hook::deferred),
    outbound("bounce", Hook::bounce),
    outbound("delivered", Hook::delivered),
    deciding("lookup_rdns", Inbound::opening),
    deciding("connect", Inbound::opening),
    deciding("helo", Inbound::hello),
    deciding("ehlo", Inbound::hello),
    hearing("capabilities", Inbound::hello, true),
    deciding("unrecognized_command", Inbound::command),
    deciding("mail", Inbound::mail),
    deciding("rcpt", Inbound::rcpt),
    deciding("rcpt_ok", Inbound::rcpt),
    deciding("data", Inbound::data),
    last_word("data_post", Inbound::content),
    last_word("queue", Inbound::content),
    last_word("queue_outbound", Inbound::content),
    hearing("queue_ok", Inbound::content, false),
    hearing("pre_send_trans_email", Inbound::content, true),
    hearing("deny", std::nullopt, false),
    deciding("max_data_exceeded", Inbound::oversize),
    deciding("vrfy", Inbound::vrfy),
    deciding("noop", Inbound::noop),
    hearing("rset", Inbound::rset, false),
    deciding("quit", Inbound::quit),
    hearing("reset_transaction", Inbound::mail, false),
    hearing("disconnect", Inbound::opening, false),
}};

}  // namespace

sluice_address address_of(const mail::Address& address) { return {text_of(address.local), text_of(address.domain)}; }

const NativeHook* native_hook(std::int32_t number) {
    return number >= 1 && number <= SLUICE_HOOK_DISCONNECT ? &hooks[static_cast<std::size_t>(number - 1)] : nullptr;
}

const char* name_of_hook(std::int32_t number) {
    const NativeHook* hook = native_hook(number);
    return hook == nullptr ? nullptr : hook->name;
}

// ---- any event -------------------------------------------------------------------------------------------------

const NativeEvent* NativeEvent::keep() const {
    if (owners_ == 0) return copy();
    ++owners_;
    return this;
}

const sluice_event* NativeEvent::keep(const sluice_event* event) { return event == nullptr ? nullptr : ours(event)->keep(); }

void NativeEvent::release(const sluice_event* event) {
    if (event == nullptr || !ours(event)->is_kept()) return;
    if (--ours(event)->owners_ == 0) delete ours(event);
}

int NativeEvent::recipient(const sluice_event* event, std::uint32_t index, sluice_recipient* recipient) {
    if (event == nullptr || recipient == nullptr) return -1;
    const auto told = ours(event)->recipient_at(index);
    return told && give(recipient, *told) ? 0 : -1;
}

sluice_text NativeEvent::notes(const sluice_event* event, int live) {
    return event == nullptr ? sluice_text{} : text_of(ours(event)->notes_text(live != 0));
}

sluice_content NativeEvent::content(const sluice_event* event) {
    return event == nullptr ? sluice_content{} : ours(event)->message_content();
}

// ---- of an item ------------------------------------------------------------------------------------------------

NativeItemEvent::NativeItemEvent(const queue::Work& work, mail::MessagePtr message, std::string image, const Clock& clock)
    : message_(std::move(message)), id_(work.item.text()), image_(std::move(image)), own_recipients_(work.pending),
      recipients_(own_recipients_.empty() ? &message_->items[work.item.index].recipients : &own_recipients_) {
    hook = SLUICE_HOOK_SEND_EMAIL;
    item_facts_.attempts = work.attempts;
    item_facts_.attempted_count = static_cast<std::uint32_t>(recipients_->size());
    item_facts_.domain = text_of(message_->items[work.item.index].domain);
    item_facts_.arrival_ms = clock.wall_ms(work.arrival);
    item_facts_.now_ms = clock.wall_ms(clock.now());
    point();
}

NativeItemEvent::NativeItemEvent(std::int32_t number, const delivery::Hearing& about, std::string image, const Clock& clock)
    : message_(about.attempted.message), id_(about.attempted.work.item.text()), image_(std::move(image)),
      own_recipients_(concerned(about)), recipients_(&own_recipients_) {
    const delivery::Attempted& attempted = about.attempted;
    const event::Link& link = attempted.link;
    const Hook of = *native_hook(number)->outbound;
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

NativeItemEvent::NativeItemEvent(Copy, const NativeItemEvent& original)
    : NativeEvent(Copy{}, original), item_facts_(original.item_facts_), message_(original.message_), id_(original.id_),
      image_(original.image_), own_recipients_(original.own_recipients_),
      recipients_(own_recipients_.empty() ? original.recipients_ : &own_recipients_), decided_(original.decided_),
      host_name_(original.host_name_), ip_(original.ip_), response_(original.response_), reason_(original.reason_) {
    notes_text(false);
    notes_text(true);
    point();
}

// Everything that the structures point to is ours, or the message's, which we hold.
void NativeItemEvent::point() {
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

const std::string& NativeItemEvent::notes_text(bool live) const {
    std::string& text = live ? live_notes_ : notes_;
    if (!text.empty()) return text;
    if (!image_.empty()) text = member_text(image_, live ? "live" : "notes");
    if (text.empty()) text = message_->notes.empty() ? "{}" : message_->notes;
    return text;
}

std::optional<sluice_recipient> NativeItemEvent::recipient_at(std::uint32_t index) const {
    if (index >= recipients_->size()) return std::nullopt;
    const std::uint32_t place = (*recipients_)[index];
    const mail::Recipient& told = message_->envelope.recipients[place];
    sluice_recipient answer{};
    answer.place = place;
    answer.address = address_of(told.address);
    answer.orcpt = some_text_of(told.orcpt);
    if (index < decided_.size()) {
        const Decided& decided = decided_[index];
        answer.status = text_of(decided.status);
        answer.response = text_of(decided.response);
        answer.code = decided.code;
    }
    return answer;
}

sluice_content NativeItemEvent::message_content() const { return {text_of(message_->trace), text_of(message_->content)}; }

}  // namespace sluice::plugin
