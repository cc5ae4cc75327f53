#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "event/text_log.h"

namespace sluice::plugin {

// Shows log lines to plugins that have a `log` hook; while there is none, a line costs one more load. What plugins logged
// themselves they have seen already. Thread-safe.
class LogTap final : public event::LineListener {
public:
    // `tell` takes a message for the host, on any thread.
    explicit LogTap(std::function<void(std::string)> tell) : tell_(std::move(tell)) {}

    void open(bool open) { open_ = open; }
    bool listens() const override { return open_.load(std::memory_order_relaxed); }
    void hear(
        event::Level level, std::string_view session, std::string_view origin, std::string_view line) override;

    // While it lives, what this thread logs comes from plugins.
    class FromPlugins {
    public:
        FromPlugins();
        ~FromPlugins();
        FromPlugins(const FromPlugins&) = delete;
        FromPlugins& operator=(const FromPlugins&) = delete;
    };

private:
    const std::function<void(std::string)> tell_;
    std::atomic<bool> open_ = false;
};

}  // namespace sluice::plugin
