#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "config/watch.h"

namespace sluice::daemon {

// Where other threads ask the thread that owns the config::Watch to read the files again: it alone loads and applies settings, so
// that an older load never overtakes a newer one, and the files are compared with what is in force.
class ReloadDesk {
public:
    // What came of it; nothing when the engine stops.
    using Done = std::function<void(const std::optional<config::Reload>&)>;

    ReloadDesk();
    ~ReloadDesk();
    ReloadDesk(const ReloadDesk&) = delete;
    ReloadDesk& operator=(const ReloadDesk&) = delete;

    // From any thread. `done` is called by that thread, or by this one when nobody reloads any more; it must not wait.
    void ask(Done done);
    // Readable while somebody has asked and was not answered.
    int fd() const { return event_; }
    // On the watching thread: one reload for all who have asked before it.
    void answer(config::Watch& watch);
    // Whoever waits is told that nothing comes, and so is who asks later.
    void close();

private:
    std::vector<Done> take(bool close);

    int event_;
    std::mutex mutex_;
    std::vector<Done> waiting_;
    bool closed_ = false;
};

}  // namespace sluice::daemon
