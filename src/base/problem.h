#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice {

enum class Severity { error, warning };

// What is wrong with a file of an instance directory, in words for the person who wrote it. Value.
// An error keeps the settings from being used; a warning says what was assumed instead.
struct Problem {
    Severity severity = Severity::error;
    std::string file;        // relative to the instance directory, e.g. "config/outbound.ini"
    int line = 0;            // from 1; 0: the file as a whole
    std::string message;     // what was found and what was expected
    std::string suggestion;  // the key or name that was probably meant; may be empty

    // "error: config/outbound.ini:3: ... (did you mean `concurrency_max`?)"
    std::string text() const;
    friend bool operator==(const Problem&, const Problem&) = default;
};

// Gathers problems, all of them rather than the first, each once, in the order in which they were found.
class Problems {
public:
    void error(std::string file, int line, std::string message, std::string suggestion = {});
    void warning(std::string file, int line, std::string message, std::string suggestion = {});
    bool any_error() const { return any_error_; }
    const std::vector<Problem>& all() const { return all_; }
    std::vector<Problem> take() { return std::move(all_); }

private:
    void add(Problem problem);

    std::vector<Problem> all_;
    bool any_error_ = false;
};

}  // namespace sluice
