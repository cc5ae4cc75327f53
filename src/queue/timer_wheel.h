#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <cstdint>

#include "base/assert.h"
#include "base/clock.h"
#include "queue/slab.h"

namespace sluice::queue {

// Part of everything that can wait for time. `prev` is none when no timer is set; the first of a slot is its own `prev`. Value.
struct TimerNode {
    Instant when;
    Index next = none;
    Index prev = none;
    bool is_set() const { return prev != none; }
};

// Wakes things at an instant, to the millisecond, at the same cost however many wait.
//
// Time is read as digits of six bits. A timer hangs in the slot of the highest digit in which its instant differs
// from the present, so it moves to a finer slot at most seven times, and its slot can always be computed again.
// `Nodes` is callable: nodes(key) is the TimerNode& of a key. Core-owned.
template <class Nodes>
class TimerWheel {
public:
    explicit TimerWheel(Nodes nodes) : nodes_(nodes) {}

    // Sets the timer of `key`, which has none. An instant that is not in the future is due at once.
    void add(Index key, Instant when) {
        TimerNode& node = nodes_(key);
        ASSERT(!node.is_set());
        node.when = when;
        link(key, node);
    }
    // Takes the timer back, if there is one.
    void cancel(Index key) {
        TimerNode& node = nodes_(key);
        if (!node.is_set()) return;
        unlink(key, node, slot_of(node.when));
    }
    // The instant at which advance() has something to do: never later than the first timer, possibly earlier.
    Instant next() const {
        if (slots_[due_slot].head != none) return instant_from_ms(elapsed_);
        const Slot slot = earliest();
        return slot == no_slot ? Instant::max() : instant_from_ms(begin_of(slot));
    }
    // Time has come to `now`; take() then gives what is due, in the order of time.
    void advance(Instant now) {
        const std::int64_t target = to_ms(now);
        while (elapsed_ < target) {
            const Slot slot = earliest();
            if (slot == no_slot || begin_of(slot) > target) break;
            elapsed_ = begin_of(slot);
            refine(slot);
        }
        elapsed_ = std::max(elapsed_, target);
    }
    // The next due key, its timer no longer set; none when there is no more.
    Index take() {
        const Index key = slots_[due_slot].head;
        if (key != none) unlink(key, nodes_(key), due_slot);
        return key;
    }
    // For audits: calls visit(key) for every timer.
    template <class Visit>
    void each(Visit visit) const {
        for (const Chain& chain : slots_) {
            for (Index key = chain.head; key != none; key = nodes_(key).next) visit(key);
        }
    }

private:
    using Slot = std::uint32_t;
    static constexpr unsigned bits = 6;
    static constexpr unsigned levels = 8;
    static constexpr Slot due_slot = levels << bits;
    static constexpr Slot no_slot = due_slot + 1;
    static constexpr std::int64_t horizon = (std::int64_t{1} << (bits * levels)) - 1;  // some 8,900 years

    Slot slot_of(Instant when) const {
        const std::int64_t instant = std::min(to_ms(when), horizon);
        if (instant <= elapsed_) return due_slot;
        const auto differing = static_cast<std::uint64_t>(instant ^ elapsed_);
        const unsigned level = (static_cast<unsigned>(std::bit_width(differing)) - 1) / bits;
        return level << bits | (static_cast<Slot>(instant >> (bits * level)) & 63U);
    }
    std::int64_t begin_of(Slot slot) const {
        const unsigned shift = bits * (slot >> bits);
        const std::int64_t above = elapsed_ >> (shift + bits) << (shift + bits);
        return above | static_cast<std::int64_t>(slot & 63U) << shift;
    }
    // All timers of a level lie after the present in that level's digit, and before those of coarser levels.
    Slot earliest() const {
        for (unsigned level = 0; level < levels; ++level) {
            if (occupied_[level] != 0) return level << bits | static_cast<Slot>(std::countr_zero(occupied_[level]));
        }
        return no_slot;
    }
    void link(Index key, TimerNode& node) {
        const Slot slot = slot_of(node.when);
        Chain& chain = slots_[slot];
        node.next = none;
        node.prev = chain.tail == none ? key : chain.tail;
        (chain.tail == none ? chain.head : nodes_(chain.tail).next) = key;
        chain.tail = key;
        if (slot != due_slot) occupied_[slot >> bits] |= std::uint64_t{1} << (slot & 63U);
    }
    void unlink(Index key, TimerNode& node, Slot slot) {
        Chain& chain = slots_[slot];
        const bool first = node.prev == key;
        if (first) {
            ASSERT(chain.head == key);
            chain.head = node.next;
        } else {
            nodes_(node.prev).next = node.next;
        }
        if (node.next == none) {
            chain.tail = first ? none : node.prev;
        } else {
            nodes_(node.next).prev = first ? node.next : node.prev;
        }
        node.next = node.prev = none;
        if (chain.head == none && slot != due_slot) occupied_[slot >> bits] &= ~(std::uint64_t{1} << (slot & 63U));
    }
    void refine(Slot slot) {
        Index key = std::exchange(slots_[slot], Chain{}).head;
        occupied_[slot >> bits] &= ~(std::uint64_t{1} << (slot & 63U));
        while (key != none) {
            TimerNode& node = nodes_(key);
            const Index next = node.next;
            link(key, node);
            key = next;
        }
    }

    Nodes nodes_;
    std::int64_t elapsed_ = 0;
    std::array<std::uint64_t, levels> occupied_{};
    std::array<Chain, due_slot + 1> slots_{};
};

}  // namespace sluice::queue
