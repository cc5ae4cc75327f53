#include "reception/composition.h"

#include "base/text.h"
#include "reception/assignment.h"

namespace sluice::reception {
namespace {

// What one walk over the header section finds.
struct HeaderFacts {
    std::uint32_t received = 0, from = 0, date = 0, message_id = 0, lines = 0;
    bool return_path = false;
    bool empty_message_id = false;
};

std::uint32_t count_lines(std::string_view raw) {
    std::uint32_t lines = 0;
    for (std::size_t at = raw.find('\n'); at != std::string_view::npos; at = raw.find('\n', at + 1)) ++lines;
    return lines;
}

void note_field(HeaderFacts& facts, const mail::HeaderField& field) {
    // The first letter tells most fields apart without comparing.
    switch (field.name.empty() ? '\0' : ascii_lower(field.name.front())) {
        case 'r':
            if (iequals(field.name, "Received")) ++facts.received;
            if (iequals(field.name, "Return-Path")) facts.return_path = true;
            break;
        case 'f':
            if (iequals(field.name, "From")) ++facts.from;
            break;
        case 'd':
            if (iequals(field.name, "Date")) ++facts.date;
            break;
        case 'm':
            if (!iequals(field.name, "Message-ID")) break;
            ++facts.message_id;
            if (const auto value = trim(field.value); value.empty() || value == "<>") facts.empty_message_id = true;
            break;
        default:
            break;
    }
}

// "From someone Mon Jan ...", as mailbox files have it in front of a message, and what UUCP made of it on each further host.
bool is_mbox_line(const mail::HeaderField& field) {
    const bool folded = field.raw.find('\n') + 1 < field.raw.size();
    return field.name.empty() && !folded && (field.raw.starts_with("From ") || field.raw.starts_with(">From "));
}

HeaderFacts read_header(std::string_view content) {
    HeaderFacts facts;
    mail::HeaderReader reader(content);
    while (const auto field = reader.next()) {
        facts.lines += count_lines(field->raw);
        note_field(facts, *field);
    }
    return facts;
}

std::optional<smtp::Reply> beyond_limits(
    const HeaderFacts& facts, std::size_t header_size, const config::ConnectionSettings& limits) {
    if (facts.received > limits.received_max) {
        return smtp::Reply(554, "5.4.6", "Too many Received fields: this message loops");
    }
    if (limits.header_bytes_max != 0 && header_size > limits.header_bytes_max) {
        return smtp::Reply(552, "5.3.4", "Header section is larger than this server accepts");
    }
    if (limits.header_lines_max != 0 && facts.lines > limits.header_lines_max) {
        return smtp::Reply(554, "5.6.0", "Header section has too many lines");
    }
    return std::nullopt;
}

std::optional<smtp::Reply> refuse_fields(
    const HeaderFacts& facts, const Parts& parts, const mail::ContentTraits& traits, const Bearer& bearer) {
    if (bearer.strict_header && (facts.from > 1 || facts.date > 1)) {
        return smtp::Reply(554, "5.6.0", "Header section has more than one From or Date field");
    }
    if (bearer.knows_smtputf8 && traits.has_8bit_header && !parts.envelope.smtputf8) {
        return smtp::Reply(553, "5.6.7", "Header section has non-ASCII text, which needs SMTPUTF8");
    }
    return std::nullopt;
}

bool header_ends(std::string_view content) {
    return content.starts_with("\r\n") || content.ends_with("\r\n\r\n") || mail::header_section_size(content) < content.size();
}

// Where an empty line is missing the body begins with the first line that is no field.
void end_header_above_text(std::string& content) {
    mail::HeaderReader reader(content);
    while (const auto field = reader.next()) {
        if (!field->name.empty()) continue;
        content.insert(static_cast<std::size_t>(field->raw.data() - content.data()), "\r\n");
        return;
    }
}

// Return-Path is written at final delivery only (RFC 5321 §4.4).
bool clean_header(std::string& content, const HeaderFacts& facts) {
    bool changed = false;
    if (facts.return_path) changed |= mail::remove_fields(content, "Return-Path");
    if (facts.empty_message_id) changed |= mail::remove_fields(content, "Message-ID");
    return changed;
}

std::string received_of(const mail::Envelope& envelope, const Bearer& bearer, MessageId id, const config::Settings& settings,
                        std::int64_t wall_ms) {
    const std::string id_text = id.text();
    mail::ReceivedTrace trace;
    trace.helo = bearer.helo;
    trace.client_ip = bearer.client_ip;
    trace.by = settings.me;
    trace.with = bearer.with;
    trace.id = id_text;
    trace.tls = bearer.tls;
    trace.wall_ms = wall_ms;
    if (envelope.recipients.size() == 1) trace.only_recipient = &envelope.recipients.front().address;
    return mail::format_received(trace);
}

// The newest trace field is the first: the outbound side's own, then ours (haraka.md 6.2).
std::string trace_of(const Parts& parts, const Bearer& bearer, const HeaderFacts& facts, MessageId id,
                     const config::Settings& settings) {
    const std::int64_t wall_ms = wall_clock_ms();
    std::string trace;
    if (const std::string& text = settings.outbound.received_header; text != "disabled" && !text.empty()) {
        trace.append("Received: (").append(text).append(");\r\n\t").append(rfc5322_date(wall_ms)).append("\r\n");
    }
    if (settings.connection.add_received && !parts.traced) {
        trace += received_of(parts.envelope, bearer, id, settings, wall_ms);
    }
    if (bearer.submits && (facts.message_id == 0 || facts.empty_message_id)) {
        trace += mail::format_message_id_field(id, settings.me);
    }
    if (bearer.submits && facts.date == 0) trace += mail::format_date_field(wall_ms);
    return trace;
}

}  // namespace

void settle_header_section(std::string& content) {
    mail::HeaderReader reader(content);
    std::size_t mbox_octets = 0;
    auto first = reader.next();
    for (; first && is_mbox_line(*first); first = reader.next()) mbox_octets += first->raw.size();
    if (first && !first->name.empty()) {
        content.erase(0, mbox_octets);
        if (!header_ends(content)) end_header_above_text(content);
    } else if (first || mbox_octets > 0) {
        content.insert(0, "\r\n");
    }
}

std::optional<smtp::Reply> prepare_content(
    std::string& content, const mail::Envelope& envelope, const Bearer& bearer, MessageId id, const config::Settings& settings) {
    settle_header_section(content);
    if (!header_ends(content)) content += "\r\n";
    const HeaderFacts facts = read_header(content);
    if (auto refusal = beyond_limits(facts, mail::header_section_size(content), settings.connection)) return refusal;
    clean_header(content, facts);
    if (settings.connection.add_received) content.insert(0, received_of(envelope, bearer, id, settings, wall_clock_ms()));
    return std::nullopt;
}

tl::expected<mail::MessagePtr, smtp::Reply> compose(
    Parts&& parts, const Bearer& bearer, MessageId id, Instant arrival, const config::Settings& settings) {
    settle_header_section(parts.content);
    const HeaderFacts facts = read_header(parts.content);
    mail::ContentTraits traits = mail::scan_content(parts.content);
    std::optional<smtp::Reply> refusal;
    if (!parts.traced) refusal = beyond_limits(facts, traits.header_size, settings.connection);
    if (!refusal) refusal = refuse_fields(facts, parts, traits, bearer);
    if (refusal) return tl::unexpected<smtp::Reply>(std::move(*refusal));
    auto message = std::make_shared<mail::Message>();
    assign_fields(*message, parts, bearer, settings);
    bool changed = strip_fields(parts.content, settings);
    changed |= clean_header(parts.content, facts);
    if (changed) traits = mail::scan_content(parts.content);

    message->id = id;
    message->arrival = arrival;
    message->trace = trace_of(parts, bearer, facts, id, settings);
    message->traits = mail::with_trace(traits, message->trace);
    message->items = mail::split_items(parts.envelope.recipients, settings.outbound.always_split);
    message->envelope = std::move(parts.envelope);
    message->content = std::move(parts.content);
    message->notes = std::move(parts.notes);
    message->origin = bearer.origin;
    message->auth_user = bearer.auth_user;
    return mail::MessagePtr(std::move(message));
}

}  // namespace sluice::reception
