#include "daemon/import_marks.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "base/crc32c.h"
#include "daemon/import_folder.h"

namespace sluice::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "import:";

// The file is gone, and its folder is there and says so for good. `synced`: folders that were found so before.
bool gone_for_good(const std::string& path, std::set<std::string>& synced) {
    std::error_code error;
    const fs::file_status status = fs::symlink_status(path, error);
    if (status.type() != fs::file_type::not_found) return false;
    const std::string parent = fs::path(path).parent_path().string();
    if (synced.contains(parent)) return true;
    Result<ImportFolder> folder = ImportFolder::open(parent, false);
    if (!folder || !folder->sync()) return false;
    synced.insert(parent);
    return true;
}

}  // namespace

std::string ImportMarks::name_of(const haraka::FileName& name, std::string_view bytes) {
    return name.identity + " " + std::to_string(bytes.size()) + " " + std::to_string(crc32c(bytes));
}

void ImportMarks::recover(const std::vector<spool::PolicyRecord>& records, spool::Batch& erasures) {
    std::set<std::string> synced;
    for (const spool::PolicyRecord& record : records) {
        if (!record.key.starts_with(prefix)) continue;
        const std::string mark = record.key.substr(prefix.size());
        const std::size_t blank = record.value.find(' ');
        marks_[mark] = blank == std::string::npos ? std::string() : record.value.substr(blank + 1);
        if (gone_for_good(marks_[mark], synced)) erase(mark, erasures);
    }
}

void ImportMarks::add(const std::string& mark, MessageId message, const std::string& path, spool::Batch& batch) {
    marks_[mark] = path;
    batch.emplace_back(spool::PolicyRecord{std::string(prefix) + mark, message.text() + " " + path});
}

void ImportMarks::erase(const std::string& mark, spool::Batch& batch) {
    marks_.erase(mark);
    batch.emplace_back(spool::PolicyRecord{std::string(prefix) + mark, {}});
}

}  // namespace sluice::daemon
