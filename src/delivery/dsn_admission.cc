#include "delivery/dsn_admission.h"

#include <utility>

#include "base/assert.h"
#include "delivery/courier.h"

namespace sluice::delivery {

DsnAdmission::DsnAdmission(async::Executor executor, CoreInbox& core)
    : core_(core), durable_(executor, [this](std::vector<std::uint64_t>& tickets) { admit(tickets); }) {}

std::uint64_t DsnAdmission::expect(queue::Admit admit) {
    expected_.emplace(++last_ticket_, std::move(admit));
    return last_ticket_;
}

void DsnAdmission::committed(std::span<spool::Committed> commits) {
    std::vector<std::uint64_t> tickets;
    for (const spool::Committed& commit : commits) {
        if (commit.result) tickets.push_back(commit.ticket);
    }
    durable_.push_all(tickets);
}

void DsnAdmission::admit(const std::vector<std::uint64_t>& tickets) {
    for (const std::uint64_t ticket : tickets) {
        const auto found = expected_.find(ticket);
        ASSERT(found != expected_.end());
        queue::Admit admit = std::move(found->second);
        expected_.erase(found);
        core_.push(std::move(admit));
    }
}

}  // namespace sluice::delivery
