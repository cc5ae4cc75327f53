#include "queue/waiters.h"

#include <algorithm>
#include <bit>

namespace sluice::queue {

namespace {

// What a tenant may owe at most: far more than its sessions can start before they are closed for others.
constexpr std::int64_t debt_max = 1'000'000;

}  // namespace

using Turn = Chained<&Waiters::Waiter::links>;

Index Waiters::enter(Round& round, Index bucket, Index lane, NameId tenant, std::uint32_t weight,
                     std::uint8_t priority) {
    const Index at = line_of(round, bucket, tenant, weight);
    Line& line = lines_[at];
    const Index waiter = waiters_.add();
    waiters_[waiter] = Waiter{lane, bucket, at, {}, priority};
    Turn::push_back(waiters_, line.waiting[priority], waiter);
    line.present = static_cast<std::uint8_t>(line.present | 1U << priority);
    ++round.count;
    return waiter;
}

void Waiters::leave(Round& round, Index waiter) {
    const Index at = waiters_[waiter].line;
    const unsigned priority = waiters_[waiter].priority;
    Line& line = lines_[at];
    Turn::remove(waiters_, line.waiting[priority], waiter);
    waiters_.remove(waiter);
    --round.count;
    if (!line.waiting[priority].empty()) return;
    line.present = static_cast<std::uint8_t>(line.present & ~(1U << priority));
    line.passed_over[priority] = 0;
    if (line.present == 0) {
        part(round, at);
        lines_.remove(at);
    }
}

Index Waiters::first(const Round& round) const {
    const Line& line = lines_[round.line];
    return line.waiting[next_priority(line)].head;
}

void Waiters::charge(Round& round, Index waiter) {
    const Index at = waiters_[waiter].line;
    const unsigned priority = waiters_[waiter].priority;
    Line& line = lines_[at];
    Turn::remove(waiters_, line.waiting[priority], waiter);
    Turn::push_back(waiters_, line.waiting[priority], waiter);
    line.passed_over[priority] = 0;
    for (unsigned lower = 0; lower < priority; ++lower) {
        if ((line.present >> lower & 1U) != 0 && line.passed_over[lower] < patience) ++line.passed_over[lower];
    }
    line.credit = std::max(line.credit - 1, -debt_max);
    if (round.line == at && line.credit <= 0) next_turn(round, line.ring.next);
}

// The turn of this line, or of the first after it that owes nothing any more. Every line that is passed over is given what its turn is worth, so
// these steps are as many as starts were charged, or fewer.
void Waiters::next_turn(Round& round, Index line) {
    std::int64_t rounds = debt_max;  // until somebody has paid
    Index at = line;
    do {
        Line& next = lines_[at];
        next.credit += next.weight;
        if (next.credit > 0) {
            round.line = at;
            return;
        }
        rounds = std::min(rounds, -next.credit / next.weight);
        at = next.ring.next;
    } while (at != line);
    for (bool first = true; first || at != line; at = lines_[at].ring.next, first = false) lines_[at].credit += rounds * lines_[at].weight;
    next_turn(round, line);
}

unsigned Waiters::next_priority(const Line& line) {
    for (unsigned priority = 0; priority < priorities; ++priority) {
        if ((line.present >> priority & 1U) != 0 && line.passed_over[priority] >= patience) return priority;
    }
    return static_cast<unsigned>(std::bit_width(line.present)) - 1;
}

Index Waiters::line_of(Round& round, Index bucket, NameId tenant, std::uint32_t weight) {
    Index at = lines_.find({bucket, number_of(tenant)});
    if (at == none) {
        Line line;
        line.bucket = bucket;
        line.tenant = tenant;
        line.weight = weight;
        at = lines_.add(line);
        join(round, at);
    }
    lines_[at].weight = weight;
    return at;
}

// At the end of the round, which is just before whoever's turn it is.
void Waiters::join(Round& round, Index line) {
    if (round.line == none) {
        lines_[line].ring = Links{line, line};
        return next_turn(round, line);
    }
    const Index next = round.line;
    const Index prev = lines_[next].ring.prev;
    lines_[line].ring = Links{next, prev};
    lines_[prev].ring.next = line;
    lines_[next].ring.prev = line;
}

void Waiters::part(Round& round, Index line) {
    const Links ring = lines_[line].ring;
    if (ring.next == line) {
        round.line = none;
        return;
    }
    lines_[ring.prev].ring.next = ring.next;
    lines_[ring.next].ring.prev = ring.prev;
    if (round.line == line) next_turn(round, ring.next);
}

std::uint32_t Waiters::recount(const Round& round) const {
    std::uint32_t count = 0;
    Index at = round.line;
    while (at != none) {
        const Line& line = lines_[at];
        ASSERT(line.present != 0 && (line.credit > 0 || at != round.line));
        for (unsigned priority = 0; priority < priorities; ++priority) {
            ASSERT(line.waiting[priority].empty() == ((line.present >> priority & 1U) == 0));
            for (Index waiter = line.waiting[priority].head; waiter != none; waiter = waiters_[waiter].links.next) {
                ASSERT(waiters_[waiter].line == at && waiters_[waiter].bucket == line.bucket);
                ++count;
            }
        }
        at = line.ring.next == round.line ? none : line.ring.next;
    }
    return count;
}

}  // namespace sluice::queue
