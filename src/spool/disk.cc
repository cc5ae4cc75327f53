#include "spool/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>

#include "base/text.h"

namespace sluice::spool {
namespace {

// Repeats a system call that a signal interrupted.
template <class Call>
auto uninterrupted(Call call) {
    for (;;) {
        const auto outcome = call();
        if (outcome >= 0 || errno != EINTR) return outcome;
    }
}

// Counts one call for as long as it lives.
class Counted {
public:
    explicit Counted(DiskCalls& calls) : calls_(calls) { ++calls_.under_way; }
    ~Counted() {
        ++calls_.ended;
        --calls_.under_way;
    }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;

private:
    DiskCalls& calls_;
};

class SystemFile final : public File {
public:
    SystemFile(int descriptor, std::string path, std::shared_ptr<DiskCalls> calls)
        : descriptor_(descriptor), path_(std::move(path)), calls_(std::move(calls)) {}
    SystemFile(const SystemFile&) = delete;
    SystemFile& operator=(const SystemFile&) = delete;
    ~SystemFile() override { ::close(descriptor_); }

    Result<> write(std::span<const iovec> pieces, std::uint64_t offset) override {
        const Counted call(*calls_);
        while (!pieces.empty()) {
            const auto count = std::min<std::size_t>(pieces.size(), IOV_MAX);
            const ssize_t written = uninterrupted([&] {
                return ::pwritev(
                    descriptor_, pieces.data(), static_cast<int>(count), static_cast<off_t>(offset)
                );
            });
            if (written < 0) return fail(disk_error("write", path_, errno));
            auto left = static_cast<std::size_t>(written);
            offset += left;
            while (!pieces.empty() && left >= pieces.front().iov_len) {
                left -= pieces.front().iov_len;
                pieces = pieces.subspan(1);
            }
            if (left > 0) {
                TRY_VOID(finish_piece(pieces.front(), left, offset));
                offset += pieces.front().iov_len - left;
                pieces = pieces.subspan(1);
            }
        }
        return {};
    }

    Result<> sync() override {
        const Counted call(*calls_);
        if (::fdatasync(descriptor_) != 0) return fail(disk_error("fdatasync", path_, errno));
        return {};
    }

    Result<> allocate(std::uint64_t bytes) override {
        const Counted call(*calls_);
        const int outcome =
            uninterrupted([&] { return ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)); });
        if (outcome == 0) return {};
        if (errno != EOPNOTSUPP && errno != ENOSYS) return fail(disk_error("fallocate", path_, errno));
        TRY(const std::uint64_t before, size());
        if (before >= bytes) return {};
        return resize(bytes);
    }

    Result<> resize(std::uint64_t bytes) override {
        const Counted call(*calls_);
        const int outcome =
            uninterrupted([&] { return ::ftruncate(descriptor_, static_cast<off_t>(bytes)); });
        if (outcome != 0) return fail(disk_error("truncate", path_, errno));
        return {};
    }

    Result<std::size_t> read(std::span<char> into, std::uint64_t offset) const override {
        const Counted call(*calls_);
        std::size_t filled = 0;
        while (filled < into.size()) {
            const ssize_t count = uninterrupted([&] {
                return ::pread(
                    descriptor_, into.data() + filled, into.size() - filled,
                    static_cast<off_t>(offset + filled)
                );
            });
            if (count < 0) return fail(disk_error("read", path_, errno));
            if (count == 0) break;
            filled += static_cast<std::size_t>(count);
        }
        return filled;
    }

    Result<std::uint64_t> size() const override {
        const Counted call(*calls_);
        struct stat facts{};
        if (::fstat(descriptor_, &facts) != 0) return fail(disk_error("stat", path_, errno));
        return static_cast<std::uint64_t>(facts.st_size);
    }

    std::uint64_t next_data(std::uint64_t offset) const override {
        const Counted call(*calls_);
        const off_t found = ::lseek(descriptor_, static_cast<off_t>(offset), SEEK_DATA);
        if (found >= 0) return static_cast<std::uint64_t>(found);
        return errno == ENXIO ? size().value_or(offset) : offset;
    }

private:
    // The kernel took only `done` bytes of a piece: writes the rest of it.
    Result<> finish_piece(const iovec& piece, std::size_t done, std::uint64_t offset) {
        const char* const bytes = static_cast<const char*>(piece.iov_base);
        while (done < piece.iov_len) {
            const ssize_t written = uninterrupted([&] {
                return ::pwrite(descriptor_, bytes + done, piece.iov_len - done, static_cast<off_t>(offset));
            });
            if (written < 0) return fail(disk_error("write", path_, errno));
            done += static_cast<std::size_t>(written);
            offset += static_cast<std::uint64_t>(written);
        }
        return {};
    }

    int descriptor_;
    std::string path_;
    std::shared_ptr<DiskCalls> calls_;
};

class SystemLock final : public DirectoryLock {
public:
    explicit SystemLock(int descriptor) : descriptor_(descriptor) {}
    SystemLock(const SystemLock&) = delete;
    SystemLock& operator=(const SystemLock&) = delete;
    ~SystemLock() override { ::close(descriptor_); }

private:
    int descriptor_;
};

// Neither a link, which may lead anywhere, nor a pipe, which may wait for ever.
constexpr int plain_only = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

bool is_plain_file(int descriptor) {
    struct stat facts{};
    return ::fstat(descriptor, &facts) == 0 && S_ISREG(facts.st_mode);
}

Error not_plain(const std::string& path) { return Error(Errc::disk_failed, "open " + path + ": not a plain file"); }

class SystemDisk final : public Disk {
public:
    Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) override {
        const Counted call(*calls_);
        int flags = plain_only;
        if (mode == OpenMode::read) flags |= O_RDONLY;
        if (mode == OpenMode::write) flags |= O_RDWR;
        if (mode == OpenMode::create) flags |= O_RDWR | O_CREAT | O_EXCL;
        const int descriptor = uninterrupted([&] { return ::open(path.c_str(), flags, 0600); });
        if (descriptor < 0) return fail(disk_error("open", path, errno));
        auto file = std::make_shared<SystemFile>(descriptor, path, calls_);
        if (!is_plain_file(descriptor)) return fail(not_plain(path));
        return file;
    }

    Result<std::vector<std::string>> list(const std::string& directory) override {
        const Counted call(*calls_);
        const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
        if (!stream) return fail(disk_error("list", directory, errno));
        std::vector<std::string> names;
        while (const dirent* entry = ::readdir(stream.get())) {
            const std::string name = entry->d_name;
            if (name != "." && name != "..") names.push_back(name);
        }
        std::sort(names.begin(), names.end());
        return names;
    }

    Result<> make_directory(const std::string& path) override {
        const Counted call(*calls_);
        if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
            return fail(disk_error("mkdir", path, errno));
        return {};
    }

    Result<> unlink(const std::string& path) override {
        const Counted call(*calls_);
        if (::unlink(path.c_str()) != 0) return fail(disk_error("unlink", path, errno));
        return {};
    }

    Result<> rename(const std::string& from, const std::string& to) override {
        const Counted call(*calls_);
        if (::rename(from.c_str(), to.c_str()) != 0) return fail(disk_error("rename", from, errno));
        return {};
    }

    Result<> link(const std::string& from, const std::string& to) override {
        const Counted call(*calls_);
        if (::link(from.c_str(), to.c_str()) != 0 && errno != EEXIST)
            return fail(disk_error("link", from, errno));
        return {};
    }

    Result<> sync_directory(const std::string& directory) override {
        const Counted call(*calls_);
        const int descriptor =
            uninterrupted([&] { return ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
        if (descriptor < 0) return fail(disk_error("open", directory, errno));
        const int outcome = ::fsync(descriptor);
        const int reason = errno;
        ::close(descriptor);
        if (outcome != 0) return fail(disk_error("fsync", directory, reason));
        return {};
    }

    Result<std::uint64_t> free_bytes(const std::string& directory) override {
        const Counted call(*calls_);
        struct statvfs facts{};
        if (::statvfs(directory.c_str(), &facts) != 0) return fail(disk_error("statvfs", directory, errno));
        return std::uint64_t{facts.f_bavail} * facts.f_frsize;
    }

    Result<std::unique_ptr<DirectoryLock>> lock(const std::string& path) override {
        const Counted call(*calls_);
        const int descriptor =
            uninterrupted([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | plain_only, 0600); });
        if (descriptor < 0) return fail(disk_error("open", path, errno));
        auto held = std::make_unique<SystemLock>(descriptor);
        if (!is_plain_file(descriptor)) return fail(not_plain(path));
        char text[32] = {};
        if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK) return fail(disk_error("lock", path, errno));
            const ssize_t length = ::pread(descriptor, text, sizeof text - 1, 0);
            const std::string owner(
                trim(std::string_view(text, length > 0 ? static_cast<std::size_t>(length) : 0))
            );
            return fail(
                Errc::locked, path + " is held by the process with pid " + (owner.empty() ? "unknown" : owner)
            );
        }
        // The pid is there for people; only the lock itself counts.
        const std::string mine = std::to_string(::getpid()) + "\n";
        if (::ftruncate(descriptor, 0) != 0 ||
            ::pwrite(descriptor, mine.data(), mine.size(), 0) != static_cast<ssize_t>(mine.size())) {
            return fail(disk_error("write", path, errno));
        }
        return held;
    }
};

}  // namespace

std::unique_ptr<Disk> make_system_disk() {
    return std::make_unique<SystemDisk>();
}

Error disk_error(std::string_view operation, std::string_view path, int error_number) {
    Errc code = Errc::disk_failed;
    if (error_number == ENOSPC || error_number == EDQUOT) code = Errc::disk_full;
    if (error_number == ENOENT) code = Errc::not_found;
    std::string detail(operation);
    detail.append(" ").append(path).append(": ").append(std::generic_category().message(error_number));
    return Error(code, std::move(detail));
}

Result<> write_all(File& file, std::string_view bytes, std::uint64_t offset) {
    // pwritev takes pointers to mutable memory but only reads from it.
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    return file.write(std::span(&piece, 1), offset);
}

}  // namespace sluice::spool
