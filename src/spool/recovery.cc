#include "spool/recovery.h"

#include <algorithm>

#include "spool/codec.h"

namespace sluice::spool {
namespace {

// The message that a fact is about, without reading the rest: all but policies begin with it.
std::optional<MessageId> message_of(const Fact& fact) {
    if (fact.type == RecordType::policy) return std::nullopt;
    Decoder decode(fact.body);
    const MessageId id{decode.u64()};
    return decode.ok() ? std::optional(id) : std::nullopt;
}

}  // namespace

class Recovery::Facts {
public:
    Facts(const Recovery& recovery, std::string_view index) : recovery_(recovery), reader_(index), ahead_(index) {
        for (int i = 0; i < distance; ++i) look_ahead();
    }
    std::optional<Fact> next() {
        look_ahead();
        return reader_.next();
    }
    bool ok() const { return reader_.ok(); }

private:
    static constexpr int distance = 16;

    void look_ahead() {
        const auto fact = ahead_.next();
        const auto id = fact ? message_of(*fact) : std::nullopt;
        if (!id) return;
        recovery_.ledger_.prefetch(*id);
    }

    const Recovery& recovery_;
    FactReader reader_, ahead_;
};

Result<> Recovery::take(FileJournal::Found found) {
    segments_.push_back(std::move(found));
    const FileJournal::Found& segment = segments_.back();
    ledger_.add_segment(segment.segment, segment.file_bytes);
    Facts reader(*this, segment.facts);
    while (const auto fact = reader.next()) {
        if (const auto applied = ledger_.apply(segment.segment, *fact); !applied) {
            ++report_.corrupt_batches;
            report_.warnings.push_back(
                segment_name(segment.segment) + ": " + applied.error().detail + " at offset " +
                std::to_string(fact->offset)
            );
            continue;
        }
        keep_latest(*fact);
    }
    if (!reader.ok()) {
        ++report_.corrupt_batches;
        report_.warnings.push_back(
            segment_name(segment.segment) + ": its index makes no sense from some entry on"
        );
    }
    return {};
}

// The ledger knows where the latest ones are; their values are needed once, to tell.
void Recovery::keep_latest(const Fact& fact) {
    if (fact.type == RecordType::schedule) {
        ScheduleView schedule;
        if (decode_schedule(fact.body, schedule)) keep_schedule(schedule.item, fact.body);
    } else if (fact.type == RecordType::hold) {
        HoldView hold;
        if (!decode_hold(fact.body, hold)) return;
        if (hold.held) held_.insert(hold.item);
        else held_.erase(hold.item);
        if (hold.changes.empty()) changes_.erase(hold.item);
        else changes_[hold.item] = hold.changes;
    } else if (fact.type == RecordType::policy) {
        PolicyView policy;
        if (decode_policy(fact.body, policy)) policies_[policy.key] = policy.value;
    }
}

void Recovery::keep_schedule(const ItemId& item, std::string_view body) {
    const Index row = item.index == 0 ? ledger_.row(item.message) : none;
    if (row == none) {
        schedules_[item] = body;
        return;
    }
    if (row >= first_schedules_.size()) first_schedules_.resize(row + std::size_t{1});
    first_schedules_[row] = body;
}

// `row` is the message's.
std::optional<ScheduleView> Recovery::latest_schedule(const ItemId& item, Index row) const {
    ScheduleView schedule;
    if (item.index == 0 && row < first_schedules_.size() && !first_schedules_[row].empty()) {
        if (decode_schedule(first_schedules_[row], schedule) && schedule.item == item) return schedule;
    }
    const auto other = schedules_.find(item);
    if (other == schedules_.end() || !decode_schedule(other->second, schedule)) return std::nullopt;
    return schedule;
}

void Recovery::tell(const std::function<void(const RecoveredItem&)>& on_item) {
    ledger_.end_of_recovery();
    report_.latest = std::max(report_.latest, ledger_.latest());
    report_.last_id = std::max(report_.last_id, ledger_.last_id());
    report_.messages = ledger_.live_messages();
    for (const auto& [key, value] : policies_) {
        if (!value.empty()) report_.policies.push_back({std::string(key), std::string(value)});
    }
    const auto by_key = [](const PolicyRecord& a, const PolicyRecord& b) { return a.key < b.key; };
    std::sort(report_.policies.begin(), report_.policies.end(), by_key);

    for (const FileJournal::Found& segment : segments_) {
        Facts reader(*this, segment.facts);
        while (const auto fact = reader.next()) {
            if (fact->type == RecordType::message) tell_message(segment.segment, *fact, on_item);
        }
    }
}

void Recovery::tell_message(
    std::uint32_t segment, const Fact& fact, const std::function<void(const RecoveredItem&)>& on_item
) {
    if (!decode_summary(fact.body, summary_)) return;
    // Decided messages are gone from the ledger; of copies only the one that stands for the message counts.
    const Index row = ledger_.row(summary_.id);
    if (row == none || ledger_.place(row) != Place{segment, fact.offset, fact.length}) return;
    for (std::uint32_t i = 0; i < summary_.items.size(); ++i) {
        const ItemSummary& spec = summary_.items[i];
        ledger_.pending(summary_.id, spec.recipients, pending_);
        if (pending_.empty()) continue;
        RecoveredItem item;
        item.id = ItemId{summary_.id, i};
        item.domain = spec.domain;
        item.tenant = summary_.tenant;
        item.job = summary_.job;
        item.transport = summary_.transport;
        item.sender_domain = summary_.sender_domain;
        item.marks = summary_.marks;
        item.lifetime = summary_.lifetime;
        item.pending = pending_;
        item.recipient_count = static_cast<std::uint32_t>(spec.recipients.size());
        item.size = summary_.size;
        item.source_hash = spec.source_hash;
        item.arrival = summary_.arrival;
        item.next = summary_.arrival;
        item.priority = summary_.priority;
        if (const auto schedule = latest_schedule(item.id, row)) {
            item.next = schedule->next;
            item.attempts = schedule->attempts;
            item.delay_notified = schedule->delay_notified;
            item.last_reply = schedule->last_reply;
        }
        item.held = held_.contains(item.id);
        if (const auto changed = changes_.find(item.id); changed != changes_.end()) item.changes = changed->second;
        ++report_.items;
        on_item(item);
    }
}

}  // namespace sluice::spool
