#pragma once

#include <atomic>

#include "config/settings.h"
#include "event/line_writer.h"
#include "event/log.h"

namespace sluice::event {

// Is shown lines when they are written, on the thread that writes. Quick, and writes no line itself. Thread-safe.
class LineListener {
public:
    virtual ~LineListener() = default;
    virtual bool listens() const = 0;  // asked for every line
    // `line` as it was written, without its end.
    virtual void hear(Level level, std::string_view session, std::string_view origin, std::string_view line) = 0;
};

// Writes log lines in one of Haraka's formats: "[LEVEL] [session] [origin] sentence key=value", logfmt or JSON.
// Control characters and terminal sequences are escaped: one record stays one line. Thread-safe.
class TextLog final : public Log {
public:
    TextLog(LineWriter& writer, const config::LogSettings& settings);
    // Level, format and timestamps change at once.
    void configure(const config::LogSettings& settings);
    // One at a time; null: nobody. The listener outlives whoever may be writing when it is taken away.
    void show_to(LineListener* listener) { listener_ = listener; }

    bool enabled(Level level) const override {
        return static_cast<int>(level) <= level_.load(std::memory_order_relaxed);
    }
    void write(
        Level level, std::string_view session, std::string_view origin, std::string_view sentence,
        std::initializer_list<Field> fields) override;

private:
    LineWriter& writer_;
    std::atomic<int> level_;
    std::atomic<config::LogFormat> format_;
    std::atomic<bool> timestamps_;
    std::atomic<LineListener*> listener_ = nullptr;
};

}  // namespace sluice::event
