#include "event/text_log.h"

#include <array>

#include "base/clock.h"
#include "base/text.h"

namespace sluice::event {
namespace {

constexpr std::array<std::string_view, 10> level_names = {"EMERG", "ALERT",  "CRIT", "ERROR",    "WARN",
                                                          "NOTICE", "INFO", "DEBUG", "PROTOCOL", "DATA"};

void append_value(std::string& out, std::string_view value) {
    const std::string safe = printable(value);
    if (!safe.empty() && safe.find_first_of(" =\"\\") == std::string::npos) {
        out += safe;
        return;
    }
    out += '"';
    for (const char c : safe) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    out += '"';
}

void append_pair(std::string& out, std::string_view key, std::string_view value) {
    out += ' ';
    out += key;
    out += '=';
    append_value(out, value);
}

void append_json_pair(std::string& out, std::string_view key, std::string_view value) {
    if (out.size() > 1) out += ',';
    out += '"';
    append_json_escaped(out, key);
    out += "\":\"";
    append_json_escaped(out, value);
    out += '"';
}

}  // namespace

TextLog::TextLog(LineWriter& writer, const config::LogSettings& settings)
    : writer_(writer), level_(settings.level), format_(settings.format), timestamps_(settings.timestamps) {}

void TextLog::configure(const config::LogSettings& settings) {
    level_ = settings.level;
    format_ = settings.format;
    timestamps_ = settings.timestamps;
}

void TextLog::write(
    Level level, std::string_view session, std::string_view origin, std::string_view sentence,
    std::initializer_list<Field> fields) {
    const std::string_view name = level_names[static_cast<std::size_t>(level)];
    if (session.empty()) session = "-";
    std::string line;
    line.reserve(256);
    switch (format_.load()) {
        case config::LogFormat::standard:
            if (timestamps_) line.append(rfc3339(wall_clock_ms())).append(" ");
            line.append("[").append(name).append("] [").append(session).append("] [").append(origin).append("] ");
            line += printable(sentence);
            for (const Field& field : fields) append_pair(line, field.key, field.value);
            break;
        case config::LogFormat::logfmt:
            line.append("level=").append(name);
            if (timestamps_) append_pair(line, "timestamp", rfc3339(wall_clock_ms()));
            append_pair(line, "uuid", session);
            append_pair(line, "source", origin);
            append_pair(line, "message", sentence);
            for (const Field& field : fields) append_pair(line, field.key, field.value);
            break;
        case config::LogFormat::json:
            line += '{';
            append_json_pair(line, "level", name);
            if (timestamps_) append_json_pair(line, "timestamp", rfc3339(wall_clock_ms()));
            append_json_pair(line, "uuid", session);
            append_json_pair(line, "source", origin);
            append_json_pair(line, "message", sentence);
            for (const Field& field : fields) append_json_pair(line, field.key, field.value);
            line += '}';
            break;
    }
    if (LineListener* listener = listener_.load(std::memory_order_acquire); listener != nullptr && listener->listens()) {
        listener->hear(level, session, origin, line);
    }
    line += '\n';
    writer_.append(line);
}

}  // namespace sluice::event
