#pragma once

#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>

#include "event/events.h"
#include "event/log.h"

// What tests of several folders share.
namespace sluice::event {

// Records nothing; a test overrides what it wants to see.
class SilentRecorder : public Recorder {
public:
    void record(const Accepted&) override {}
    void record(const Refused&) override {}
    void record(const Delivered&) override {}
    void record(const Deferred&) override {}
    void record(const Bounced&) override {}
    void record(const Expired&) override {}
    void record(const Removed&) override {}
    void record(const PossibleDuplicate&) override {}
    void record(const PolicyChanged&) override {}
};

// Remembers lines: "LEVEL origin: sentence key=value", the level as a number. Thread-safe.
class LinesLog final : public Log {
public:
    bool enabled(Level) const override { return true; }
    void write(
        Level level, std::string_view, std::string_view origin, std::string_view sentence,
        std::initializer_list<Field> fields) override {
        std::string line = std::to_string(static_cast<int>(level)) + " " + std::string(origin) + ": " + std::string(sentence);
        for (const Field& field : fields) line += " " + std::string(field.key) + "=" + field.value;
        const std::lock_guard lock(mutex_);
        lines_ += line + "\n";
    }
    std::string text() const {
        const std::lock_guard lock(mutex_);
        return lines_;
    }

private:
    mutable std::mutex mutex_;
    std::string lines_;
};

}  // namespace sluice::event
