#pragma once

#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "control/backend.h"
#include "daemon/machinery.h"
#include "mail/message.h"
#include "queue/filter.h"

// What desks have in common: how they select items, and in what portions.
namespace sluice::daemon {

// What the core does in one go: look at so many places. A few milliseconds.
inline constexpr std::uint32_t places_at_once = 50'000;
// Messages are read from disk so many in one go.
inline constexpr std::size_t loaded_at_once = 64;

const char* name_of(queue::ItemState state);
control::ItemDetail detail_of(const queue::ItemView& view, const Clock& clock);
// Whether a command changes anything for an item.
bool concerned(const queue::ItemView& item, control::Command command);
queue::Event event_of(control::Command command, ItemId item, const control::BulkRequest& request = {});

// Reads a filter, with the fields of the policies in force. bad_input: "NAME: sentence".
Task<Result<queue::Filter>> read_filter(Machinery& machinery, async::Executor executor, std::string where);
// What the message says is as the filter asks.
bool message_passes(const mail::Message& message, ItemId id, const queue::Filter& filter);
// Those of the items whose messages pass; reads these from disk. What cannot be read does not pass.
Task<std::vector<ItemId>> passing_messages(
    Machinery& machinery, async::Executor executor, std::vector<ItemId> items, const queue::Filter& filter);

// Places mean something to the running engine only: a cursor names its start.
std::string cursor_of(queue::Core::Place place, const Machinery& machinery);
Result<queue::Core::Place> place_of(const std::string& cursor, const Machinery& machinery);

}  // namespace sluice::daemon
