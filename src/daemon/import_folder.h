#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::daemon {

// What identifies the contents of a file without reading them. Value.
struct FileStamp {
    std::uint64_t device = 0, inode = 0, size = 0;
    std::int64_t changed_ns = 0;
    friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

struct ReadFile {
    std::string bytes;
    FileStamp stamp;
};

// A directory whose files are taken away one by one, by their names within it, whatever becomes of its path meanwhile. Errors name
// the file. Not thread-safe.
class ImportFolder {
public:
    // bad_input: there is no such directory, or nobody lets us read it; with `removes`, or remove files from it.
    static Result<ImportFolder> open(const std::string& path, bool removes);
    ImportFolder(ImportFolder&& other) noexcept;
    ~ImportFolder();

    const std::string& path() const { return path_; }
    // Tells every name until `each` returns false; files may be removed meanwhile, and perhaps some are told twice or not at all then.
    Result<> each_name(const std::function<bool(const std::string& name)>& each) const;
    // The whole file. bad_input: it is no plain file, or larger than `bytes_max`; not_found: it is gone.
    Result<ReadFile> read(const std::string& name, std::uint64_t bytes_max) const;
    // Only when it is still the same file. bad_input: it is not; not_found: it is gone.
    Result<> remove(const std::string& name, const FileStamp& stamp);
    // What was removed stays so, whatever happens to the machine.
    Result<> sync();

private:
    ImportFolder(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

    std::string path_;
    int descriptor_ = -1;
};

}  // namespace sluice::daemon
