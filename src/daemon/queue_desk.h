#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/backend.h"
#include "daemon/acceptance.h"
#include "queue/filter.h"

namespace sluice::daemon {

class Engine;

// What an operator sees of the queue and does to it: lists, single items, commands.
//
// However many items a question or command concerns, the core's thread looks at a bounded number in one go, so that mail does
// not wait for operators. A list or a command therefore sees the queue over some time: each item that stays in it exactly
// once, those that come or go meanwhile perhaps.
// Lives on the control shard.
class QueueDesk {
public:
    QueueDesk(Engine& engine, async::Executor executor, SpoolAcceptance& acceptance);

    Task<Result<control::ItemPage>> list(control::ItemFilter filter);
    Task<Result<control::ItemDetail>> show(ItemId id);
    // Returns when what was done is durable, with the number of items.
    Task<Result<std::uint64_t>> command(control::Command command, queue::Selection which);
    // Whatever is under way ends soon.
    void close() { closing_ = true; }

private:
    using Place = queue::Core::Place;
    // An item as the core knows it.
    struct Known {
        control::ItemDetail item;
        std::vector<std::uint32_t> pending;  // as Core::pending()
    };
    struct Stretch {
        std::vector<Known> items;
        std::optional<Place> next;
    };

    // What a list shows.
    struct Wanted {
        control::ItemFilter filter;
        queue::Filter where;
        bool asks_messages() const { return !filter.sender.empty() || !filter.recipient.empty() || where.needs_message(); }
    };

    Task<Stretch> known_items(const Wanted& wanted, Place from, std::size_t count_max);
    // Adds what the messages say and leaves out those that are not wanted for what they say. Ends with the first ones.
    Task<> read_messages(std::vector<Known> known, const Wanted& wanted, std::vector<control::ItemDetail>& into);
    Task<Result<std::uint64_t>> command_one(control::Command command, queue::Selection which);
    Task<Result<>> done();

    Engine& engine_;
    async::Executor executor_;
    SpoolAcceptance& acceptance_;
    bool closing_ = false;
};

}  // namespace sluice::daemon
