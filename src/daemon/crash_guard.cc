#include "daemon/crash_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/assert.h"
#include "base/text.h"
#include "base/working_on.h"
#include "config/sources.h"

namespace sluice::daemon {
namespace {

constexpr std::array fatal_signals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr std::size_t id_digits = 13;
// Room for the lines of many crashes, taken at start: the disk may be full by then.
constexpr off_t room_bytes = 4096;
constexpr std::size_t notes_bytes_max = 1 << 20;

// What a handler needs is nowhere but here: it gets no argument of ours.
// NOLINTBEGIN(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<int> file_of_crashes = -1;
std::array<struct sigaction, fatal_signals.size()> former_actions;
// NOLINTEND(cppcoreguidelines-avoid-non-const-global-variables)

// MessageId::text() without memory from the heap.
void write_id(MessageId id, char* out) {
    static constexpr char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    std::uint64_t rest = id.value;
    for (std::size_t i = id_digits; i-- > 0; rest >>= 5) out[i] = digits[rest & 31];
}

void note_crash(MessageId id) {
    char line[id_digits + 1];
    write_id(id, line);
    line[id_digits] = '\n';
    (void)!::write(file_of_crashes, line, sizeof line);
    char sentence[] = "sluice: crashed while it worked on message              \n";
    write_id(id, sentence + sizeof sentence - 2 - id_digits);
    (void)!::write(STDERR_FILENO, sentence, sizeof sentence - 1);
}

// Notes the message, and leaves the rest to whoever was in charge before.
void on_fatal_signal(int number, siginfo_t* how, void*) {
    const int error = errno;
    const MessageId id = worked_on();
    if (id != MessageId()) note_crash(id);
    for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
        if (fatal_signals[i] == number) ::sigaction(number, &former_actions[i], nullptr);
    }
    // The same again, with all that is known of it, at the same place: it comes when we return. An instruction that faults
    // would do so once more by itself; a signal that somebody sent would not.
    if (::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), number, how) != 0) ::raise(number);
    errno = error;
}

void install_handlers() {
    for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
        struct sigaction ours{};
        ours.sa_sigaction = on_fatal_signal;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
        ::sigaction(fatal_signals[i], &ours, &former_actions[i]);
    }
}

void remove_handlers() {
    for (std::size_t i = 0; i < fatal_signals.size(); ++i) {
        struct sigaction present{};
        ::sigaction(fatal_signals[i], nullptr, &present);
        if (present.sa_sigaction == on_fatal_signal) ::sigaction(fatal_signals[i], &former_actions[i], nullptr);
    }
}

}  // namespace

CrashGuard::CrashGuard(std::string path) : path_(std::move(path)) {
    Counts counts;
    // Whatever else may lie there is refused by arm().
    const auto text = config::read_text(path_, notes_bytes_max);
    if (text && *text) {
        for (const std::string_view line : split(**text, '\n')) {
            if (const auto id = MessageId::parse(line)) ++counts[*id];  // half a line names nobody
        }
    }
    counts_.with([&](Counts& present) { present = std::move(counts); });
}

CrashGuard::~CrashGuard() {
    if (fd_ < 0) return;
    remove_handlers();
    file_of_crashes = -1;
    ::close(fd_);
}

bool CrashGuard::suspects() const {
    return counts_.with([](const Counts& counts) { return !counts.empty(); });
}

bool CrashGuard::crashed_on(MessageId id) const {
    return counts_.with([id](const Counts& counts) { return counts.contains(id); });
}

bool CrashGuard::quarantined(MessageId id) const {
    return counts_.with([id](const Counts& counts) {
        const auto found = counts.find(id);
        return found != counts.end() && found->second >= crashes_max;
    });
}

std::string CrashGuard::reason() {
    return "in quarantine: the engine crashed " + std::to_string(crashes_max) +
           " times while it worked on this message; release it for another try, or delete it";
}

Result<> CrashGuard::arm(std::span<const MessageId> queued) {
    ASSERT(fd_ < 0 && file_of_crashes < 0);
    // It is emptied below: not what a link points to.
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR);
    if (fd_ < 0) return fail(Errc::disk_failed, path_ + ": " + std::generic_category().message(errno));
    struct stat facts{};
    if (::fstat(fd_, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        ::close(std::exchange(fd_, -1));
        return fail(Errc::disk_failed, path_ + ": not a plain file");
    }
    counts_.with([&](Counts& counts) {
        const std::size_t before = counts.size();
        absl::erase_if(counts, [&](const auto& entry) {
            return std::find(queued.begin(), queued.end(), entry.first) == queued.end();
        });
        if (counts.size() != before) rewrite(counts);
    });
    (void)::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, room_bytes);
    file_of_crashes = fd_;
    install_handlers();
    return {};
}

void CrashGuard::forget(MessageId id) {
    counts_.with([&](Counts& counts) {
        if (counts.erase(id) > 0) rewrite(counts);
    });
}

void CrashGuard::rewrite(const Counts& counts) const {
    std::string lines;
    for (const auto& [id, count] : counts) {
        for (std::uint32_t i = 0; i < std::min(count, crashes_max); ++i) lines += id.text() + "\n";
    }
    (void)!::ftruncate(fd_, 0);
    (void)!::write(fd_, lines.data(), lines.size());
}

}  // namespace sluice::daemon
