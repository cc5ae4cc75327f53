// What an operator does to items.

#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {

std::vector<Index> Core::Impl::selected(const Selection& which) const {
    std::vector<Index> items;
    if (which.item) {
        const Index at = items_.find(*which.item);
        if (at == none) return items;
        if (!which.domain.empty() && names_.text(destinations_[items_[at].destination].name) != which.domain) return items;
        return {at};
    }
    if (which.domain.empty()) {
        for (Index at = 0; at < items_.end(); ++at) {
            if (items_.contains(at)) items.push_back(at);
        }
        return items;
    }
    NameId name{};
    const Index destination = names_.find(which.domain, name) ? destinations_.find(name) : none;
    if (destination == none) return items;
    for (Index at = destinations_[destination].items.head; at != none; at = items_[at].sibling.next) items.push_back(at);
    return items;
}

void Core::Impl::on(Hold& event) {
    for (const Index at : selected(event.which)) hold(at);
}
void Core::Impl::on(Release& event) {
    for (const Index at : selected(event.which)) release(at);
}
void Core::Impl::on(Flush& event) {
    for (const Index at : selected(event.which)) flush(at);
}
void Core::Impl::on(Remove& event) {
    for (const Index at : selected(event.which)) remove(at);
}

void Core::Impl::hold(Index at) {
    Item& item = items_[at];
    if (item.state() == ItemState::held || item.hold_requested) return;
    actions_->push_back(HoldChanged{item.key(), true});
    if (item.state() == ItemState::sending) {
        item.hold_requested = true;
        return;
    }
    leave_place(at);
    end_progress(at);
    set_state(at, ItemState::held);
}

void Core::Impl::release(Index at) {
    Item& item = items_[at];
    if (item.state() != ItemState::held && !item.hold_requested) return;
    actions_->push_back(HoldChanged{item.key(), false});
    if (!item.take_hold_request()) schedule(at);
}

void Core::Impl::flush(Index at) {
    if (items_[at].state() != ItemState::scheduled) return;
    leave_place(at);
    items_[at].due = now_;
    make_ready(at, false);
}

void Core::Impl::remove(Index at) {
    Item& item = items_[at];
    if (item.state() == ItemState::sending) {
        item.remove_requested = true;
        return;
    }
    leave_place(at);
    actions_->push_back(Removed{item.key(), pending_of(at)});
    forget(at);
}

}  // namespace sluice::queue
