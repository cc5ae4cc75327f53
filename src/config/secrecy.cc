#include "config/secrecy.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>

#include "config/schema.h"
#include "config/tls_files.h"

namespace sluice::config {
namespace {

namespace fs = std::filesystem;

// Whether a setting was given a value that nobody else should know. A next hop is secret only with a login in it.
bool holds_secret(const Setting& setting, const Sources& sources) {
    const bool route = setting.file == "relay_dest_domains.ini";
    for (const Value& value : sources.given(setting)) {
        if (!value.text.empty() && (!route || value.text.find('@') != std::string::npos)) return true;
    }
    return false;
}

void warn(const std::string& shown, const std::string& path, Problems& problems) {
    if (!readable_by_everybody(path)) return;
    problems.warning(
        shown, 0, "holds a secret and can be read by every user of this machine: expected a mode such as 0640"
    );
}

// The name as other problems show it: relative to the instance when it is inside.
std::string shown_path(const Settings& settings, const std::string& path) {
    const std::string inside = settings.directory + "/";
    return path.starts_with(inside) ? path.substr(inside.size()) : path;
}

}  // namespace

bool readable_by_everybody(const std::string& path) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    struct stat facts{};
    if (error || ::stat(real.c_str(), &facts) != 0 || (facts.st_mode & S_IROTH) == 0) return false;
    for (fs::path folder = real.parent_path();; folder = folder.parent_path()) {
        if (::stat(folder.c_str(), &facts) != 0 || (facts.st_mode & S_IXOTH) == 0) return false;
        if (folder == folder.root_path()) return true;
    }
}

std::vector<std::string> unreadable_files(const Settings& settings) {
    const std::string folder = settings.directory + "/config";
    std::set<std::string> files{folder};
    for (const auto& named : {files_of(settings.tls), files_of(settings.outbound_tls), {settings.dns.trust_anchor_file}}) {
        files.insert(named.begin(), named.end());
    }
    std::error_code error;
    fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied, error);
    for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
        if (!entry->path().filename().string().starts_with('.')) files.insert(entry->path().string());
    }
    std::vector<std::string> unreadable;
    for (const std::string& file : files) {
        if (::access(file.c_str(), R_OK) != 0 && errno == EACCES) unreadable.push_back(shown_path(settings, file));
    }
    return unreadable;
}

void warn_of_open_secrets(const Settings& settings, const Sources& sources, Problems& problems) {
    std::set<std::string> files;
    for (const Setting& setting : schema()) {
        if (setting.kind.secret && holds_secret(setting, sources)) files.insert(setting.file);
    }
    for (const std::string& file : files)
        warn(shown_name(file), settings.directory + "/config/" + file, problems);

    std::set<std::string> keys(settings.tls.keys.begin(), settings.tls.keys.end());
    if (!settings.outbound_tls.key.empty()) keys.insert(settings.outbound_tls.key);
    for (const std::string& key : keys)
        warn(shown_path(settings, key), key, problems);
}

}  // namespace sluice::config
