#include "base/problem.h"

#include <algorithm>

namespace sluice {

std::string Problem::text() const {
    std::string out = severity == Severity::error ? "error: " : "warning: ";
    out += file;
    if (line > 0) out += ":" + std::to_string(line);
    out += ": " + message;
    if (!suggestion.empty()) out += " (did you mean `" + suggestion + "`?)";
    return out;
}

void Problems::error(std::string file, int line, std::string message, std::string suggestion) {
    add({Severity::error, std::move(file), line, std::move(message), std::move(suggestion)});
    any_error_ = true;
}

void Problems::warning(std::string file, int line, std::string message, std::string suggestion) {
    add({Severity::warning, std::move(file), line, std::move(message), std::move(suggestion)});
}

void Problems::add(Problem problem) {
    // A key that two settings read, as those of tls.ini, is worth one line.
    if (std::find(all_.begin(), all_.end(), problem) == all_.end()) all_.push_back(std::move(problem));
}

}  // namespace sluice
