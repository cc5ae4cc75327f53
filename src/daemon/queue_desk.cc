#include "daemon/queue_desk.h"

#include <algorithm>
#include <span>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "base/working_on.h"
#include "daemon/core_question.h"
#include "daemon/engine.h"
#include "daemon/filtering.h"
#include "mail/header.h"

namespace sluice::daemon {
namespace {

constexpr std::chrono::milliseconds removal_poll{2};
// What the core does in one go: look at so many places, or carry out a command on so many items. A few milliseconds.
constexpr std::size_t commands_at_once = 1'000;
// For one page of a list that selects by what messages say at most so many are read.
constexpr std::size_t loaded_max = 20'000;

bool mentions(const std::string& text, const std::string& wanted) {
    return to_lower(text).find(to_lower(wanted)) != std::string::npos;
}

bool passes(const mail::Message& message, ItemId id, const control::ItemFilter& filter) {
    const mail::Envelope& envelope = message.envelope;
    if (id.index >= message.items.size()) return false;
    if (!filter.sender.empty() && !mentions(envelope.reverse_path.text(), filter.sender)) return false;
    const std::vector<std::uint32_t>& recipients = message.items[id.index].recipients;
    const auto wanted = [&](std::uint32_t index) {
        return mentions(envelope.recipients[index].address.text(), filter.recipient);
    };
    return filter.recipient.empty() || std::any_of(recipients.begin(), recipients.end(), wanted);
}

// Adds what the message says.
void describe(control::ItemDetail& item, const mail::Message& message, std::vector<std::uint32_t> pending) {
    const WorkingOn working(message.id);
    item.sender = message.envelope.reverse_path.text();
    ASSERT(item.id.index < message.items.size());
    if (pending.empty()) pending = message.items[item.id.index].recipients;
    for (const std::uint32_t index : pending) {
        item.recipients.push_back(message.envelope.recipients[index].address.text());
    }
    if (const auto subject = mail::find_field(message.content, "Subject")) item.subject = mail::unfolded(subject->value);
}

}  // namespace

QueueDesk::QueueDesk(Engine& engine, async::Executor executor, SpoolAcceptance& acceptance)
    : engine_(engine), executor_(executor), acceptance_(acceptance) {}

// ---- looking ---------------------------------------------------------------------------------------------------

Task<Result<control::ItemPage>> QueueDesk::list(control::ItemFilter filter) {
    CO_TRY(const Place from, place_of(filter.cursor, *engine_.machinery_));
    CO_TRY(queue::Filter where, co_await read_filter(*engine_.machinery_, executor_, filter.where));
    const Wanted wanted{std::move(filter), std::move(where)};
    control::ItemPage page;
    std::optional<Place> next = from;
    std::size_t read = 0;
    while (next && page.items.size() < wanted.filter.limit && read < loaded_max && !closing_) {
        Stretch stretch = co_await known_items(wanted, *next, wanted.filter.limit - page.items.size());
        next = stretch.next;
        if (wanted.asks_messages()) read += stretch.items.size();
        co_await read_messages(std::move(stretch.items), wanted, page.items);
    }
    if (next) page.cursor = cursor_of(*next, *engine_.machinery_);
    std::sort(page.items.begin(), page.items.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    co_return page;
}

// The next items, at most so many, that are wanted for what the core knows.
Task<QueueDesk::Stretch> QueueDesk::known_items(const Wanted& wanted, Place from, std::size_t count_max) {
    std::function<Stretch(const queue::Core&)> question = [this, &wanted, from, count_max](const queue::Core& core) {
        Stretch stretch;
        const control::ItemFilter& filter = wanted.filter;
        stretch.next = core.select(wanted.where, from, places_at_once, [&](const queue::ItemView& view) {
            const bool selected = (filter.domain.empty() || filter.domain == view.domain) &&
                                  (filter.state.empty() || filter.state == name_of(view.state));
            if (selected) stretch.items.push_back(Known{detail_of(view, engine_.machinery_->clock()), core.pending(view.id)});
            return stretch.items.size() < count_max;
        });
        return stretch;
    };
    co_return co_await ask<Stretch>(engine_.machinery_->core(), executor_, std::move(question));
}

Task<> QueueDesk::read_messages(
    std::vector<Known> known, const Wanted& wanted, std::vector<control::ItemDetail>& into) {
    for (std::size_t from = 0; from < known.size() && !closing_; from += loaded_at_once) {
        const std::span<Known> some(&known[from], std::min(loaded_at_once, known.size() - from));
        const auto read = [this, some, &wanted] {
            std::vector<control::ItemDetail> found;
            for (Known& one : some) {
                if (engine_.machinery_->crash_guard().quarantined(one.item.id.message)) {
                    if (wanted.asks_messages()) continue;
                    one.item.problem = CrashGuard::reason();
                    found.push_back(std::move(one.item));
                    continue;
                }
                const Result<mail::MessagePtr> message = engine_.machinery_->spool().load(one.item.id.message);
                if (!message) {
                    // A damaged message is shown too: the operator has to find it. A missing one was decided meanwhile.
                    if (message.error().code == Errc::not_found || wanted.asks_messages()) continue;
                    one.item.problem = message.error().text();
                } else if (passes(**message, one.item.id, wanted.filter) && message_passes(**message, one.item.id, wanted.where)) {
                    describe(one.item, **message, std::move(one.pending));
                } else {
                    continue;
                }
                found.push_back(std::move(one.item));
            }
            return found;
        };
        std::vector<control::ItemDetail> found = co_await async::blocking(engine_.machinery_->workers(), executor_, read);
        for (control::ItemDetail& item : found) into.push_back(std::move(item));
    }
}

Task<Result<control::ItemDetail>> QueueDesk::show(ItemId id) {
    using Found = std::optional<std::pair<control::ItemDetail, std::vector<std::uint32_t>>>;
    std::function<Found(const queue::Core&)> question = [this, id](const queue::Core& core) -> Found {
        const auto view = core.find(id);
        return view ? Found(std::pair(detail_of(*view, engine_.machinery_->clock()), core.pending(id))) : std::nullopt;
    };
    Found found = co_await ask<Found>(engine_.machinery_->core(), executor_, std::move(question));
    if (!found) co_return fail(Errc::not_found, "no queued item " + id.text());
    control::ItemDetail item = std::move(found->first);
    if (engine_.machinery_->crash_guard().quarantined(id.message)) {
        item.problem = CrashGuard::reason();
        co_return item;
    }
    const auto load = [this, id] { return engine_.machinery_->spool().load(id.message); };
    const Result<mail::MessagePtr> loaded = co_await async::blocking(engine_.machinery_->workers(), executor_, load);
    if (!loaded) {
        if (loaded.error().code == Errc::not_found) co_return fail(loaded.error());  // decided meanwhile
        item.problem = loaded.error().text();
        co_return item;
    }
    const mail::Message& message = **loaded;
    describe(item, message, std::move(found->second));
    item.headers = message.trace + message.content.substr(0, message.traits.header_size);
    co_return item;
}

// ---- doing -----------------------------------------------------------------------------------------------------

Task<Result<std::uint64_t>> QueueDesk::command(control::Command command, queue::Selection which) {
    if (which.item) co_return co_await command_one(command, std::move(which));
    using Ids = std::pair<std::vector<queue::Event>, std::optional<Place>>;
    std::optional<Place> next = Place{0};
    std::uint64_t count = 0;
    while (next) {
        if (closing_) co_return fail(Errc::cancelled, "the engine stops; " + std::to_string(count) + " items were done");
        std::function<Ids(const queue::Core&)> question = [command, &which, from = *next](const queue::Core& core) {
            Ids ids;
            ids.second = core.each_from(from, places_at_once, [&](const queue::ItemView& view) {
                const bool selected = which.domain.empty() || which.domain == view.domain;
                if (selected && concerned(view, command)) {
                    ids.first.push_back(event_of(command, view.id));
                }
                return ids.first.size() < commands_at_once;
            });
            return ids;
        };
        Ids some = co_await ask<Ids>(engine_.machinery_->core(), executor_, std::move(question));
        next = some.second;
        if (some.first.empty()) continue;
        count += some.first.size();
        engine_.machinery_->core().push_all(some.first);
        CO_TRY_VOID(co_await done());
    }
    co_return count;
}

Task<Result<std::uint64_t>> QueueDesk::command_one(control::Command command, queue::Selection which) {
    std::function<bool(const queue::Core&)> question = [command, &which](const queue::Core& core) {
        const auto item = core.find(*which.item);
        return item && concerned(*item, command);
    };
    const bool known = co_await ask<bool>(engine_.machinery_->core(), executor_, std::move(question));
    if (!known) co_return fail(Errc::not_found, "no such item in a state that this concerns");
    queue::Event event = event_of(command, *which.item);
    engine_.machinery_->core().push(std::move(event));
    CO_TRY_VOID(co_await done());
    co_return std::uint64_t{1};
}

// The answer comes after the core has taken the command, and after a crash would not undo it. Core and writer keep the
// order; removals may wait for the disk to name their recipients.
Task<Result<>> QueueDesk::done() {
    std::function<bool(const queue::Core&)> barrier = [](const queue::Core&) { return true; };
    co_await ask<bool>(engine_.machinery_->core(), executor_, std::move(barrier));
    while (engine_.machinery_->removals_under_way() > 0 && co_await async::sleep_for(removal_poll)) {
    }
    co_return co_await acceptance_.durable();
}

}  // namespace sluice::daemon
