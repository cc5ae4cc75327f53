#include "event/line_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

namespace sluice::event {
namespace {

// Lines gather this long before they are written together, so that a busy engine makes few system calls.
constexpr std::chrono::milliseconds gather_time{10};

int open_for_append(const std::string& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

}  // namespace

Result<std::unique_ptr<LineWriter>> LineWriter::open(const LineTarget& target) {
    int fd = STDOUT_FILENO;
    std::uint64_t size = 0;
    if (!target.path.empty()) {
        fd = open_for_append(target.path);
        if (fd < 0) return fail(Errc::disk_failed, target.path + ": " + std::strerror(errno));
        struct stat status{};
        if (::fstat(fd, &status) == 0) size = static_cast<std::uint64_t>(status.st_size);
    }
    return std::unique_ptr<LineWriter>(new LineWriter(target, fd, size));
}

LineWriter::LineWriter(const LineTarget& target, int fd, std::uint64_t size)
    : target_(target), fd_(fd), size_(size), thread_([this] { run(); }) {}

LineWriter::~LineWriter() {
    flush(2000);
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    if (fd_ != STDOUT_FILENO) ::close(fd_);
}

void LineWriter::append(std::string_view lines) {
    bool wake = false;
    {
        const std::scoped_lock lock(mutex_);
        if (waiting_.size() + lines.size() > target_.waiting_bytes_max) {
            ++dropped_;
            return;
        }
        wake = waiting_.empty();
        waiting_.append(lines);
    }
    if (wake) wake_.notify_one();
}

void LineWriter::flush(int wait_ms) {
    std::unique_lock lock(mutex_);
    wake_.notify_one();
    written_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return waiting_.empty() && !writing_; });
}

std::uint64_t LineWriter::dropped() const {
    const std::scoped_lock lock(mutex_);
    return dropped_;
}

void LineWriter::run() {
    pthread_setname_np(pthread_self(), "sluice-log");
    std::string batch;
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        if (!stopping_) wake_.wait_for(lock, gather_time, [this] { return stopping_; });
        batch.swap(waiting_);
        if (dropped_ != dropped_told_) {
            batch += "[WARN] [-] [core] log lines dropped count=" + std::to_string(dropped_ - dropped_told_) + "\n";
            dropped_told_ = dropped_;
        }
        writing_ = true;
        lock.unlock();
        write_out(batch);
        batch.clear();
        lock.lock();
        writing_ = false;
        written_.notify_all();
    }
}

void LineWriter::write_out(std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(fd_, text.data(), text.size());
        if (count > 0) {
            size_ += static_cast<std::uint64_t>(count);
            text.remove_prefix(static_cast<std::size_t>(count));
            continue;
        }
        if (errno == EINTR) continue;
        if (errno == EAGAIN) {
            pollfd waiting{fd_, POLLOUT, 0};
            const std::scoped_lock lock(mutex_);
            if (stopping_) return;
            ::poll(&waiting, 1, 0);
            std::this_thread::sleep_for(gather_time);
            continue;
        }
        // A full or failing log disk: these lines are lost, mail goes on.
        const std::scoped_lock lock(mutex_);
        ++dropped_;
        return;
    }
    if (target_.rotate_bytes != 0 && size_ >= target_.rotate_bytes) rotate();
}

void LineWriter::rotate() {
    const auto numbered = [this](std::uint32_t n) { return target_.path + "." + std::to_string(n); };
    for (std::uint32_t n = target_.files_max; n > 1; --n) std::rename(numbered(n - 1).c_str(), numbered(n).c_str());
    std::rename(target_.path.c_str(), numbered(1).c_str());
    const int fresh = open_for_append(target_.path);
    if (fresh < 0) return;  // keep writing to the renamed file
    ::close(fd_);
    fd_ = fresh;
    size_ = 0;
}

}  // namespace sluice::event
