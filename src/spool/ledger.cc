#include "spool/ledger.h"

#include <algorithm>

#include "base/assert.h"

namespace sluice::spool {
namespace {

// Type, offset and length.
constexpr std::uint64_t index_entry_bytes = 9;

// Of the index: a message's summary, all of everything else.
std::uint64_t indexed_bytes(const Fact& fact) {
    return index_entry_bytes + fact.body.size();
}

// What a record other than a message takes in a segment.
std::uint64_t octets_of(const Fact& fact) {
    return record_bytes(fact.length) + indexed_bytes(fact);
}

}  // namespace

void Ledger::add_segment(std::uint32_t segment, std::uint64_t bytes) {
    tallies_[segment].bytes = bytes;
}

void Ledger::remove_segment(std::uint32_t segment) {
    tallies_.erase(segment);
    for (auto entry = older_copies_.begin(); entry != older_copies_.end();) {
        entry->second.erase(segment);
        entry = entry->second.empty() ? older_copies_.erase(entry) : std::next(entry);
    }
    settle_erasures();
    maybe_dead_ = true;
}

void Ledger::end_of_recovery() {
    recovering_ = false;
    early_ = {};
    settle_erasures();
}

Result<> Ledger::apply(std::uint32_t segment, const Fact& fact) {
    switch (fact.type) {
        case RecordType::message:
            return apply_message(segment, fact);
        case RecordType::outcome:
            return apply_outcome(segment, fact);
        case RecordType::policy:
            return apply_policy(segment, fact);
        case RecordType::schedule: {
            ScheduleView schedule;
            TRY_VOID(decode_schedule(fact.body, schedule));
            note({segment, static_cast<std::uint32_t>(octets_of(fact))}, schedule.item, false);
            return {};
        }
        case RecordType::hold: {
            HoldView hold;
            TRY_VOID(decode_hold(fact.body, hold));
            note({segment, static_cast<std::uint32_t>(octets_of(fact))}, hold.item, true);
            return {};
        }
        case RecordType::decided:
            TRY_VOID(decode_decided(fact.body, decided_));
            decide(decided_.message, decided_.recipients);
            return {};
    }
    UNREACHABLE();
}

// ---- messages
// ----------------------------------------------------------------------------------------------------

Result<> Ledger::apply_message(std::uint32_t segment, const Fact& fact) {
    TRY_VOID(decode_summary(fact.body, summary_));
    latest_ = std::max(latest_, summary_.arrival);
    last_id_ = std::max(last_id_, summary_.id);
    const Index found = live_.find(summary_.id);
    if (found == none) {
        admit(segment, fact);
        return {};
    }
    // A copy: it stands for the message from now on.
    Live& live = live_[found];
    keep_older(segment, live.segment);
    leave(tallies_.at(live.segment), live);
    live.segment = segment;
    live.offset = static_cast<std::uint32_t>(fact.offset / 8);
    live.length = fact.length;
    enter(tallies_.at(segment), live, fact);
    return {};
}

// `older` may hold a copy of what stands in `segment`, and so may all that hold copies of what stands in `older`, though that goes.
void Ledger::keep_older(std::uint32_t segment, std::uint32_t older) {
    if (older == segment) return;
    std::set<std::uint32_t>& copies = older_copies_[segment];
    copies.insert(older);
    const auto before = older_copies_.find(older);
    if (before == older_copies_.end()) return;
    for (const std::uint32_t oldest : before->second) {
        if (oldest != segment) copies.insert(oldest);
    }
}

void Ledger::enter(Tally& tally, const Live& live, const Fact& fact) {
    tally.live_bytes += record_bytes(live.length);
    tally.messages.enter(indexed_bytes(fact));
    live_bytes_ += record_bytes(live.length);
}

void Ledger::leave(Tally& tally, const Live& live) {
    tally.live_bytes -= record_bytes(live.length);
    live_bytes_ -= record_bytes(live.length);
    tally.messages.leave();
    if (tally.messages.count == 0) maybe_dead_ = true;
}

// summary_ is a message seen for the first time.
void Ledger::admit(std::uint32_t segment, const Fact& fact) {
    Live live;
    live.id_high = static_cast<std::uint32_t>(summary_.id.value >> 32);
    live.id_low = static_cast<std::uint32_t>(summary_.id.value);
    live.segment = segment;
    live.offset = static_cast<std::uint32_t>(fact.offset / 8);
    live.length = fact.length;
    const auto& items = summary_.items;
    const bool simple = items.size() == 1 && items.front().recipients == std::vector<std::uint32_t>{0};
    if (!simple) {
        Many many;
        many.items.resize(items.size());
        for (const ItemSummary& item : items) {
            for (const std::uint32_t recipient : item.recipients) {
                if (recipient >= many.pending.size()) {
                    many.pending.resize(recipient + std::size_t{1});
                    many.listed.resize(recipient + std::size_t{1});
                }
                if (!many.pending[recipient]) ++many.pending_count;
                many.pending[recipient] = true;
                many.listed[recipient] = true;
            }
        }
        if (many.pending_count == 0) return;  // for nobody
        live.many = 1;
        many_.emplace(summary_.id, std::move(many));
    }
    live_.add(live);
    enter(tallies_.at(segment), live, fact);
    if (!early_.empty()) take_early_notes(summary_.id);
}

void Ledger::take_early_notes(MessageId id) {
    for (std::uint32_t i = 0; i < summary_.items.size(); ++i) {
        const ItemId item{id, i};
        const auto early = early_.find(item);
        if (early == early_.end()) continue;
        if (early->second.schedule.segment != 0) note(early->second.schedule, item, false);
        if (early->second.hold.segment != 0) note(early->second.hold, item, true);
        early_.erase(early);
    }
}

void Ledger::forget(Index at) {
    const Live live = live_[at];
    leave(tallies_.at(live.segment), live);
    drop_note(live.schedule);
    drop_note(live.hold);
    if (live.many != 0) {
        const auto many = many_.find(live.key());
        for (const ItemNotes& notes : many->second.items) {
            drop_note(notes.schedule);
            drop_note(notes.hold);
        }
        many_.erase(many);
    }
    live_.remove(at);
}

Place Ledger::place(Index row) const {
    const Live& live = live_[row];
    return {live.segment, std::uint64_t{live.offset} * 8, live.length};
}

std::optional<Place> Ledger::find(MessageId id) const {
    const Index found = live_.find(id);
    return found == none ? std::nullopt : std::optional(place(found));
}

// ---- outcomes
// ----------------------------------------------------------------------------------------------------

Result<> Ledger::apply_outcome(std::uint32_t segment, const Fact& fact) {
    TRY_VOID(decode_outcome(fact.body, outcome_));
    latest_ = std::max(latest_, outcome_.at);
    const auto named = static_cast<std::uint32_t>(outcome_.segment);
    tallies_.at(segment).outcomes[named] += octets_of(fact);
    const Index found = live_.find(outcome_.item.message);
    if (found == none) return {};
    keep_older(named, live_[found].segment);
    decide(outcome_.item.message, outcome_.recipients);
    return {};
}

void Ledger::decide(MessageId id, const std::vector<std::uint32_t>& recipients) {
    const Index found = live_.find(id);
    if (found == none) return;
    if (live_[found].many == 0) {
        if (std::find(recipients.begin(), recipients.end(), 0U) != recipients.end()) forget(found);
        return;
    }
    Many& many = many_.at(id);
    for (const std::uint32_t recipient : recipients) {
        if (recipient >= many.pending.size() || !many.pending[recipient]) continue;
        many.pending[recipient] = false;
        --many.pending_count;
    }
    if (many.pending_count == 0) forget(found);
}

void Ledger::pending(
    MessageId id, const std::vector<std::uint32_t>& candidates, std::vector<std::uint32_t>& into
) const {
    into.clear();
    const Index found = live_.find(id);
    if (found == none) return;
    if (live_[found].many == 0) {
        into = candidates;
        return;
    }
    const Many& many = many_.at(id);
    for (const std::uint32_t recipient : candidates) {
        if (recipient < many.pending.size() && many.pending[recipient]) into.push_back(recipient);
    }
}

std::vector<std::uint32_t> Ledger::decided(MessageId id) const {
    std::vector<std::uint32_t> recipients;
    const auto found = many_.find(id);
    if (found == many_.end()) return recipients;
    for (std::uint32_t i = 0; i < found->second.pending.size(); ++i) {
        if (found->second.listed[i] && !found->second.pending[i]) recipients.push_back(i);
    }
    return recipients;
}

// ---- schedules and holds
// -----------------------------------------------------------------------------------------

std::uint32_t* Ledger::note_of(const ItemId& item, bool hold) {
    const Index found = live_.find(item.message);
    if (found == none) return nullptr;
    Live& live = live_[found];
    if (live.many == 0) {
        if (item.index != 0) return nullptr;
        return hold ? &live.hold : &live.schedule;
    }
    Many& many = many_.at(item.message);
    if (item.index >= many.items.size()) return nullptr;
    return hold ? &many.items[item.index].hold : &many.items[item.index].schedule;
}

void Ledger::note(PlacedNote placed, const ItemId& item, bool hold) {
    std::uint32_t* const at = note_of(item, hold);
    if (at == nullptr) {
        if (recovering_) (hold ? early_[item].hold : early_[item].schedule) = placed;
        return;
    }
    drop_note(*at);
    *at = placed.segment;
    tallies_.at(placed.segment).notes.enter(placed.octets);
}

void Ledger::drop_note(std::uint32_t segment) {
    if (segment == 0) return;
    Kept& notes = tallies_.at(segment).notes;
    notes.leave();
    if (notes.count == 0) maybe_dead_ = true;
}

// ---- policies
// ----------------------------------------------------------------------------------------------------

Result<> Ledger::apply_policy(std::uint32_t segment, const Fact& fact) {
    PolicyView policy;
    TRY_VOID(decode_policy(fact.body, policy));
    const std::string key(policy.key);
    Latest latest{segment, segment};
    for (auto* known : {&policies_, &erasures_}) {
        if (const auto before = known->find(key); before != known->end()) {
            leave_policy(before->second.at);
            latest.first = before->second.first;
            known->erase(before);
        }
    }
    (policy.value.empty() ? erasures_ : policies_)[key] = latest;
    tallies_.at(segment).policies.enter(octets_of(fact));
    return {};
}

void Ledger::leave_policy(std::uint32_t segment) {
    Kept& policies = tallies_.at(segment).policies;
    policies.leave();
    if (policies.count == 0) maybe_dead_ = true;
}

// An erasure is needed while a segment that may hold an older value exists: one from the first value up to,
// but not including, the erasure's own.
void Ledger::settle_erasures() {
    for (auto entry = erasures_.begin(); entry != erasures_.end();) {
        const auto oldest = tallies_.lower_bound(entry->second.first);
        if (oldest != tallies_.end() && oldest->first < entry->second.at) {
            ++entry;
            continue;
        }
        leave_policy(entry->second.at);
        erasures_.erase(entry++);
    }
}

// ---- what matters
// ------------------------------------------------------------------------------------------------

bool Ledger::outcome_matters(std::uint32_t segment, std::uint32_t message_segment) const {
    if (message_segment != segment && exists(message_segment)) return true;
    const auto copies = older_copies_.find(message_segment);
    if (copies == older_copies_.end()) return false;
    return std::any_of(copies->second.begin(), copies->second.end(), [&](std::uint32_t other) {
        return other != segment && exists(other);
    });
}

bool Ledger::matters(std::uint32_t segment, const Fact& fact) {
    switch (fact.type) {
        case RecordType::message: {
            if (!decode_summary(fact.body, summary_)) return false;
            return find(summary_.id) == Place{segment, fact.offset, fact.length};
        }
        case RecordType::outcome:
            if (!decode_outcome(fact.body, outcome_)) return false;
            return outcome_matters(segment, static_cast<std::uint32_t>(outcome_.segment));
        case RecordType::schedule: {
            ScheduleView schedule;
            if (!decode_schedule(fact.body, schedule)) return false;
            const std::uint32_t* at = note_of(schedule.item, false);
            return at != nullptr && *at == segment;
        }
        case RecordType::hold: {
            HoldView hold;
            if (!decode_hold(fact.body, hold)) return false;
            const std::uint32_t* at = note_of(hold.item, true);
            return at != nullptr && *at == segment;
        }
        case RecordType::policy: {
            PolicyView policy;
            if (!decode_policy(fact.body, policy)) return false;
            const std::string key(policy.key);
            const auto value = policies_.find(key);
            const auto erasure = erasures_.find(key);
            return (value != policies_.end() && value->second.at == segment) ||
                   (erasure != erasures_.end() && erasure->second.at == segment);
        }
        case RecordType::decided:
            return false;  // written anew with the copy
    }
    UNREACHABLE();
}

bool Ledger::holds_state(std::uint32_t segment) const {
    const Tally& tally = tallies_.at(segment);
    return tally.messages.count > 0 || tally.notes.count > 0 || tally.policies.count > 0;
}

bool Ledger::dead(std::uint32_t segment) const {
    if (holds_state(segment)) return false;
    const Tally& tally = tallies_.at(segment);
    return std::none_of(tally.outcomes.begin(), tally.outcomes.end(), [&](const auto& entry) {
        return outcome_matters(segment, entry.first);
    });
}

std::uint64_t Ledger::matter_bytes(std::uint32_t segment) const {
    const Tally& tally = tallies_.at(segment);
    std::uint64_t bytes = tally.live_bytes + tally.messages.bytes + tally.notes.bytes + tally.policies.bytes;
    for (const auto& [message_segment, octets] : tally.outcomes) {
        if (outcome_matters(segment, message_segment)) bytes += octets;
    }
    return bytes;
}

std::vector<std::uint32_t> Ledger::segments() const {
    std::vector<std::uint32_t> numbers;
    for (const auto& [segment, tally] : tallies_)
        numbers.push_back(segment);
    return numbers;
}

std::uint64_t Ledger::bytes(std::uint32_t segment) const {
    return tallies_.at(segment).bytes;
}

}  // namespace sluice::spool
