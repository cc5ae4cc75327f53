#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "async/task_group.h"
#include "control/backend.h"
#include "daemon/acceptance.h"
#include "daemon/machinery.h"
#include "queue/filter.h"

namespace sluice::daemon {

// Carries out commands on all items that a filter selects, in portions that the core hardly notices. A job counts an item as done when what
// was done to it is durable; a crash leaves each item either done or untouched, and forgets the job. Items that are being sent are
// dealt with when their attempt ends.
// Lives on the control shard.
class BulkDesk {
public:
    BulkDesk(Machinery& machinery, async::Executor executor, SpoolAcceptance& acceptance)
        : machinery_(machinery), executor_(executor), acceptance_(acceptance), tasks_(executor) {}

    // `matched`: how many items the request concerns now.
    Result<control::Job> start(control::BulkRequest request, queue::Filter filter, std::uint64_t matched);
    // The newest first.
    std::vector<control::Job> jobs() const;
    // not_found: no such job, or it is over.
    Result<control::Job> cancel(std::uint64_t id);
    Task<> close();

private:
    using Place = queue::Core::Place;
    struct Work {
        control::Job job;
        control::BulkRequest request;
        queue::Filter filter;
        bool cancelled = false;
    };
    struct Portion {
        std::vector<ItemId> items;
        std::vector<ItemId> at_rest;  // of these, not being sent
        std::optional<Place> next;
    };
    using WorkPtr = std::shared_ptr<Work>;

    Task<> run(WorkPtr work);
    Task<Result<>> carry_out(Work& work);
    Task<Portion> choose(const Work& work, Place from);
    Task<> told(const std::vector<ItemId>& concluded);
    Task<Result<>> done();

    Machinery& machinery_;
    async::Executor executor_;
    SpoolAcceptance& acceptance_;
    std::deque<WorkPtr> works_;
    std::uint64_t last_id_ = 0;
    bool closing_ = false;
    async::TaskGroup tasks_;
};

}  // namespace sluice::daemon
