#include "spool/record_codec.h"

#include <zlib.h>

#include <algorithm>

#include "spool/codec.h"

namespace sluice::spool {
namespace {

void append_item_id(Encoder& encode, const ItemId& item) {
    encode.u64(item.message.value);
    encode.number(item.index);
}

ItemId read_item_id(Decoder& decode) {
    ItemId item;
    item.message.value = decode.u64();
    item.index = decode.number32();
    return item;
}

// Ascending lists, as nearly all are, take one octet per entry: each is stored as the step from the one
// before, zigzag so that any order is legal.
void append_recipients(Encoder& encode, const std::vector<std::uint32_t>& recipients) {
    encode.number(recipients.size());
    std::int64_t before = 0;
    for (const std::uint32_t index : recipients) {
        const std::int64_t step = std::int64_t{index} - before;
        encode.number(static_cast<std::uint64_t>(step) << 1 ^ static_cast<std::uint64_t>(step >> 63));
        before = index;
    }
}

// False when the list is malformed.
bool read_recipients(Decoder& decode, std::vector<std::uint32_t>& into) {
    into.clear();
    const std::uint64_t count = decode.number();
    if (!decode.ok() || count > decode.rest().size()) return false;  // an entry takes at least one octet
    into.reserve(count);
    std::uint64_t before = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t zigzag = decode.number();
        before += zigzag >> 1 ^ (~(zigzag & 1) + 1);
        if (!decode.ok() || before >= recipient_index_end) return false;
        into.push_back(static_cast<std::uint32_t>(before));
    }
    return true;
}

void append_address(Encoder& encode, const mail::Address& address) {
    encode.text(address.local);
    encode.text(address.domain);
}

mail::Address read_address(Decoder& decode) {
    mail::Address address;
    address.local = decode.text();
    address.domain = decode.text();
    return address;
}

// 0 stands for none.
constexpr int mt_priority_offset = 10;

void append_traits_of_policy(Encoder& encode, const mail::Message& message) {
    encode.text(message.job);
    encode.text(message.transport);
    encode.text(sender_domain(message.envelope));
    encode.number(static_cast<std::uint64_t>(message.lifetime.count()));
    const std::optional<std::int8_t> mt_priority = message.envelope.mt_priority;
    encode.u8(static_cast<std::uint8_t>(mt_priority ? *mt_priority + mt_priority_offset : 0));
    encode.number(message.marks.size());
    for (const mail::Mark& mark : message.marks) {
        encode.text(mark.field);
        encode.text(mark.value);
    }
}

// False when it is malformed.
bool read_traits_of_policy(Decoder& decode, MessageSummary& into) {
    into.job = decode.text();
    into.transport = decode.text();
    into.sender_domain = decode.text();
    into.lifetime = std::chrono::seconds(decode.number32());
    const int mt_priority = decode.u8();
    if (mt_priority > 2 * mt_priority_offset - 1) return false;
    if (mt_priority != 0) into.mt_priority = static_cast<std::int8_t>(mt_priority - mt_priority_offset);
    const std::uint64_t count = decode.number();
    if (!decode.ok() || count > decode.rest().size()) return false;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string_view field = decode.text();
        into.marks.emplace_back(field, decode.text());
    }
    return decode.ok();
}

void append_summary(std::string& out, const mail::Message& message) {
    Encoder encode(out);
    encode.u64(message.id.value);
    encode.u64(static_cast<std::uint64_t>(to_ms(message.arrival)));
    encode.u32(static_cast<std::uint32_t>(message.size()));
    encode.u8(message.priority);
    encode.text(message.tenant);
    encode.number(message.items.size());
    for (const mail::ItemSpec& item : message.items) {
        encode.text(item.domain);
        encode.u32(source_hash(message.envelope, item));
        append_recipients(encode, item.recipients);
    }
    append_traits_of_policy(encode, message);
}

void append_envelope(Encoder& encode, const mail::Envelope& envelope) {
    append_address(encode, envelope.reverse_path);
    encode.u8(static_cast<std::uint8_t>(envelope.ret));
    encode.text(envelope.envid);
    encode.u8(static_cast<std::uint8_t>(envelope.body));
    encode.u8(envelope.smtputf8 ? 1 : 0);
    encode.number(envelope.recipients.size());
    for (const mail::Recipient& recipient : envelope.recipients) {
        append_address(encode, recipient.address);
        encode.u8(recipient.notify);
        encode.text(recipient.orcpt);
    }
}

bool read_envelope(Decoder& decode, mail::Envelope& into) {
    into.reverse_path = read_address(decode);
    const std::uint8_t ret = decode.u8();
    into.envid = decode.text();
    const std::uint8_t body = decode.u8();
    into.smtputf8 = decode.u8() != 0;
    const std::uint64_t count = decode.number();
    if (!decode.ok() || count > decode.rest().size()) return false;
    if (ret > static_cast<std::uint8_t>(mail::Return::headers)) return false;
    if (body > static_cast<std::uint8_t>(mail::BodyType::binary_mime)) return false;
    into.ret = static_cast<mail::Return>(ret);
    into.body = static_cast<mail::BodyType>(body);
    for (std::uint64_t i = 0; i < count && decode.ok(); ++i) {
        mail::Recipient recipient;
        recipient.address = read_address(decode);
        recipient.notify = decode.u8();
        recipient.orcpt = decode.text();
        into.recipients.push_back(std::move(recipient));
    }
    return decode.ok();
}

void append_traits(Encoder& encode, const mail::ContentTraits& traits) {
    const int bits = (traits.has_8bit ? 1 : 0) | (traits.has_8bit_header ? 2 : 0) |
                     (traits.has_leading_dot ? 4 : 0) | (traits.has_bare_eol ? 8 : 0);
    encode.u8(static_cast<std::uint8_t>(bits));
    encode.u32(traits.header_size);
    encode.u32(traits.line_max);
}

mail::ContentTraits read_traits(Decoder& decode) {
    mail::ContentTraits traits;
    const unsigned bits = decode.u8();
    traits.has_8bit = (bits & 1) != 0;
    traits.has_8bit_header = (bits & 2) != 0;
    traits.has_leading_dot = (bits & 4) != 0;
    traits.has_bare_eol = (bits & 8) != 0;
    traits.header_size = decode.u32();
    traits.line_max = decode.u32();
    return traits;
}

tl::unexpected<Error> malformed(const char* what) {
    return fail(Errc::corrupt, std::string(what) + " record is malformed");
}

std::uint32_t add_to_hash(std::uint32_t hash, const mail::Address& address) {
    const auto add = [&](std::string_view text) {
        hash = static_cast<std::uint32_t>(
            crc32(hash, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size()))
        );
    };
    if (address.is_null()) return hash;
    add(address.local);
    add("@");
    add(address.domain);
    return hash;
}

Weight weigh_message(const mail::Message& message) {
    Weight weight;
    weight.index = 128 + message.tenant.size() + message.job.size() + message.transport.size() +
                   3 * message.envelope.reverse_path.domain.size();
    for (const mail::Mark& mark : message.marks) weight.index += 20 + mark.field.size() + mark.value.size();
    for (const mail::ItemSpec& item : message.items)
        weight.index += 24 + item.domain.size() + 5 * item.recipients.size();
    weight.record = 128 + weight.index + message.envelope.reverse_path.local.size() +
                    message.envelope.reverse_path.domain.size() + message.envelope.envid.size() +
                    message.notes.size() + message.origin.size() + message.auth_user.size() + message.size();
    for (const mail::Recipient& recipient : message.envelope.recipients) {
        weight.record +=
            32 + recipient.address.local.size() + recipient.address.domain.size() + recipient.orcpt.size();
    }
    return weight;
}

Weight weigh_small(std::uint64_t body_bytes) {
    return Weight{body_bytes + 64, body_bytes + 64};
}

}  // namespace

std::uint32_t source_hash(const mail::Envelope& envelope, const mail::ItemSpec& item) {
    std::uint32_t hash = add_to_hash(0, envelope.reverse_path);
    for (const std::uint32_t index : item.recipients) {
        if (index < envelope.recipients.size()) hash = add_to_hash(hash, envelope.recipients[index].address);
    }
    return hash;
}

std::string sender_domain(const mail::Envelope& envelope) {
    return envelope.reverse_path.is_null() ? std::string() : envelope.reverse_path.routing_domain();
}

void append_message_head(std::string& out, const mail::Message& message) {
    const std::size_t start = out.size();
    out.append(4, '\0');
    append_summary(out, message);
    const auto summary_length = static_cast<std::uint32_t>(out.size() - start - 4);
    for (std::size_t i = 0; i < 4; ++i)
        out[start + i] = static_cast<char>(summary_length >> 8 * i);

    Encoder encode(out);
    append_envelope(encode, message.envelope);
    append_traits(encode, message.traits);
    encode.text(message.notes);
    encode.text(message.origin);
    encode.text(message.auth_user);
    encode.text(message.trace);
    encode.number(message.content.size());
}

void append_outcome(std::string& out, const OutcomeRecord& record, std::uint64_t segment) {
    Encoder encode(out);
    append_item_id(encode, record.item);
    encode.u8(static_cast<std::uint8_t>(record.outcome));
    encode.u64(static_cast<std::uint64_t>(to_ms(record.at)));
    encode.number(segment);
    encode.text(record.by);
    append_recipients(encode, record.recipients);
}

void append_schedule(std::string& out, const ScheduleRecord& record) {
    Encoder encode(out);
    append_item_id(encode, record.item);
    encode.u16(record.attempts);
    encode.u64(static_cast<std::uint64_t>(to_ms(record.next)));
    encode.u8(record.delay_notified ? 1 : 0);
    encode.text(std::string_view(record.last_reply).substr(0, last_reply_bytes_max));
}

void append_hold(std::string& out, const HoldRecord& record) {
    Encoder encode(out);
    append_item_id(encode, record.item);
    encode.u8(record.held ? 1 : 0);
    encode.text(record.by);
    // Left out when there is none, as before there could be any.
    if (!record.changes.empty()) encode.text(std::string_view(record.changes).substr(0, changes_bytes_max));
}

void append_policy(std::string& out, const PolicyRecord& record) {
    Encoder encode(out);
    encode.text(record.key);
    encode.text(record.value);
}

void append_decided(std::string& out, MessageId message, const std::vector<std::uint32_t>& recipients) {
    Encoder encode(out);
    encode.u64(message.value);
    append_recipients(encode, recipients);
}

Result<std::string_view> summary_of(std::string_view message_body) {
    Decoder decode(message_body);
    const std::string_view summary = decode.bytes(decode.u32());
    if (!decode.ok()) return malformed("message");
    return summary;
}

Result<> decode_summary(std::string_view summary, MessageSummary& into) {
    Decoder decode(summary);
    into.id.value = decode.u64();
    into.arrival = instant_from_ms(static_cast<std::int64_t>(decode.u64()));
    into.size = decode.u32();
    into.priority = decode.u8();
    into.tenant = decode.text();
    const std::uint64_t count = decode.number();
    if (!decode.ok() || count > decode.rest().size()) return malformed("message");
    into.items.resize(count);
    for (ItemSummary& item : into.items) {
        item.domain = decode.text();
        item.source_hash = decode.u32();
        if (!read_recipients(decode, item.recipients)) return malformed("message");
    }
    into.job = into.transport = into.sender_domain = {};
    into.lifetime = {};
    into.mt_priority.reset();
    into.marks.clear();
    if (!decode.rest().empty() && !read_traits_of_policy(decode, into)) return malformed("message");
    return {};
}

Result<> decode_outcome(std::string_view body, OutcomeView& into) {
    Decoder decode(body);
    into.item = read_item_id(decode);
    const std::uint8_t outcome = decode.u8();
    into.at = instant_from_ms(static_cast<std::int64_t>(decode.u64()));
    into.segment = decode.number();
    into.by = decode.text();
    const bool readable = read_recipients(decode, into.recipients);
    if (!readable || outcome < 1 || outcome > static_cast<std::uint8_t>(Outcome::removed))
        return malformed("outcome");
    into.outcome = static_cast<Outcome>(outcome);
    return {};
}

Result<> decode_schedule(std::string_view body, ScheduleView& into) {
    Decoder decode(body);
    into.item = read_item_id(decode);
    into.attempts = decode.u16();
    into.next = instant_from_ms(static_cast<std::int64_t>(decode.u64()));
    into.delay_notified = decode.u8() != 0;
    into.last_reply = decode.text();
    if (!decode.ok()) return malformed("schedule");
    return {};
}

Result<> decode_hold(std::string_view body, HoldView& into) {
    Decoder decode(body);
    into.item = read_item_id(decode);
    into.held = decode.u8() != 0;
    into.by = decode.text();
    into.changes = decode.rest().empty() ? std::string_view() : decode.text();
    if (!decode.ok()) return malformed("hold");
    return {};
}

Result<> decode_policy(std::string_view body, PolicyView& into) {
    Decoder decode(body);
    into.key = decode.text();
    into.value = decode.text();
    if (!decode.ok()) return malformed("policy");
    return {};
}

Result<> decode_decided(std::string_view body, DecidedView& into) {
    Decoder decode(body);
    into.message.value = decode.u64();
    if (!read_recipients(decode, into.recipients)) return malformed("decided");
    return {};
}

Result<mail::MessagePtr> decode_message(std::string_view body) {
    TRY(const std::string_view encoded, summary_of(body));
    MessageSummary summary;
    TRY_VOID(decode_summary(encoded, summary));
    auto message = std::make_shared<mail::Message>();
    message->id = summary.id;
    message->arrival = summary.arrival;
    message->priority = summary.priority;
    message->tenant = summary.tenant;
    message->job = summary.job;
    message->transport = summary.transport;
    message->lifetime = summary.lifetime;
    message->envelope.mt_priority = summary.mt_priority;
    for (const auto& [field, value] : summary.marks) message->marks.push_back({std::string(field), std::string(value)});
    for (ItemSummary& item : summary.items) {
        message->items.push_back(mail::ItemSpec{std::string(item.domain), std::move(item.recipients)});
    }

    Decoder decode(body.substr(4 + encoded.size()));
    if (!read_envelope(decode, message->envelope)) return malformed("message");
    message->traits = read_traits(decode);
    message->notes = decode.text();
    message->origin = decode.text();
    message->auth_user = decode.text();
    message->trace = decode.text();
    message->content = decode.text();
    if (!decode.ok() || !decode.rest().empty()) return malformed("message");
    return message;
}

Weight weigh(const Record& record) {
    struct Visitor {
        Weight operator()(const MessageRecord& r) const { return weigh_message(*r.message); }
        Weight operator()(const OutcomeRecord& r) const {
            return weigh_small(64 + r.by.size() + 5 * r.recipients.size());
        }
        Weight operator()(const ScheduleRecord& r) const {
            return weigh_small(48 + std::min(r.last_reply.size(), last_reply_bytes_max));
        }
        Weight operator()(const HoldRecord& r) const { return weigh_small(40 + r.by.size() + std::min(r.changes.size(), changes_bytes_max)); }
        Weight operator()(const PolicyRecord& r) const {
            return weigh_small(24 + r.key.size() + r.value.size());
        }
    };
    return std::visit(Visitor(), record);
}

}  // namespace sluice::spool
