#include "plugin/fingerprint.h"

#include <filesystem>
#include <functional>
#include <system_error>

namespace sluice::plugin {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t entries_max = 5'000;

bool is_of_interest(const std::string& name) {
    return !name.starts_with('.') && !name.starts_with('#') && !name.ends_with('~') && name != "node_modules";
}

}  // namespace

std::uint64_t fingerprint_of(const std::string& folder) {
    std::uint64_t print = 0;
    std::size_t entries = 0;
    std::error_code error;
    // Links are followed: plugins are often kept elsewhere.
    constexpr auto options = fs::directory_options::skip_permission_denied | fs::directory_options::follow_directory_symlink;
    fs::recursive_directory_iterator at(folder, options, error);
    for (const fs::recursive_directory_iterator end; !error && at != end && ++entries <= entries_max; at.increment(error)) {
        std::error_code gone;
        if (!is_of_interest(at->path().filename().string())) {
            at.disable_recursion_pending();
            continue;
        }
        if (!fs::is_regular_file(at->path(), gone)) continue;
        const std::string file = at->path().string() + '\0' + std::to_string(fs::file_size(at->path(), gone)) + '\0' +
                                 std::to_string(fs::last_write_time(at->path(), gone).time_since_epoch().count());
        // Whatever the order in which the files come.
        print += std::hash<std::string>()(file);
    }
    return print;
}

}  // namespace sluice::plugin
