#include "queue/waiters.h"

#include <bit>

namespace sluice::queue {

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
    if (--line.deficit > 0) return;
    line.deficit = line.weight;
    if (round.line == at) round.line = line.ring.next;
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
        line.deficit = weight;
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
        round.line = line;
        return;
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
    if (round.line == line) round.line = ring.next;
}

std::uint32_t Waiters::recount(const Round& round) const {
    std::uint32_t count = 0;
    Index at = round.line;
    while (at != none) {
        const Line& line = lines_[at];
        ASSERT(line.present != 0 && line.deficit > 0);
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
