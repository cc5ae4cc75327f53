#include "base/problem.h"

#include <algorithm>

#include "base/text.h"

namespace sluice {
namespace {

// What stands twice stands near; a file may be wrong on each of a million lines.
constexpr std::ptrdiff_t looked_back_at = 64;

}  // namespace

std::string Problem::text() const {
    std::string out = severity == Severity::error ? "error: " : "warning: ";
    out += file;
    if (line > 0) out += ":" + std::to_string(line);
    out += ": " + message;
    if (!suggestion.empty()) out += " (did you mean `" + suggestion + "`?)";
    return printable(out);  // it quotes the file
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
    const auto from = all_.end() - std::min(std::ssize(all_), looked_back_at);
    if (std::find(from, all_.end(), problem) == all_.end()) all_.push_back(std::move(problem));
}

}  // namespace sluice
