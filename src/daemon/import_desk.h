#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "async/guarded.h"
#include "control/backend.h"
#include "daemon/queue_import.h"

namespace sluice::daemon {

class Engine;

// Takes over queues of other engines, one at a time, on a thread of its own. Lives on the control shard; close() after that has stopped.
class ImportDesk {
public:
    explicit ImportDesk(Engine& engine);
    ~ImportDesk();

    // At start: what a Haraka left in the instance's own queue directory, if there is anything.
    void import_own();
    // bad_input: "directory: sentence".
    Result<control::Import> start(control::ImportRequest request);
    std::optional<control::Import> last() const;
    // not_found: none is running.
    Result<control::Import> cancel();
    // Ends the one that is running.
    void close();

private:
    bool is_running() const;
    void begin(control::ImportRequest request, bool own);
    void run(QueueImport& import, bool own);

    Engine& engine_;
    ImportTarget target_;
    ImportMarks marks_;  // of the thread, while there is one
    std::unique_ptr<QueueImport> import_;
    async::Guarded<std::optional<control::Import>> last_;
    std::thread thread_;
};

}  // namespace sluice::daemon
