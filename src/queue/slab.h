#pragma once

#include "base/slab.h"

namespace sluice::queue {

// A row's neighbours in a chain, and a chain's ends. Values.
struct Links {
    Index next = none;
    Index prev = none;
};
struct Chain {
    Index head = none;
    Index tail = none;
    bool empty() const { return head == none; }
};

// Chains rows of a table through one of their members: Chained<&Item::place>::push_back(items, lane.items, at).
template <auto Member>
struct Chained {
    template <class Table>
    static void push_back(Table& table, Chain& chain, Index at) {
        table[at].*Member = Links{none, chain.tail};
        (chain.tail == none ? chain.head : (table[chain.tail].*Member).next) = at;
        chain.tail = at;
    }
    template <class Table>
    static void push_front(Table& table, Chain& chain, Index at) {
        table[at].*Member = Links{chain.head, none};
        (chain.head == none ? chain.tail : (table[chain.head].*Member).prev) = at;
        chain.head = at;
    }
    template <class Table>
    static void remove(Table& table, Chain& chain, Index at) {
        const Links links = table[at].*Member;
        (links.prev == none ? chain.head : (table[links.prev].*Member).next) = links.next;
        (links.next == none ? chain.tail : (table[links.next].*Member).prev) = links.prev;
        table[at].*Member = Links{};
    }
};

}  // namespace sluice::queue
