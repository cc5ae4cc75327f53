// What an operator does to items.

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// What stands beside the letters of ItemChanges for an item that is given up when its attempt ends.
constexpr char removed_letter = 'd';
constexpr char rejected_letter = 'b';  // its value: why

// One letter and the length of each value before it, so that any text can stand there: "t5:acme2p1:7".
void append_value(std::string& out, char letter, std::string_view text) {
    out += letter;
    out += std::to_string(text.size());
    out += ':';
    out += text;
}

// Up to the first that is not whole.
template <class Visit>
void each_value(std::string_view text, Visit visit) {
    while (!text.empty()) {
        const char letter = text.front();
        const std::size_t colon = text.find(':');
        if (colon == std::string_view::npos) return;
        const auto length = parse_number<std::size_t>(text.substr(1, colon - 1));
        if (!length || *length > text.size() - colon - 1) return;
        visit(letter, text.substr(colon + 1, *length));
        text.remove_prefix(colon + 1 + *length);
    }
}

}  // namespace

// ---- changes ---------------------------------------------------------------------------------------------------

void ItemChanges::add(const ItemChanges& later) {
    if (later.tenant) tenant = later.tenant;
    if (later.job) job = later.job;
    if (later.transport) transport = later.transport;
    if (later.next_hop) next_hop = later.next_hop;
    if (later.priority) priority = later.priority;
}

std::string ItemChanges::format() const {
    std::string out;
    if (tenant) append_value(out, 't', *tenant);
    if (job) append_value(out, 'j', *job);
    if (transport) append_value(out, 'x', *transport);
    if (next_hop) append_value(out, 'h', *next_hop);
    if (priority) append_value(out, 'p', std::to_string(*priority));
    return out;
}

ItemChanges ItemChanges::parse(std::string_view text) {
    ItemChanges changes;
    each_value(text, [&changes](char letter, std::string_view value) {
        if (letter == 't') changes.tenant = std::string(value);
        if (letter == 'j') changes.job = std::string(value);
        if (letter == 'x') changes.transport = std::string(value);
        if (letter == 'h') changes.next_hop = std::string(value);
        if (letter == 'p') changes.priority = parse_number<std::uint8_t>(value);
    });
    return changes;
}

// ---- what is concerned -----------------------------------------------------------------------------------------

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
    const Index destination = find_destination(which.domain);
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
void Core::Impl::on(Bounce& event) {
    for (const Index at : selected(event.which)) bounce(at, event.reason);
}
void Core::Impl::on(ChangeItems& event) {
    if (!event.changes.any()) return;
    for (const Index at : selected(event.which)) change(at, event.changes);
}

// ---- what is done ----------------------------------------------------------------------------------------------

void Core::Impl::hold(Index at) {
    Item& item = items_[at];
    if (item.state() == ItemState::held || item.hold_requested) return;
    if (item.state() == ItemState::sending) {
        item.hold_requested = true;
        return say_standing(at);
    }
    leave_place(at);
    end_progress(at);
    set_state(at, ItemState::held);
    say_standing(at);
}

void Core::Impl::release(Index at) {
    Item& item = items_[at];
    if (item.state() != ItemState::held && !item.hold_requested) return;
    const bool was_sending = item.take_hold_request();
    actions_->push_back(HoldChanged{item.key(), false, standing_of(at), true});
    if (!was_sending && !conclude_rejected(at)) schedule(at);
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
        if (item.remove_requested) return;
        item.remove_requested = true;
        return say_standing(at);
    }
    leave_place(at);
    actions_->push_back(Removed{item.key(), pending_of(at)});
    forget(at);
}

void Core::Impl::bounce(Index at, const std::string& reason) {
    if (items_[at].state() == ItemState::sending) {
        rejections_[at] = reason;
        items_[at].take_hold_request();
        return say_standing(at);
    }
    rejections_.erase(at);
    leave_place(at);
    conclude(at, Error(Errc::cancelled, reason), true);
}

// An item that was given up while it was under way comes back undecided.
bool Core::Impl::conclude_rejected(Index at) {
    const auto found = rejections_.find(at);
    if (found == rejections_.end()) return false;
    std::string reason = std::move(found->second);
    rejections_.erase(found);
    items_[at].take_hold_request();
    if (items_[at].state() == ItemState::sending) set_state(at, ItemState::scheduled);
    conclude(at, Error(Errc::cancelled, std::move(reason)), true);
    return true;
}

// A new item that was given up in an earlier life, during an attempt of which the journal knows no end. True when it has left its place.
// One that is held may be what ended that life: it bounces when somebody releases it.
bool Core::Impl::give_up_again(Index at, std::string_view standing) {
    bool removed = false;
    each_value(standing, [&](char letter, std::string_view value) {
        if (letter == removed_letter) removed = true;
        if (letter == rejected_letter) rejections_[at] = std::string(value);
    });
    if (removed) return remove(at), true;
    return items_[at].state() != ItemState::held && conclude_rejected(at);
}

// What makes a lane may be others then: a ready item goes to the end of the one where it belongs.
void Core::Impl::change(Index at, const ItemChanges& changes) {
    const bool ready = items_[at].state() == ItemState::ready;
    if (ready) leave_place(at);
    apply(at, changes);
    say_standing(at);
    if (!ready) return;
    watch_end(at);
    find_place(at, false);
}

// The item moves to the destination with that next hop. It has no place now; an attempt under way ends as it began.
void Core::Impl::reroute(Index at, std::string_view next_hop) {
    Item& item = items_[at];
    const Index before = item.destination;
    const Index after = destination_of(names_.text(destinations_[before].name), next_hop);
    if (after == before) return;
    if (item.state() != ItemState::sending) end_progress(at);
    const auto state = static_cast<unsigned>(item.state());
    Chained<&Item::sibling>::remove(items_, destinations_[before].items, at);
    --destinations_[before].count[state];
    item.destination = after;
    Chained<&Item::sibling>::push_back(items_, destinations_[after].items, at);
    ++destinations_[after].count[state];
    release_destination(before);
}

void Core::Impl::apply(Index at, const ItemChanges& changes) {
    Item& item = items_[at];
    if (changes.tenant || changes.job || changes.transport) {
        const Index before = std::exchange(item.profile, changed_profile(item.profile, changes));
        profiles_.drop(before);
    }
    if (changes.next_hop) reroute(at, *changes.next_hop);
    if (changes.priority) item.priority = static_cast<std::uint8_t>(std::min<unsigned>(*changes.priority, priorities - 1));
    ItemChanges all = ItemChanges::parse(changes_of(at));
    all.add(changes);
    const NameId said = names_.intern(all.format());
    forget_changes(at);
    changes_.emplace(at, said);
}

// What the item has in common with others then; held once.
Index Core::Impl::changed_profile(Index profile, const ItemChanges& changes) {
    const Profile::Key& key = profiles_[profile].name;
    std::vector<mail::Mark> marks;
    marks.reserve(key.marks.size());
    for (const NamedMark& mark : key.marks) marks.push_back({std::string(names_.text(mark.field)), std::string(names_.text(mark.value))});
    const auto text = [&](const std::optional<std::string>& changed, NameId now) { return changed ? std::string_view(*changed) : names_.text(now); };
    const Profiles::Texts texts{
        text(changes.tenant, key.tenant), text(changes.job, key.job), text(changes.transport, key.transport), names_.text(key.sender), marks};
    return profiles_.intern(texts, [this](NameId transport) { return sources_.pool_of(transport); });
}

std::string_view Core::Impl::changes_of(Index at) const {
    const auto found = changes_.find(at);
    return found == changes_.end() ? std::string_view() : names_.text(found->second);
}

void Core::Impl::forget_changes(Index at) {
    const auto found = changes_.find(at);
    if (found == changes_.end()) return;
    names_.drop(found->second);
    changes_.erase(found);
}

// Everything that was said of an item, to be recorded as one.
void Core::Impl::say_standing(Index at) {
    const Item& item = items_[at];
    const bool held = item.state() == ItemState::held || item.hold_requested;
    actions_->push_back(HoldChanged{item.key(), held, standing_of(at)});
}

std::string Core::Impl::standing_of(Index at) const {
    std::string standing;
    if (items_[at].remove_requested) append_value(standing, removed_letter, {});
    const auto rejected = rejections_.find(at);
    if (rejected != rejections_.end()) append_value(standing, rejected_letter, rejected->second);
    standing += changes_of(at);
    return standing;
}

}  // namespace sluice::queue
