#pragma once

#include <absl/container/flat_hash_map.h>

#include "async/mailbox.h"
#include "queue/core.h"
#include "spool/spool.h"

namespace sluice::delivery {

class CoreInbox;

// Queues a notification once it is durable, together with the outcomes that it tells of: one that went out before its
// record was synced would be sent again after a crash. expect() and the admissions on the shard, committed() on the
// spool's writer; the spool keeps the batch until the disk takes it.
class DsnAdmission final : public spool::CommitListener {
public:
    DsnAdmission(async::Executor executor, CoreInbox& core);

    // The ticket to append the batch with.
    std::uint64_t expect(queue::Admit admit);

    void committed(std::span<spool::Committed> commits) override;
    bool repeats() const override { return false; }

private:
    void admit(const std::vector<std::uint64_t>& tickets);

    CoreInbox& core_;
    async::Mailbox<std::uint64_t> durable_;
    absl::flat_hash_map<std::uint64_t, queue::Admit> expected_;
    std::uint64_t last_ticket_ = 0;
};

}  // namespace sluice::delivery
