#include "daemon/bulk_desk.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <utility>

#include "async/blocking.h"
#include "daemon/core_question.h"
#include "daemon/filtering.h"

namespace sluice::daemon {
namespace {

constexpr std::size_t items_at_once = 1'000;
constexpr std::size_t running_max = 8;
constexpr std::size_t remembered_max = 100;
constexpr std::chrono::milliseconds poll{2};

}  // namespace

Result<control::Job> BulkDesk::start(control::BulkRequest request, queue::Filter filter, std::uint64_t matched) {
    const auto running = [](const WorkPtr& work) { return work->job.state == control::Job::State::running; };
    if (closing_) return fail(Errc::cancelled, "the engine stops");
    if (static_cast<std::size_t>(std::count_if(works_.begin(), works_.end(), running)) >= running_max) {
        return fail(Errc::bad_input, "action: " + std::to_string(running_max) + " jobs are running already; wait for one of them");
    }
    const auto work = std::make_shared<Work>();
    work->job.id = ++last_id_;
    work->job.command = request.command;
    work->job.where = request.where;
    work->job.matched = matched;
    work->job.started_ms = wall_clock_ms();
    work->request = std::move(request);
    work->filter = std::move(filter);
    works_.push_front(work);
    if (works_.size() > remembered_max && !running(works_.back())) works_.pop_back();
    tasks_.spawn(run(work));
    return work->job;
}

std::vector<control::Job> BulkDesk::jobs() const {
    std::vector<control::Job> jobs;
    for (const WorkPtr& work : works_) jobs.push_back(work->job);
    return jobs;
}

Result<control::Job> BulkDesk::cancel(std::uint64_t id) {
    for (const WorkPtr& work : works_) {
        if (work->job.id != id || work->job.state != control::Job::State::running) continue;
        work->cancelled = true;
        return work->job;
    }
    return fail(Errc::not_found, "no such job is running");
}

Task<> BulkDesk::close() {
    closing_ = true;
    co_await tasks_.close();
}

Task<> BulkDesk::run(WorkPtr work) {
    const Result<> outcome = co_await carry_out(*work);
    control::Job& job = work->job;
    job.state = work->cancelled ? control::Job::State::cancelled : control::Job::State::done;
    if (!outcome) {
        job.state = control::Job::State::failed;
        job.problem = outcome.error().text();
    }
    job.ended_ms = wall_clock_ms();
}

Task<Result<>> BulkDesk::carry_out(Work& work) {
    std::optional<Place> next = Place{0};
    while (next && !work.cancelled) {
        if (closing_) co_return fail(Errc::cancelled, "the engine stops");
        Portion portion = co_await choose(work, *next);
        next = portion.next;
        if (portion.items.empty()) continue;
        std::vector<queue::Event> events;
        events.reserve(portion.items.size());
        for (const ItemId id : portion.items) events.push_back(event_of(work.request.command, id, work.request));
        machinery_.core().push_all(events);
        if (work.request.command == control::Command::bounce) co_await told(portion.at_rest);
        CO_TRY_VOID(co_await done());
        work.job.done += portion.items.size();
    }
    co_return Result<>();
}

// The next items that are concerned, from a place on.
Task<BulkDesk::Portion> BulkDesk::choose(const Work& work, Place from) {
    std::function<Portion(const queue::Core&)> question = [&work, from](const queue::Core& core) {
        Portion portion;
        portion.next = core.select(work.filter, from, places_at_once, [&](const queue::ItemView& item) {
            if (!concerned(item, work.request.command)) return true;
            portion.items.push_back(item.id);
            if (item.state != queue::ItemState::sending) portion.at_rest.push_back(item.id);
            return portion.items.size() < items_at_once;
        });
        return portion;
    };
    Portion portion = co_await ask<Portion>(machinery_.core(), executor_, std::move(question));
    if (!work.filter.needs_message()) co_return portion;
    portion.items = co_await passing_messages(machinery_, executor_, std::move(portion.items), work.filter);
    const absl::flat_hash_set<ItemId> passing(portion.items.begin(), portion.items.end());
    std::erase_if(portion.at_rest, [&](ItemId id) { return !passing.contains(id); });
    co_return portion;
}

// Waits until all of these have left the queue: their senders have been told then.
Task<> BulkDesk::told(const std::vector<ItemId>& concluded) {
    bool waiting = true;
    while (waiting && !closing_) {
        std::function<bool(const queue::Core&)> question = [&concluded](const queue::Core& core) {
            return std::any_of(concluded.begin(), concluded.end(), [&](ItemId id) {
                const auto item = core.find(id);
                return item && item->state == queue::ItemState::sending;
            });
        };
        waiting = co_await ask<bool>(machinery_.core(), executor_, std::move(question));
        if (!waiting) co_return;
        const bool slept = co_await async::sleep_for(poll);
        if (!slept) co_return;
    }
}

// What was pushed before has been taken by the core, and after a crash would not be undone. Removals may wait for the disk to name
// their recipients.
Task<Result<>> BulkDesk::done() {
    std::function<bool(const queue::Core&)> barrier = [](const queue::Core&) { return true; };
    co_await ask<bool>(machinery_.core(), executor_, std::move(barrier));
    bool slept = true;
    while (slept && machinery_.removals_under_way() > 0) slept = co_await async::sleep_for(poll);
    co_return co_await acceptance_.durable();
}

}  // namespace sluice::daemon
