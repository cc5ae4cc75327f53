#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sluice::event {

// Haraka's levels and numbers.
enum class Level : std::uint8_t { emerg = 0, alert, crit, error, warn, notice, info, debug, protocol, data };

// One key=value of a log line. Numbers convert.
struct Field {
    std::string_view key;
    std::string value;
    Field(std::string_view key_, std::string_view value_) : key(key_), value(value_) {}
    Field(std::string_view key_, const char* value_) : key(key_), value(value_) {}
    Field(std::string_view key_, std::string value_) : key(key_), value(std::move(value_)) {}
    template <class Number>
        requires std::is_arithmetic_v<Number>
    Field(std::string_view key_, Number number) : key(key_), value(std::to_string(number)) {}
};

// Diagnostic lines for people: a constant sentence and structured fields. error = somebody must act (and fails any
// test run); warn = unusual and handled; notice = one line a mail, as Haraka; info = lifecycle; protocol = dialogue,
// secrets redacted. Thread-safe; never blocks on a slow reader: lines beyond a bound are dropped and counted.
class Log {
public:
    virtual ~Log() = default;
    virtual bool enabled(Level level) const = 0;
    // `session`: uuid or "" ; `origin`: "core", "outbound", a plugin's name.
    virtual void write(
        Level level, std::string_view session, std::string_view origin, std::string_view sentence,
        std::initializer_list<Field> fields) = 0;

    void error(std::string_view origin, std::string_view sentence, std::initializer_list<Field> fields = {}) {
        if (enabled(Level::error)) write(Level::error, {}, origin, sentence, fields);
    }
    void warn(std::string_view origin, std::string_view sentence, std::initializer_list<Field> fields = {}) {
        if (enabled(Level::warn)) write(Level::warn, {}, origin, sentence, fields);
    }
    void notice(std::string_view origin, std::string_view sentence, std::initializer_list<Field> fields = {}) {
        if (enabled(Level::notice)) write(Level::notice, {}, origin, sentence, fields);
    }
    void info(std::string_view origin, std::string_view sentence, std::initializer_list<Field> fields = {}) {
        if (enabled(Level::info)) write(Level::info, {}, origin, sentence, fields);
    }
};

}  // namespace sluice::event
