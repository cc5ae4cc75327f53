#pragma once

#include <string>
#include <vector>

#include "async/task.h"
#include "control/backend.h"
#include "daemon/machinery.h"
#include "queue/views.h"

namespace sluice::daemon {

// Answers questions about the whole queue: counts, buckets, and why something stands where it does. The core looks at a bounded number
// of items or buckets in one go, as for the QueueDesk. Lives on the control shard.
class SurveyDesk {
public:
    SurveyDesk(Machinery& machinery, async::Executor executor) : machinery_(machinery), executor_(executor) {}

    Task<Result<control::SurveyReport>> survey(control::SurveyRequest request);
    Task<Result<control::BucketPage>> buckets(control::BucketFilter filter);
    Task<Result<std::vector<control::Explained>>> explain(std::string what, config::SettingsPtr settings);
    // How many items a command would concern.
    Task<Result<std::uint64_t>> count(control::BulkRequest request);
    void close() { closing_ = true; }

private:
    using Place = queue::Core::Place;
    class Sum;

    control::WallTime time() const;
    Task<Result<>> add_up(const queue::Survey& survey, Sum& sum);
    Task<std::optional<Place>> add_read(const queue::Survey& survey, Place from, Sum& sum);
    Task<std::optional<control::Explained>> explain_item(ItemId id, config::SettingsPtr settings);
    Task<Result<control::Explained>> explain_bucket(std::string name);
    Task<std::optional<control::Explained>> explain_domain(std::string domain);
    Task<std::uint32_t> items_of(MessageId message);

    Machinery& machinery_;
    async::Executor executor_;
    bool closing_ = false;
};

}  // namespace sluice::daemon
