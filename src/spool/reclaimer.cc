#include "spool/reclaimer.h"

#include <algorithm>

#include "spool/codec.h"

namespace sluice::spool {
namespace {

// Segments that the journal may take beyond twice what matters before anything is copied.
constexpr std::uint64_t slack_segments = 3;

// Where more than this part of a segment matters, copying it would give next to nothing back, again and again.
constexpr double worth_emptying = 0.7;

// While nothing dies, one look for each of these parts of a segment that was decided.
constexpr std::uint64_t looks_per_segment = 8;

// On a full disk, emptying a segment may use at most this part of what is left of the reserve.
constexpr std::uint64_t reserve_parts = 4;

// What a schedule, hold or policy record is about; empty for the others.
std::string subject_of(const Fact& fact) {
    std::string subject(1, static_cast<char>(fact.type));
    Encoder encode(subject);
    if (fact.type == RecordType::schedule) {
        ScheduleView schedule;
        if (!decode_schedule(fact.body, schedule)) return {};
        encode.u64(schedule.item.message.value);
        encode.number(schedule.item.index);
    } else if (fact.type == RecordType::hold) {
        HoldView hold;
        if (!decode_hold(fact.body, hold)) return {};
        encode.u64(hold.item.message.value);
        encode.number(hold.item.index);
    } else if (fact.type == RecordType::policy) {
        PolicyView policy;
        if (!decode_policy(fact.body, policy)) return {};
        subject.append(policy.key);
    } else {
        return {};
    }
    return subject;
}

}  // namespace

Result<> Reclaimer::look(std::uint32_t head) {
    bool maybe_dead = false;
    {
        const std::lock_guard lock(mutex_);
        maybe_dead = ledger_.take_maybe_dead();
    }
    const bool much_decided = much_was_decided();
    if (!maybe_dead && head == looked_at_head_ && !much_decided) return {};
    looked_at_head_ = head;
    most_live_bytes_ = ledger_.live_bytes();
    if (auto dropped = drop_dead(head); !dropped) {
        looked_at_head_ = 0;
        return dropped;
    }
    if (!emptying_) {
        if (const auto segment = choose(head)) begin(*segment);
    }
    return {};
}

// So much that a segment may be worth emptying, although none of them is dead and nothing new is written.
bool Reclaimer::much_was_decided() {
    most_live_bytes_ = std::max(most_live_bytes_, ledger_.live_bytes());
    return most_live_bytes_ - ledger_.live_bytes() >= segment_bytes_ / looks_per_segment;
}

// One segment's end can be that of others: the outcomes of its messages stop to matter.
Result<> Reclaimer::drop_dead(std::uint32_t head) {
    for (bool again = true; again;) {
        again = false;
        for (const std::uint32_t segment : ledger_.segments()) {
            if (segment == head || !ledger_.dead(segment) || !journal_.droppable(segment)) continue;
            if (emptying_ && emptying_->segment == segment) give_up();
            TRY_VOID(drop(segment));
            again = true;
        }
    }
    return {};
}

Result<> Reclaimer::drop(std::uint32_t segment) {
    const std::uint64_t bytes = ledger_.bytes(segment);
    TRY_VOID(journal_.drop(segment));
    reclaimed_bytes_ += bytes;
    pinned_.erase(segment);
    const std::lock_guard lock(mutex_);
    ledger_.remove_segment(segment);
    return {};
}

std::optional<std::uint32_t> Reclaimer::choose(std::uint32_t head) const {
    const auto possible = [&](std::uint32_t segment) {
        if (segment == head || pinned_.contains(segment) || !journal_.droppable(segment)) return false;
        return !journal_.on_reserve() || ledger_.matter_bytes(segment) <= reserve_share();
    };
    for (const std::uint32_t segment : journal_.unsound()) {
        if (possible(segment)) return segment;
    }
    std::uint64_t total = 0, matter = 0;
    std::optional<std::uint32_t> best;
    double least = worth_emptying;
    for (const std::uint32_t segment : ledger_.segments()) {
        const std::uint64_t bytes = std::max<std::uint64_t>(ledger_.bytes(segment), 1);
        const std::uint64_t matters = ledger_.matter_bytes(segment);
        total += bytes;
        matter += matters;
        const double part = static_cast<double>(matters) / static_cast<double>(bytes);
        if (part < least && possible(segment)) {
            least = part;
            best = segment;
        }
    }
    const bool full = journal_.on_reserve();
    if (!full && total <= 2 * matter + slack_segments * segment_bytes_) return std::nullopt;
    return best;
}

void Reclaimer::begin(std::uint32_t segment) {
    auto facts = journal_.facts(segment);
    if (!facts) {
        pinned_.insert(segment);
        problems_.push_back(segment_name(segment) + " cannot be emptied: " + facts.error().detail);
        return;
    }
    emptying_ = std::make_unique<Emptying>();
    Emptying& emptying = *emptying_;
    emptying.segment = segment;
    emptying.facts = std::move(*facts);
    FactReader all(emptying.facts);
    while (const auto fact = all.next()) {
        if (const std::string subject = subject_of(*fact); !subject.empty())
            emptying.latest[subject] = fact->offset;
    }
    emptying.reader = FactReader(emptying.facts);
}

std::uint64_t Reclaimer::reserve_share() const {
    return journal_.reserve_left() / reserve_parts;
}

Weight Reclaimer::gather(std::uint64_t bytes_max) {
    copies_.clear();
    if (!emptying_) return {};
    if (!journal_.on_reserve()) return gather_up_to(bytes_max);
    // It may have been begun while there was room.
    Weight weight;
    if (ledger_.matter_bytes(emptying_->segment) <= reserve_share()) weight = gather_up_to(reserve_share());
    if (emptying_->exhausted && weight.record + weight.index <= reserve_share()) return weight;
    give_up();
    return {};
}

Weight Reclaimer::gather_up_to(std::uint64_t bytes_max) {
    Weight weight;
    while (!emptying_->exhausted && weight.record < bytes_max) {
        const auto fact = emptying_->reader.next();
        if (!fact) {
            emptying_->exhausted = true;
        } else if (!superseded(*fact) && ledger_.matters(emptying_->segment, *fact)) {
            take(*fact, weight);
        }
    }
    return weight;
}

bool Reclaimer::superseded(const Fact& fact) const {
    const std::string subject = subject_of(fact);
    return !subject.empty() && emptying_->latest.at(subject) != fact.offset;
}

void Reclaimer::take(const Fact& fact, Weight& weight) {
    Copy copy{fact.type, {}, {}, {}};
    if (fact.type == RecordType::message) {
        auto body = journal_.read(emptying_->segment, fact.offset, fact.length);
        if (!body) {
            // It stays where it is, and its segment with it, until somebody decides its recipients.
            pinned_.insert(emptying_->segment);
            problems_.push_back(body.error().detail);
            if (body.error().code == Errc::corrupt)
                static_cast<void>(journal_.quarantine(emptying_->segment));
            return;
        }
        MessageSummary summary;
        if (!decode_summary(fact.body, summary)) return;
        copy.body = std::move(*body);
        copy.message = summary.id;
        copy.decided = ledger_.decided(summary.id);
    } else {
        copy.body = fact.body;
    }
    const std::uint64_t index = fact.body.size() + 64 + 5 * copy.decided.size();
    weight += Weight{copy.body.size() + 128 + 5 * copy.decided.size(), index + 64};
    copies_.push_back(std::move(copy));
}

void Reclaimer::add_to(Group& group) const {
    for (const Copy& copy : copies_) {
        group.add_copy(copy.type, copy.body);
        if (!copy.decided.empty()) group.add_decided(copy.message, copy.decided);
    }
}

void Reclaimer::written() {
    for (const Copy& copy : copies_)
        rewritten_bytes_ += copy.body.size();
    copies_.clear();
    if (!emptying_ || !emptying_->exhausted) return;
    const std::uint32_t segment = emptying_->segment;
    emptying_.reset();
    looked_at_head_ = 0;  // look again, whatever comes of this
    if (pinned_.contains(segment) || ledger_.holds_state(segment)) {
        pinned_.insert(segment);
        return;
    }
    if (const auto dropped = drop(segment); !dropped) problems_.push_back(dropped.error().detail);
}

void Reclaimer::not_written() {
    copies_.clear();
    if (!emptying_) return;
    emptying_->reader = FactReader(emptying_->facts);
    emptying_->exhausted = false;
}

void Reclaimer::give_up() {
    copies_.clear();
    emptying_.reset();
}

}  // namespace sluice::spool
