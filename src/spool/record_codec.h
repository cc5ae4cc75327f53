#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/format.h"
#include "spool/spool.h"

namespace sluice::spool {

// Record bodies <-> values. A message body is
//
//   u32 length of the summary | summary | details | content
//
// The summary is all that recovery and the queue core need; segment indexes repeat it and nothing else of a
// message.

// A recipient index is below this; a damaged or hostile record cannot make us allocate more than a bitmap of
// it.
constexpr std::uint32_t recipient_index_end = 1u << 24;

struct ItemSummary {
    std::string_view domain;
    std::uint32_t source_hash = 0;
    std::vector<std::uint32_t> recipients;
};
// Borrows its texts from the encoded summary.
struct MessageSummary {
    MessageId id;
    Instant arrival;
    std::uint32_t size = 0;
    std::uint8_t priority = 0;
    std::string_view tenant;
    std::vector<ItemSummary> items;
    // Records of earlier versions end here.
    std::string_view job, transport, sender_domain;
    std::chrono::seconds lifetime{0};
    std::optional<std::int8_t> mt_priority;
    std::vector<std::pair<std::string_view, std::string_view>> marks;
};

struct OutcomeView {
    ItemId item;
    Outcome outcome = Outcome::delivered;
    Instant at;
    std::uint64_t segment = 0;  // in which the message stood: the record matters while that segment exists
    std::string_view by;
    std::vector<std::uint32_t> recipients;
};
struct ScheduleView {
    ItemId item;
    std::uint16_t attempts = 0;
    Instant next;
    bool delay_notified = false;
    std::string_view last_reply;
};
struct HoldView {
    ItemId item;
    bool held = false;
    std::string_view by;
    std::string_view changes;
};
struct PolicyView {
    std::string_view key;
    std::string_view value;
};
struct DecidedView {
    MessageId message;
    std::vector<std::uint32_t> recipients;  // of any item
};

constexpr std::size_t last_reply_bytes_max = 512;

// Appends the whole body of a message except its content, which the caller writes right behind.
void append_message_head(std::string& out, const mail::Message& message);
void append_outcome(std::string& out, const OutcomeRecord& record, std::uint64_t segment);
void append_schedule(std::string& out, const ScheduleRecord& record);
void append_hold(std::string& out, const HoldRecord& record);
void append_policy(std::string& out, const PolicyRecord& record);
void append_decided(std::string& out, MessageId message, const std::vector<std::uint32_t>& recipients);

// The summary's part of a message body. Error: corrupt.
Result<std::string_view> summary_of(std::string_view message_body);

// All fill `into` and keep its memory for the next record. Error: corrupt.
Result<> decode_summary(std::string_view summary, MessageSummary& into);
Result<> decode_outcome(std::string_view body, OutcomeView& into);
Result<> decode_schedule(std::string_view body, ScheduleView& into);
Result<> decode_hold(std::string_view body, HoldView& into);
Result<> decode_policy(std::string_view body, PolicyView& into);
Result<> decode_decided(std::string_view body, DecidedView& into);
Result<mail::MessagePtr> decode_message(std::string_view body);

// An upper bound for what a record takes in a batch, and for what it adds to the segment's index.
struct Weight {
    std::uint64_t record = 0;
    std::uint64_t index = 0;

    Weight& operator+=(const Weight& other) {
        record += other.record;
        index += other.index;
        return *this;
    }
};
Weight weigh(const Record& record);

}  // namespace sluice::spool
