#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/file_journal.h"
#include "spool/ledger.h"
#include "spool/spool.h"

namespace sluice::spool {

// Turns the facts of all segments, oldest first, into a ledger and the list of undecided items. Holds the
// indexes in memory until items are told. Single-threaded; borrows the ledger and the report.
class Recovery {
public:
    Recovery(Ledger& ledger, RecoveryReport& report) : ledger_(ledger), report_(report) {}

    Result<> take(FileJournal::Found found);
    // Tells every item with a recipient without outcome, in the order of acceptance as far as copies left it,
    // and completes the report.
    void tell(const std::function<void(const RecoveredItem&)>& on_item);

private:
    // Reads the facts of one index, some facts ahead of those that are worked on. With a million messages in hash maps
    // nearly all the time goes into waiting for memory; so that waiting happens side by side.
    class Facts;

    void keep_latest(const Fact& fact);
    void keep_schedule(const ItemId& item, std::string_view body);
    std::optional<ScheduleView> latest_schedule(const ItemId& item, Index row) const;
    void tell_message(
        std::uint32_t segment, const Fact& fact, const std::function<void(const RecoveredItem&)>& on_item
    );

    Ledger& ledger_;
    RecoveryReport& report_;
    std::vector<FileJournal::Found> segments_;
    // Bodies of the latest schedules, in segments_. Nearly all are of the first item of a message that the ledger knows, and
    // stand at its row there: one place to look for instead of two. What an earlier message of the row left is told by its id.
    std::vector<std::string_view> first_schedules_;
    absl::flat_hash_map<ItemId, std::string_view> schedules_;  // others
    absl::flat_hash_set<ItemId> held_;
    absl::flat_hash_map<ItemId, std::string_view> changes_;  // of the latest holds, in segments_
    absl::flat_hash_map<std::string_view, std::string_view> policies_;
    MessageSummary summary_;
    std::vector<std::uint32_t> pending_;
};

}  // namespace sluice::spool
