#pragma once

#include <boost/json/value.hpp>
#include <string>

#include "base/result.h"
#include "cli/api_client.h"

namespace sluice::cli {

inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_not_found = 3;
inline constexpr int exit_unavailable = 69;
inline constexpr int exit_config = 78;

// What every command knows: the options given before or after it.
struct Session {
    std::string directory;  // -c DIR, or SLUICE_DIR
    bool json = false;
    bool show_requests = false;
    int exit_code = 0;

    ApiClient client() const { return ApiClient(directory, show_requests); }
    // Prints the sentence and remembers the exit code that says what kind of failure it was.
    void fail_with(const Error& error);
    // The value as one line of JSON.
    static void print_json(const boost::json::value& value);
};

}  // namespace sluice::cli
