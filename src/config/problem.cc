#include "config/problem.h"

namespace sluice::config {

std::string Problem::text() const {
    std::string out = severity == Severity::error ? "error: " : "warning: ";
    out += file;
    if (line > 0) out += ":" + std::to_string(line);
    out += ": " + message;
    if (!suggestion.empty()) out += " (did you mean `" + suggestion + "`?)";
    return out;
}

void Problems::error(std::string file, int line, std::string message, std::string suggestion) {
    all_.push_back({Severity::error, std::move(file), line, std::move(message), std::move(suggestion)});
    any_error_ = true;
}

void Problems::warning(std::string file, int line, std::string message, std::string suggestion) {
    all_.push_back({Severity::warning, std::move(file), line, std::move(message), std::move(suggestion)});
}

}  // namespace sluice::config
