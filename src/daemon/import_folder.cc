#include "daemon/import_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

namespace sluice::daemon {
namespace {

Error trouble(Errc code, const std::string& what) {
    return Error(errno == ENOENT ? Errc::not_found : code, what + ": " + std::generic_category().message(errno));
}

FileStamp stamp_of(const struct stat& status) {
    constexpr std::int64_t second = 1'000'000'000;
    return {status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
            status.st_mtim.tv_sec * second + status.st_mtim.tv_nsec};
}

// Closes at the end of its scope.
class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int number() const { return number_; }

private:
    int number_;
};

Result<std::string> read_all(int file, std::uint64_t size, const std::string& name) {
    std::string bytes(size, '\0');
    std::size_t at = 0;
    while (at < bytes.size()) {
        const ssize_t got = ::read(file, bytes.data() + at, bytes.size() - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(trouble(Errc::disk_failed, name));
        if (got == 0) break;
        at += static_cast<std::size_t>(got);
    }
    bytes.resize(at);
    return bytes;
}

}  // namespace

Result<ImportFolder> ImportFolder::open(const std::string& path, bool removes) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return fail(Errc::bad_input, path + ": " + std::generic_category().message(errno));
    ImportFolder folder(path, descriptor);
    if (removes && ::faccessat(descriptor, ".", W_OK | X_OK, AT_EACCESS) != 0) {
        return fail(Errc::bad_input, path + ": files cannot be removed from it: " + std::generic_category().message(errno));
    }
    return folder;
}

ImportFolder::ImportFolder(ImportFolder&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

ImportFolder::~ImportFolder() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

Result<> ImportFolder::each_name(const std::function<bool(const std::string& name)>& each) const {
    // A descriptor of its own: how far it has been read belongs to it.
    const int own = ::openat(descriptor_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* const listing = own < 0 ? nullptr : ::fdopendir(own);
    if (listing == nullptr) {
        const Error error = trouble(Errc::disk_failed, path_);
        if (own >= 0) ::close(own);
        return fail(error);
    }
    errno = 0;
    bool goes_on = true;
    while (goes_on) {
        const dirent* const entry = ::readdir(listing);
        if (entry == nullptr) break;
        const std::string name(static_cast<const char*>(entry->d_name));
        if (name != "." && name != ".." && entry->d_type != DT_DIR) goes_on = each(name);
        errno = 0;
    }
    const int error = errno;
    ::closedir(listing);
    if (goes_on && error != 0) return fail(Errc::disk_failed, path_ + ": " + std::generic_category().message(error));
    return {};
}

Result<ReadFile> ImportFolder::read(const std::string& name, std::uint64_t bytes_max) const {
    const Descriptor file(::openat(descriptor_, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (file.number() < 0) return fail(trouble(Errc::disk_failed, name));
    struct stat status {};
    if (::fstat(file.number(), &status) != 0) return fail(trouble(Errc::disk_failed, name));
    if (!S_ISREG(status.st_mode)) return fail(Errc::bad_input, name + ": not a plain file");
    const FileStamp stamp = stamp_of(status);
    if (stamp.size > bytes_max) {
        return fail(Errc::bad_input, name + ": larger than " + std::to_string(bytes_max) + " octets, which no message may be");
    }
    TRY(std::string bytes, read_all(file.number(), stamp.size, name));
    return ReadFile{std::move(bytes), stamp};
}

Result<> ImportFolder::remove(const std::string& name, const FileStamp& stamp) {
    struct stat status {};
    if (::fstatat(descriptor_, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return fail(trouble(Errc::disk_failed, name));
    if (stamp_of(status) != stamp) return fail(Errc::bad_input, name + ": it was changed while it was imported");
    if (::unlinkat(descriptor_, name.c_str(), 0) != 0) return fail(trouble(Errc::disk_failed, name));
    return {};
}

Result<> ImportFolder::sync() {
    if (::fsync(descriptor_) != 0) return fail(trouble(Errc::disk_failed, path_));
    return {};
}

}  // namespace sluice::daemon
