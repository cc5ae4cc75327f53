#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::spool {

// What the spool asks of a file system. The real one is below; FakeDisk loses, tears and fails on command.
// Errors: disk_full for ENOSPC and EDQUOT, not_found for ENOENT, disk_failed for the rest; the detail names
// the operation, the file and the reason.

// One open file. Thread-safe as far as pread and pwrite are.
class File {
public:
    virtual ~File() = default;
    // Writes all pieces one after another at `offset`; more than IOV_MAX of them take several system calls.
    virtual Result<> write(std::span<const iovec> pieces, std::uint64_t offset) = 0;
    // fdatasync: contents and size are on stable storage afterwards. Never call it again on the same writes
    // after it failed: the kernel has marked them clean.
    virtual Result<> sync() = 0;
    // Reserves blocks and makes the file at least `bytes` long. Falls back to a plain resize where the file
    // system cannot preallocate.
    virtual Result<> allocate(std::uint64_t bytes) = 0;
    virtual Result<> resize(std::uint64_t bytes) = 0;
    // Fills `into` as far as the file goes; gives the number of bytes read.
    virtual Result<std::size_t> read(std::span<char> into, std::uint64_t offset) const = 0;
    virtual Result<std::uint64_t> size() const = 0;
    // No octet from `offset` up to here is anything but 0. A file that cannot tell gives `offset` itself.
    virtual std::uint64_t next_data(std::uint64_t offset) const { return offset; }
};

// Held as long as it lives; the kernel releases it when the process dies, however it dies.
class DirectoryLock {
public:
    virtual ~DirectoryLock() = default;
};

enum class OpenMode : std::uint8_t { read, write, create };  // create: fails when the file exists

// Calls to the operating system by a disk and its files. Thread-safe.
struct DiskCalls {
    std::atomic<std::uint32_t> under_way = 0;
    std::atomic<std::uint64_t> ended = 0;
};

// Thread-safe.
class Disk {
public:
    virtual ~Disk() = default;
    // A plain file of this name, not what a link points to: whatever else may lie there is refused, and nothing is waited for.
    virtual Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
    // Names without the directory, sorted.
    virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
    // Mode 0700. An existing directory is fine.
    virtual Result<> make_directory(const std::string& path) = 0;
    virtual Result<> unlink(const std::string& path) = 0;
    virtual Result<> rename(const std::string& from, const std::string& to) = 0;
    // A second name for the same contents. An existing `to` is fine.
    virtual Result<> link(const std::string& from, const std::string& to) = 0;
    // Created, renamed and removed names of the directory are on stable storage afterwards.
    virtual Result<> sync_directory(const std::string& directory) = 0;
    // Room for unprivileged users.
    virtual Result<std::uint64_t> free_bytes(const std::string& directory) = 0;
    // locked: somebody holds it; the detail names the process.
    virtual Result<std::unique_ptr<DirectoryLock>> lock(const std::string& path) = 0;
    // How a thread that hangs is told from a disk that does. A disk that does not count gives zeroes.
    const DiskCalls& calls() const { return *calls_; }

protected:
    std::shared_ptr<DiskCalls> calls_ = std::make_shared<DiskCalls>();
};

// The machine's file system.
std::unique_ptr<Disk> make_system_disk();

// The error for `errno` after `operation` on `path`.
Error disk_error(std::string_view operation, std::string_view path, int error_number);

// Convenience for a single piece.
Result<> write_all(File& file, std::string_view bytes, std::uint64_t offset);

}  // namespace sluice::spool
