#include "event/line_writer.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/clock.h"

namespace sluice::event {
namespace {

// Lines gather this long before they are written together, so that a busy engine makes few system calls.
constexpr std::chrono::milliseconds gather_time{10};

// A pipe that has room takes so much at once without waiting (PIPE_BUF).
constexpr std::size_t pipe_piece = 4096;
constexpr std::uint64_t half_line_max = 1 << 20;
constexpr int links_max = 40;  // as the kernel's

// A line that says how many were lost, in the format of those before it: who reads JSON expects nothing else.
std::string lost_note(std::string_view before, std::uint64_t count) {
    const std::string number = std::to_string(count);
    if (before.starts_with('{')) {
        return "{\"time\":\"" + rfc3339(wall_clock_ms()) +
               "\",\"event\":\"lines_lost\",\"level\":\"WARN\",\"message\":\"log lines dropped\",\"count\":" + number + "}\n";
    }
    if (before.starts_with("level=")) return "level=WARN source=core message=\"log lines dropped\" count=" + number + "\n";
    return "[WARN] [-] [core] log lines dropped count=" + number + "\n";
}

// Cuts off the half line that a crash left at the end, so that no new line continues it. The size that is left.
std::uint64_t cut_half_line(int writer, std::uint64_t size) {
    const std::uint64_t start = size - std::min(size, half_line_max);
    std::string tail(static_cast<std::size_t>(size - start), '\0');
    // That very file, whatever has the name now.
    const int fd = ::open(("/proc/self/fd/" + std::to_string(writer)).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return size;
    const ssize_t count = ::pread(fd, tail.data(), tail.size(), static_cast<off_t>(start));
    ::close(fd);
    if (count != static_cast<ssize_t>(tail.size()) || tail.empty() || tail.back() == '\n') return size;
    const std::size_t newline = tail.rfind('\n');
    if (newline == std::string::npos && start > 0) return size;
    const std::uint64_t whole = newline == std::string::npos ? 0 : start + newline + 1;
    return ::ftruncate(writer, static_cast<off_t>(whole)) == 0 ? whole : size;
}

// A pipe is opened for reading, too: then opening it does not wait for a reader, and one that goes away is no end.
int open_for_append(const std::string& path, int more_flags) {
    struct stat status{};
    const bool pipe = ::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
    const int access = pipe ? O_RDWR | O_NONBLOCK : O_WRONLY | O_CREAT;
    return ::open(path.c_str(), access | O_APPEND | O_CLOEXEC | more_flags, 0640);
}

}  // namespace

// The folder may be that of a user whom we become later (`user` in smtp.ini): he shall not lead root to files that he may not write.
// So links of root and our own are followed, and one by one: where a link leads is read from the one whose owner we know.
int open_for_lines(const std::string& name) {
    std::string path = name;
    for (int links = 0; links < links_max; ++links) {
        const int fd = open_for_append(path, O_NOFOLLOW);
        if (fd >= 0 || errno != ELOOP) return fd;
        const int link = ::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (link < 0) return -1;
        struct stat status{};
        struct statfs system{};
        char target[PATH_MAX];
        const bool ours = ::fstat(link, &status) == 0 && (status.st_uid == 0 || status.st_uid == ::geteuid());
        const bool of_a_process = ::fstatfs(link, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
        const ssize_t size = ::readlinkat(link, "", target, sizeof target);
        ::close(link);
        if (of_a_process) return open_for_append(path, 0);  // /dev/stderr: the text of such a link need not be a path
        if (!ours || size <= 0) {
            errno = EACCES;
            return -1;
        }
        path = std::filesystem::path(path).parent_path() / std::string_view(target, static_cast<std::size_t>(size));
    }
    errno = ELOOP;
    return -1;
}

Result<std::unique_ptr<LineWriter>> LineWriter::open(const LineTarget& target) {
    int fd = STDOUT_FILENO;
    std::uint64_t size = 0;
    bool regular = false;
    if (!target.path.empty()) {
        fd = open_for_lines(target.path);
        if (fd < 0) return fail(Errc::disk_failed, target.path + ": " + std::generic_category().message(errno));
        struct stat status{};
        regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
        if (regular) size = cut_half_line(fd, static_cast<std::uint64_t>(status.st_size));
    }
    return std::unique_ptr<LineWriter>(new LineWriter(target, fd, size, regular));
}

LineWriter::LineWriter(const LineTarget& target, int fd, std::uint64_t size, bool regular)
    : target_(target), fd_(fd), size_(size), whole_(size), regular_(regular), rotates_(regular && target.rotate_bytes != 0), thread_([this] { run(); }) {}

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
            batch += lost_note(batch, dropped_ - dropped_told_);
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
        if (!wait_for_reader()) return;
        const ssize_t count = ::write(fd_, text.data(), regular_ ? text.size() : std::min(text.size(), pipe_piece));
        if (count > 0) {
            note_written(text.substr(0, static_cast<std::size_t>(count)));
            text.remove_prefix(static_cast<std::size_t>(count));
            continue;
        }
        if (errno == EINTR || errno == EAGAIN) continue;
        // A full or failing log disk: these lines are lost, mail goes on.
        take_back_half_a_line();
        const std::scoped_lock lock(mutex_);
        ++dropped_;
        return;
    }
    if (rotates_ && size_ >= target_.rotate_bytes) rotate();
}

// A write to a pipe or terminal that nobody reads would never return, and then nobody could stop us. False when we are
// to stop and the reader still does not read.
bool LineWriter::wait_for_reader() {
    if (regular_) return true;
    for (;;) {
        pollfd waiting{fd_, POLLOUT, 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(gather_time.count()));
        if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
        const std::scoped_lock lock(mutex_);
        if (stopping_) return false;
    }
}

void LineWriter::note_written(std::string_view text) {
    size_ += text.size();
    const std::size_t newline = text.rfind('\n');
    if (newline != std::string_view::npos) whole_ = size_ - (text.size() - newline - 1);
}

// The next line that fits again must not continue the one that did not (LOG-1).
void LineWriter::take_back_half_a_line() {
    if (!regular_ || whole_ == size_) return;
    if (::ftruncate(fd_, static_cast<off_t>(whole_)) == 0) size_ = whole_;
}

void LineWriter::rotate() {
    const auto numbered = [this](std::uint32_t n) { return target_.path + "." + std::to_string(n); };
    for (std::uint32_t n = target_.files_max; n > 1; --n) std::rename(numbered(n - 1).c_str(), numbered(n).c_str());
    std::rename(target_.path.c_str(), numbered(1).c_str());
    // Also those from when there were more.
    for (std::uint32_t n = target_.files_max; std::remove(numbered(n).c_str()) == 0; ++n) {
    }
    size_ = 0;  // also when no new file can be made: the next try comes after as many octets, not with every write
    whole_ = 0;
    const int fresh = open_for_lines(target_.path);
    if (fresh < 0) {
        regular_ = false;  // keep writing to the renamed file, whose size is not counted any more
        return;
    }
    ::close(fd_);
    fd_ = fresh;
    regular_ = true;
}

}  // namespace sluice::event
