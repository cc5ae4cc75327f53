#include "spool/fake_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sluice::spool {
namespace {

constexpr std::uint64_t sector = 512;

std::string directory_of(const std::string& path) {
    return path.substr(0, path.rfind('/'));
}
std::string name_of_path(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

class FakeLock final : public DirectoryLock {
public:
    explicit FakeLock(std::shared_ptr<int> held) : held_(std::move(held)) {}

private:
    std::shared_ptr<int> held_;
};

}  // namespace

class FakeFile final : public File {
public:
    FakeFile(FakeDisk& disk, FakeDisk::NodePtr node, std::string path, std::uint64_t life)
        : disk_(disk), node_(std::move(node)), path_(std::move(path)), life_(life) {}

    Result<> write(std::span<const iovec> pieces, std::uint64_t offset) override {
        const std::lock_guard lock(disk_.mutex_);
        TRY_VOID(begin("write"));
        std::uint64_t total = 0;
        for (const iovec& piece : pieces)
            total += piece.iov_len;
        TRY_VOID(disk_.grow(*node_, offset + total, path_));
        for (const iovec& piece : pieces) {
            if (piece.iov_len == 0) continue;
            std::memcpy(node_->written.data() + offset, piece.iov_base, piece.iov_len);
            offset += piece.iov_len;
        }
        for (std::uint64_t at = (offset - total) / sector; at * sector < offset; ++at)
            node_->dirty.insert(at);
        return {};
    }

    Result<> sync() override {
        const std::lock_guard lock(disk_.mutex_);
        TRY_VOID(begin("fdatasync"));
        if (disk_.syncs_fail_) return fail(disk_error("fdatasync", path_, EIO));
        ++disk_.syncs_;
        node_->synced.resize(node_->written.size());
        for (const std::uint64_t at : node_->dirty) {
            const std::uint64_t start = at * sector;
            if (start >= node_->written.size()) continue;
            const std::uint64_t length = std::min<std::uint64_t>(sector, node_->written.size() - start);
            std::memcpy(node_->synced.data() + start, node_->written.data() + start, length);
        }
        node_->dirty.clear();
        return {};
    }

    Result<> allocate(std::uint64_t bytes) override {
        const std::lock_guard lock(disk_.mutex_);
        TRY_VOID(begin("fallocate"));
        return disk_.grow(*node_, bytes, path_);
    }

    Result<> resize(std::uint64_t bytes) override {
        const std::lock_guard lock(disk_.mutex_);
        TRY_VOID(begin("truncate"));
        if (bytes > node_->written.size()) return disk_.grow(*node_, bytes, path_);
        node_->written.resize(bytes);
        return {};
    }

    Result<std::size_t> read(std::span<char> into, std::uint64_t offset) const override {
        const std::lock_guard lock(disk_.mutex_);
        if (offset >= node_->written.size()) return std::size_t{0};
        const std::size_t length = std::min<std::size_t>(into.size(), node_->written.size() - offset);
        std::memcpy(into.data(), node_->written.data() + offset, length);
        return length;
    }

    Result<std::uint64_t> size() const override {
        const std::lock_guard lock(disk_.mutex_);
        return node_->written.size();
    }

private:
    Result<> begin(std::string_view what) {
        if (life_ != disk_.life_) return fail(disk_error(what, path_, EBADF));
        return disk_.begin_operation(what, path_);
    }

    FakeDisk& disk_;
    FakeDisk::NodePtr node_;
    std::string path_;
    std::uint64_t life_;
};

// ---- faults
// ------------------------------------------------------------------------------------------------------

void FakeDisk::fail_operation(std::uint64_t n, int error_number) {
    const std::lock_guard lock(mutex_);
    fail_at_ = operations_ + n;
    fail_with_ = error_number;
}

void FakeDisk::fail_syncs(bool fails) {
    const std::lock_guard lock(mutex_);
    syncs_fail_ = fails;
}

void FakeDisk::cut_power_at(std::uint64_t n) {
    const std::lock_guard lock(mutex_);
    power_off_at_ = n == 0 ? 0 : operations_ + n;
}

void FakeDisk::set_capacity(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    capacity_ = bytes;
}

Result<> FakeDisk::begin_operation(std::string_view what, const std::string& path) {
    ++operations_;
    if (power_off_at_ != 0 && operations_ >= power_off_at_) return fail(disk_error(what, path, EIO));
    if (operations_ == fail_at_) return fail(disk_error(what, path, fail_with_));
    return {};
}

std::uint64_t FakeDisk::used() const {
    std::set<const Node*> nodes;
    for (const auto& [path, node] : names_)
        nodes.insert(node.get());
    std::uint64_t bytes = 0;
    for (const Node* node : nodes)
        bytes += node->written.size();
    return bytes;
}

Result<> FakeDisk::grow(Node& node, std::uint64_t bytes, const std::string& path) {
    if (bytes <= node.written.size()) return {};
    if (capacity_ != UINT64_MAX && used() + bytes - node.written.size() > capacity_) {
        return fail(disk_error("write", path, ENOSPC));
    }
    node.written.resize(bytes);
    return {};
}

// Of a file's unsynced sectors each may have made it or not; so may its new length.
void FakeDisk::settle(Node& node) {
    if (node.written.size() != node.synced.size() && random_.chance(0.5))
        node.synced.resize(node.written.size());
    for (const std::uint64_t at : node.dirty) {
        const std::uint64_t start = at * sector;
        if (start >= node.written.size() || start >= node.synced.size() || random_.chance(0.5)) continue;
        const std::uint64_t length = std::min(node.written.size(), node.synced.size()) - start;
        std::memcpy(node.synced.data() + start, node.written.data() + start, std::min(sector, length));
    }
    node.written = node.synced;
    node.dirty.clear();
}

void FakeDisk::restart() {
    const std::lock_guard lock(mutex_);
    ++life_;
    power_off_at_ = 0;
    fail_at_ = 0;
    syncs_fail_ = false;
    lock_ = std::make_shared<int>(0);
    // Of the changes of names some have happened: usually the first few, but nothing promises even that.
    Names survived = synced_names_;
    const bool in_order = random_.chance(0.5);
    for (const Change& change : unsynced_) {
        const bool happened = random_.chance(0.6);
        if (happened)
            apply(survived, change);
        else if (in_order)
            break;
    }
    unsynced_.clear();
    std::set<Node*> settled;
    for (const auto& [path, node] : survived) {
        if (settled.insert(node.get()).second) settle(*node);
    }
    names_ = survived;
    synced_names_ = std::move(survived);
}

void FakeDisk::restart_process() {
    const std::lock_guard lock(mutex_);
    ++life_;
    power_off_at_ = 0;
    lock_ = std::make_shared<int>(0);
}

bool FakeDisk::power_is_off() const {
    const std::lock_guard lock(mutex_);
    return power_off_at_ != 0 && operations_ >= power_off_at_;
}

std::uint64_t FakeDisk::operations() const {
    const std::lock_guard lock(mutex_);
    return operations_;
}

std::uint64_t FakeDisk::syncs() const {
    const std::lock_guard lock(mutex_);
    return syncs_;
}

std::string FakeDisk::contents(const std::string& path) const {
    const std::lock_guard lock(mutex_);
    return names_.at(path)->written;
}

void FakeDisk::overwrite(const std::string& path, std::string contents) {
    const std::lock_guard lock(mutex_);
    const auto node = std::make_shared<Node>();
    node->written = contents;
    node->synced = std::move(contents);
    names_[path] = node;
    synced_names_[path] = node;
}

void FakeDisk::apply(Names& names, const Change& change) {
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.node;
}

void FakeDisk::change(Change change) {
    apply(names_, change);
    unsynced_.push_back(std::move(change));
}

// ---- names
// -------------------------------------------------------------------------------------------------------

Result<std::shared_ptr<File>> FakeDisk::open(const std::string& path, OpenMode mode) {
    const std::lock_guard lock(mutex_);
    auto found = names_.find(path);
    if (mode == OpenMode::create) {
        TRY_VOID(begin_operation("open", path));
        if (found != names_.end()) return fail(disk_error("open", path, EEXIST));
        change({"", path, std::make_shared<Node>()});
        found = names_.find(path);
    }
    if (found == names_.end()) return fail(disk_error("open", path, ENOENT));
    return std::make_shared<FakeFile>(*this, found->second, path, life_);
}

Result<std::vector<std::string>> FakeDisk::list(const std::string& directory) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [path, node] : names_) {
        if (directory_of(path) == directory) names.push_back(name_of_path(path));
    }
    return names;
}

Result<> FakeDisk::make_directory(const std::string& path) {
    const std::lock_guard lock(mutex_);
    TRY_VOID(begin_operation("mkdir", path));
    directories_.insert(path);
    return {};
}

Result<> FakeDisk::unlink(const std::string& path) {
    const std::lock_guard lock(mutex_);
    TRY_VOID(begin_operation("unlink", path));
    if (!names_.contains(path)) return fail(disk_error("unlink", path, ENOENT));
    change({path, "", nullptr});
    return {};
}

Result<> FakeDisk::rename(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    TRY_VOID(begin_operation("rename", from));
    const auto found = names_.find(from);
    if (found == names_.end()) return fail(disk_error("rename", from, ENOENT));
    change({from, to, found->second});
    return {};
}

Result<> FakeDisk::link(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    TRY_VOID(begin_operation("link", from));
    const auto found = names_.find(from);
    if (found == names_.end()) return fail(disk_error("link", from, ENOENT));
    if (!names_.contains(to)) change({"", to, found->second});
    return {};
}

Result<> FakeDisk::sync_directory(const std::string& directory) {
    const std::lock_guard lock(mutex_);
    TRY_VOID(begin_operation("fsync", directory));
    if (syncs_fail_) return fail(disk_error("fsync", directory, EIO));
    std::vector<Change> others;
    for (Change& change : unsynced_) {
        const std::string& path = change.added.empty() ? change.removed : change.added;
        if (directory_of(path) == directory) {
            apply(synced_names_, change);
        } else {
            others.push_back(std::move(change));
        }
    }
    unsynced_ = std::move(others);
    return {};
}

Result<std::uint64_t> FakeDisk::free_bytes(const std::string&) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t bytes = used();
    return capacity_ > bytes ? capacity_ - bytes : 0;
}

Result<std::unique_ptr<DirectoryLock>> FakeDisk::lock(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (lock_.use_count() > 1) return fail(Errc::locked, path + " is held by the process with pid 1");
    return std::make_unique<FakeLock>(lock_);
}

}  // namespace sluice::spool
