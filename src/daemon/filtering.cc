#include "daemon/filtering.h"

#include <algorithm>
#include <span>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "base/working_on.h"
#include "daemon/core_question.h"
#include "mail/header.h"

namespace sluice::daemon {
namespace {

using Term = queue::Filter::Term;
using Kind = queue::Column::Kind;

// Some recipient is such; with `!=`, none is.
bool recipients_pass(const mail::Message& message, ItemId id, const Term& term) {
    for (const std::uint32_t index : message.items[id.index].recipients) {
        if (term.holds(message.envelope.recipients[index].address.text()) != term.negated) return !term.negated;
    }
    return term.negated;
}

bool passes(const mail::Message& message, ItemId id, const Term& term) {
    switch (term.column.kind) {
        case Kind::sender: return term.holds(message.envelope.reverse_path.text());
        case Kind::recipient: return recipients_pass(message, id, term);
        case Kind::subject: {
            const auto subject = mail::find_field(message.content, "Subject");
            return term.holds(subject ? mail::unfolded(subject->value) : std::string());
        }
        default: return true;  // the core knows
    }
}

}  // namespace

const char* name_of(queue::ItemState state) {
    switch (state) {
        case queue::ItemState::scheduled: return "scheduled";
        case queue::ItemState::ready: return "ready";
        case queue::ItemState::sending: return "sending";
        case queue::ItemState::held: return "held";
    }
    UNREACHABLE();
}

control::ItemDetail detail_of(const queue::ItemView& view, const Clock& clock) {
    control::ItemDetail item;
    item.id = view.id;
    item.state = name_of(view.state);
    item.domain = view.domain;
    item.tenant = view.tenant;
    item.arrival_ms = clock.wall_ms(view.arrival);
    item.next_ms = clock.wall_ms(view.due);
    item.attempts = view.attempts;
    item.size = view.size;
    item.priority = view.priority;
    item.lifetime_s = view.lifetime.count();
    item.reply = view.reply;
    item.job = view.job;
    item.transport = view.transport;
    item.via = view.via;
    return item;
}

bool concerned(const queue::ItemView& item, control::Command command) {
    switch (command) {
        case control::Command::flush: return item.state == queue::ItemState::scheduled;
        case control::Command::hold: return item.state != queue::ItemState::held;
        case control::Command::release: return item.state == queue::ItemState::held;
        case control::Command::remove:
        case control::Command::bounce:
        case control::Command::change: return true;
    }
    UNREACHABLE();
}

queue::Event event_of(control::Command command, ItemId item, const control::BulkRequest& request) {
    queue::Selection which{item, ""};
    switch (command) {
        case control::Command::flush: return queue::Flush{std::move(which)};
        case control::Command::hold: return queue::Hold{std::move(which)};
        case control::Command::release: return queue::Release{std::move(which)};
        case control::Command::remove: return queue::Remove{std::move(which)};
        case control::Command::bounce:
            return queue::Bounce{std::move(which), request.reason.empty() ? "an operator gave the message up" : request.reason};
        case control::Command::change: return queue::ChangeItems{std::move(which), request.changes};
    }
    UNREACHABLE();
}

Task<Result<queue::Filter>> read_filter(Machinery& machinery, async::Executor executor, std::string where) {
    if (trim(where).empty()) co_return queue::Filter();
    std::function<policy::FieldTable(const queue::Core&)> question = [](const queue::Core& core) { return core.fields(); };
    const policy::FieldTable fields = co_await ask<policy::FieldTable>(machinery.core(), executor, std::move(question));
    co_return queue::Filter::parse(where, fields);
}

bool message_passes(const mail::Message& message, ItemId id, const queue::Filter& filter) {
    if (id.index >= message.items.size()) return false;
    const WorkingOn working(message.id);
    const auto holds = [&](const Term& term) { return passes(message, id, term); };
    return std::all_of(filter.terms().begin(), filter.terms().end(), holds);
}

Task<std::vector<ItemId>> passing_messages(
    Machinery& machinery, async::Executor executor, std::vector<ItemId> items, const queue::Filter& filter) {
    std::vector<ItemId> passing;
    for (std::size_t from = 0; from < items.size(); from += loaded_at_once) {
        const std::span<const ItemId> some(&items[from], std::min(loaded_at_once, items.size() - from));
        const auto read = [&machinery, &filter, some] {
            std::vector<ItemId> found;
            for (const ItemId id : some) {
                // What crashed us again and again is not touched.
                if (machinery.crash_guard().quarantined(id.message)) continue;
                const Result<mail::MessagePtr> message = machinery.spool().load(id.message);
                if (message && message_passes(**message, id, filter)) found.push_back(id);
            }
            return found;
        };
        const std::vector<ItemId> found = co_await async::blocking(machinery.workers(), executor, read);
        passing.insert(passing.end(), found.begin(), found.end());
    }
    co_return passing;
}

std::string cursor_of(queue::Core::Place place, const Machinery& machinery) {
    return std::to_string(to_ms(machinery.started())) + "-" + std::to_string(place);
}

Result<queue::Core::Place> place_of(const std::string& cursor, const Machinery& machinery) {
    if (cursor.empty()) return queue::Core::Place{0};
    const auto parts = split(cursor, '-');
    const auto started = parts.size() == 2 ? parse_number<std::int64_t>(parts[0]) : std::nullopt;
    const auto place = parts.size() == 2 ? parse_number<queue::Core::Place>(parts[1]) : std::nullopt;
    if (!started || !place) return fail(Errc::bad_input, "cursor: the one of an earlier answer is expected");
    if (*started != to_ms(machinery.started())) {
        return fail(Errc::bad_input, "cursor: the engine was started again since; begin without one");
    }
    return *place;
}

}  // namespace sluice::daemon
