#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "spool/disk.h"

namespace sluice::spool {

// A disk in memory for tests and simulations. It keeps what is synced apart from what is only written, so a
// test can cut the power and look at what survives: of unsynced writes any subset of sectors, of unsynced
// names any subset of changes. Thread-safe.
class FakeDisk final : public Disk {
public:
    explicit FakeDisk(std::uint64_t seed = 1) : random_(seed) {}

    Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) override;
    Result<std::vector<std::string>> list(const std::string& directory) override;
    Result<> make_directory(const std::string& path) override;
    Result<> unlink(const std::string& path) override;
    Result<> rename(const std::string& from, const std::string& to) override;
    Result<> link(const std::string& from, const std::string& to) override;
    Result<> sync_directory(const std::string& directory) override;
    Result<std::uint64_t> free_bytes(const std::string& directory) override;
    Result<std::unique_ptr<DirectoryLock>> lock(const std::string& path) override;

    // ---- faults ----

    // The n-th operation from now on that changes or syncs something fails, once; 1 is the next.
    void fail_operation(std::uint64_t n, int error_number);
    // Every sync fails from now on, or works again.
    void fail_syncs(bool fails);
    // Nothing reaches the disk from the n-th operation on: all fail until restart(). 0: never.
    void cut_power_at(std::uint64_t n);
    // Allocations beyond this many octets fail with ENOSPC.
    void set_capacity(std::uint64_t bytes);
    // The machine starts again. What was not synced survives in part, as chance has it. Files that are still
    // open belong to the past.
    void restart();
    // Only the process starts again: everything that it wrote is there. Files that are still open belong to the past.
    void restart_process();
    // The power has gone, or the process was stopped, by cut_power_at().
    bool power_is_off() const;

    std::uint64_t operations() const;
    std::uint64_t syncs() const;
    // The contents of a file as a process would read it, to damage it.
    std::string contents(const std::string& path) const;
    void overwrite(const std::string& path, std::string contents);

private:
    friend class FakeFile;
    struct Node {
        std::string written;            // what processes see
        std::string synced;             // what a power cut leaves for sure
        std::set<std::uint64_t> dirty;  // sectors in which they differ
    };
    using NodePtr = std::shared_ptr<Node>;
    using Names = std::map<std::string, NodePtr>;

    // One change of names, which happens as a whole: file systems promise that of a rename.
    struct Change {
        std::string removed;  // empty: none
        std::string added;
        NodePtr node;
    };
    void change(Change change);
    static void apply(Names& names, const Change& change);

    Result<> begin_operation(std::string_view what, const std::string& path);
    Result<> grow(Node& node, std::uint64_t bytes, const std::string& path);
    std::uint64_t used() const;
    void settle(Node& node);

    mutable std::mutex mutex_;
    Random random_;
    Names names_;
    Names synced_names_;
    std::vector<Change> unsynced_;  // from synced_names_ to names_
    std::set<std::string> directories_;
    std::uint64_t capacity_ = UINT64_MAX;
    std::uint64_t operations_ = 0;
    std::uint64_t syncs_ = 0;
    std::uint64_t fail_at_ = 0;
    int fail_with_ = 0;
    std::uint64_t power_off_at_ = 0;
    bool syncs_fail_ = false;
    std::uint64_t life_ = 0;  // restarts so far
    std::shared_ptr<int> lock_ = std::make_shared<int>(0);
};

}  // namespace sluice::spool
