// Plugins are asked before an attempt begins: whether it may, and over which route.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

using InLine = Chained<&Item::place>;

}  // namespace

void Core::Impl::wait_for_plugins(Index at) {
    items_[at].where = consult_line;
    InLine::push_back(items_, to_consult_, at);
    ask_plugins();
}

// A bounded number of items at a time: each keeps its message in memory while it is asked about.
void Core::Impl::ask_plugins() {
    const std::uint32_t limit = std::max<std::uint32_t>(options_.consulted_max, 1);
    while (!options_.disabled && !to_consult_.empty() && consulting_ < limit) {
        const Index at = to_consult_.head;
        leave_place(at);
        set_state(at, ItemState::sending);
        items_[at].asking = true;
        ++consulting_;
        const auto shard = static_cast<std::uint32_t>(items_[at].message % options_.shards);
        actions_->push_back(Consult{shard, work_of(at)});
    }
}

void Core::Impl::end_asking(Index at) {
    ASSERT(items_[at].asking && consulting_ > 0);
    items_[at].asking = false;
    --consulting_;
}

void Core::Impl::on(Consulted& event) {
    const Index at = items_.find(event.item);
    ASSERT(at != none && items_[at].state() == ItemState::sending);
    end_asking(at);
    if (!event.pending.empty()) progress_of(at).pending = std::move(event.pending);
    Item& item = items_[at];
    if (item.remove_requested) {
        actions_->push_back(Removed{item.key(), pending_of(at)});
        forget(at);
    } else if (conclude_rejected(at)) {
        // Its sender is told.
    } else if (item.take_hold_request()) {
        end_progress(at);
        set_state(at, ItemState::held);
    } else {
        item.consulted = true;
        if (event.route != nullptr) {
            Progress& progress = progress_of(at);
            progress.path = paths_.add(std::move(event.route));
            progress.tried.assign(paths_[progress.path].hops.size(), false);
        }
        make_ready(at, false);
    }
    ask_plugins();
}

void Core::Impl::on(Consulting& event) {
    options_.consult = event.wanted;
    if (event.wanted) return;
    while (!to_consult_.empty()) {
        const Index at = to_consult_.head;
        InLine::remove(items_, to_consult_, at);
        items_[at].where = none;
        find_place(at, false);
    }
}

}  // namespace sluice::queue
