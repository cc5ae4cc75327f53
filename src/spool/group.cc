#include "spool/group.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "spool/record_codec.h"

namespace sluice::spool {
namespace {

// Below this a copy costs less than one more piece for the kernel.
constexpr std::size_t copied_bytes_max = 1024;

constexpr char zeroes[sector_bytes] = {};

}  // namespace

void Group::begin(const Head& head) {
    head_ = head;
    arena_.assign(batch_header_bytes, '\0');
    arena_cut_ = 0;
    stretches_.clear();
    facts_.clear();
    length_ = 0;
    records_ = 0;
    records_crc_ = 0;
}

void Group::add(const Record& record, std::uint64_t message_segment) {
    const std::size_t start = open_record();
    if (const auto* message = std::get_if<MessageRecord>(&record)) {
        append_message_head(arena_, *message->message);
        close_record(RecordType::message, start, message->message->content);
    } else if (const auto* outcome = std::get_if<OutcomeRecord>(&record)) {
        append_outcome(arena_, *outcome, message_segment);
        close_record(RecordType::outcome, start, {});
    } else if (const auto* schedule = std::get_if<ScheduleRecord>(&record)) {
        append_schedule(arena_, *schedule);
        close_record(RecordType::schedule, start, {});
    } else if (const auto* hold = std::get_if<HoldRecord>(&record)) {
        append_hold(arena_, *hold);
        close_record(RecordType::hold, start, {});
    } else {
        append_policy(arena_, std::get<PolicyRecord>(record));
        close_record(RecordType::policy, start, {});
    }
}

void Group::add_copy(RecordType type, std::string_view body) {
    const std::size_t start = open_record();
    // A message's summary must be in the arena, where close_record() looks for it.
    const std::size_t head =
        type == RecordType::message ? 4 + summary_of(body).value_or("").size() : body.size();
    arena_.append(body.substr(0, head));
    close_record(type, start, body.substr(head));
}

void Group::add_decided(MessageId message, const std::vector<std::uint32_t>& recipients) {
    const std::size_t start = open_record();
    append_decided(arena_, message, recipients);
    close_record(RecordType::decided, start, {});
}

// The place of the record's header in the arena.
std::size_t Group::open_record() {
    const std::size_t start = arena_.size();
    arena_.append(record_header_bytes, '\0');
    return start;
}

// The record is what the arena holds behind `start`, followed by `outside`.
void Group::close_record(RecordType type, std::size_t start, std::string_view outside) {
    const std::string_view inside = std::string_view(arena_).substr(start + record_header_bytes);
    RecordHeader header;
    header.type = type;
    header.length = static_cast<std::uint32_t>(inside.size() + outside.size());
    header.body_crc = crc32c(outside, crc32c(inside));
    put_record_header(arena_.data() + start, header, head_.nonce);
    records_crc_ = crc32c(std::string_view(arena_).substr(start, record_header_bytes), records_crc_);

    Fact fact;
    fact.type = type;
    fact.offset = head_.offset + batch_header_bytes + length_;
    fact.length = header.length;
    fact.body = type == RecordType::message ? summary_of(inside).value_or(std::string_view()) : inside;
    append_fact(facts_, fact);

    ++records_;
    length_ += record_bytes(header.length);
    if (outside.size() <= copied_bytes_max) {
        arena_.append(outside);
    } else {
        point_to(outside);
    }
    arena_.append(round_up(header.length, 8) - header.length, '\0');
}

void Group::point_to(std::string_view outside) {
    stretches_.push_back({nullptr, arena_cut_, arena_.size() - arena_cut_});
    stretches_.push_back({outside.data(), 0, outside.size()});
    arena_cut_ = arena_.size();
}

std::span<const iovec> Group::pieces() {
    ASSERT(length_ <= batch_bytes_max);
    BatchHeader header;
    header.epoch = head_.epoch;
    header.sequence = head_.sequence;
    header.segment = head_.segment;
    header.nonce = head_.nonce;
    header.length = static_cast<std::uint32_t>(length_);
    header.records = records_;
    header.records_crc = records_crc_;
    std::string encoded;
    append_batch_header(encoded, header);
    arena_.replace(0, batch_header_bytes, encoded);

    pieces_.clear();
    const auto piece = [&](const char* bytes, std::size_t size) {
        // pwritev takes pointers to mutable memory but only reads from it.
        if (size > 0) pieces_.push_back({const_cast<char*>(bytes), size});
    };
    for (const Stretch& stretch : stretches_) {
        piece(stretch.outside != nullptr ? stretch.outside : arena_.data() + stretch.at, stretch.size);
    }
    piece(arena_.data() + arena_cut_, arena_.size() - arena_cut_);
    piece(zeroes, bytes() - batch_header_bytes - length_);
    return pieces_;
}

}  // namespace sluice::spool
