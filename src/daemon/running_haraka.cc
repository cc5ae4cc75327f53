#include "daemon/running_haraka.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/text.h"
#include "config/lines.h"
#include "config/sources.h"

namespace sluice::daemon {
namespace {

namespace fs = std::filesystem;

// Nothing of a file of a process that has ended meanwhile.
std::string text_of(const fs::path& file) {
    constexpr std::size_t bytes_max = 4 << 20;
    return config::read_text(file.string(), bytes_max).value_or(std::nullopt).value_or("");
}

std::vector<std::string> command_line(const fs::path& process) {
    const std::string text = text_of(process / "cmdline");
    std::vector<std::string> words;
    for (const std::string_view word : split(text, '\0')) {
        if (!word.empty()) words.emplace_back(word);
    }
    return words;
}

bool is_haraka_script(const std::string& word) {
    const std::string name = fs::path(word).filename().string();
    return name == "haraka" || name == "haraka.js";
}

// The plugin process_title makes one line of it that begins so.
bool has_haraka_title(const std::vector<std::string>& words) { return istarts_with(words.front(), "Haraka"); }

bool is_node(const std::vector<std::string>& words) {
    const std::string name = fs::path(words.front()).filename().string();
    return name == "node" || name == "nodejs";
}

// What `-c DIR` names, from the process's own point of view.
std::optional<fs::path> instance_of(const fs::path& process, const std::vector<std::string>& words) {
    std::string named;
    for (std::size_t at = 0; at < words.size(); ++at) {
        const std::string& word = words[at];
        const bool apart = word == "-c" || word == "--configs";
        if (apart && at + 1 < words.size()) named = words[at + 1];
        for (const std::string_view prefix : {"--configs=", "-c="}) {
            if (word.starts_with(prefix)) named = word.substr(prefix.size());
        }
    }
    if (named.empty()) return std::nullopt;
    std::error_code error;
    const fs::path from = fs::read_symlink(process / "cwd", error);
    if (error && !named.starts_with('/')) return std::nullopt;
    return from / named;  // a full path stands for itself
}

// `queue_dir` counts from where the process stands.
fs::path queue_of(const fs::path& process, const fs::path& instance) {
    const config::Values values = config::parse_value(text_of(instance / "config" / "queue_dir"));
    if (values.empty()) return instance / "queue";
    std::error_code error;
    return fs::read_symlink(process / "cwd", error) / fs::path(values.front().text);
}

bool works_on(const fs::path& process, const std::string& queue_directory) {
    const std::vector<std::string> words = command_line(process);
    if (words.empty() || std::none_of(words.begin(), words.end(), is_haraka_script)) return false;
    const auto instance = instance_of(process, words);
    std::error_code error;
    return instance && fs::equivalent(queue_of(process, *instance), queue_directory, error) && !error;
}

// The plugin host is a Node, too, and ids come again: in a container even the same ones.
bool is_our_child(const fs::path& process) {
    const std::string text = text_of(process / "stat");
    // "id (name) state parent ...", where the name may contain anything.
    const std::size_t end = text.rfind(')');
    const std::vector<std::string_view> words = split(std::string_view(text).substr(end == std::string::npos ? text.size() : end), ' ');
    return words.size() > 2 && parse_number<std::int64_t>(words[2]) == ::getpid();
}

bool may_be_owner(const fs::path& process) {
    const std::vector<std::string> words = command_line(process);
    return !words.empty() && (has_haraka_title(words) || is_node(words) || std::any_of(words.begin(), words.end(), is_haraka_script));
}

}  // namespace

std::optional<std::int64_t> running_haraka(const std::string& queue_directory, const std::set<std::int64_t>& owners) {
    std::error_code error;
    for (auto at = fs::directory_iterator("/proc", error); !error && at != fs::directory_iterator(); at.increment(error)) {
        const auto id = parse_number<std::int64_t>(at->path().filename().string());
        if (!id || *id == ::getpid() || is_our_child(at->path())) continue;
        if (works_on(at->path(), queue_directory) || (owners.contains(*id) && may_be_owner(at->path()))) return id;
    }
    return std::nullopt;
}

std::string haraka_host_name() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0) return {};
    return name.data();
}

}  // namespace sluice::daemon
