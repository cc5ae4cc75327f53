#include "plugin/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

namespace sluice::plugin {
namespace {

constexpr int socket_in_child = 3, notes_in_child = 4;
constexpr std::size_t notes_bytes_max = 64u << 10;

std::string reason() { return std::generic_category().message(errno); }

// Between fork and exec: only what is allowed there. The exec's failure goes through `report`, which closes on success.
[[noreturn]] void become(char* const* arguments, int socket, int notes, int report, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool orphaned = ::getppid() != parent;
    sigset_t none;
    sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    ::close_range(notes_in_child + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    // Out of the way of the places where the others go.
    const int kept_report = ::fcntl(report, F_DUPFD_CLOEXEC, notes_in_child + 1);
    const int kept_notes = ::fcntl(notes, F_DUPFD_CLOEXEC, notes_in_child + 1);
    const bool placed = socket == socket_in_child ? ::fcntl(socket, F_SETFD, 0) == 0 : ::dup2(socket, socket_in_child) >= 0;
    const bool noted = kept_notes >= 0 && ::dup2(kept_notes, notes_in_child) >= 0;
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    if (placed && noted && kept_report >= 0 && !orphaned) ::execvp(arguments[0], arguments);
    const int error = errno;
    if (::write(kept_report, &error, sizeof error) < 0) ::_exit(126);
    ::_exit(127);
}

}  // namespace

Result<Child> Child::start(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail(Errc::out_of_resources, reason());
    net::Descriptor ours(pair[0]);
    const net::Descriptor theirs(pair[1]);
    int notes[2];
    if (::pipe2(notes, O_CLOEXEC) != 0) return fail(Errc::out_of_resources, reason());
    net::Descriptor notes_in(notes[0]);
    const net::Descriptor notes_out(notes[1]);
    int report[2];
    if (::pipe2(report, O_CLOEXEC) != 0) return fail(Errc::out_of_resources, reason());
    const net::Descriptor report_in(report[0]);
    net::Descriptor report_out(report[1]);

    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return fail(Errc::out_of_resources, reason());
    if (pid == 0) become(argv.data(), theirs.get(), notes_out.get(), report_out.get(), parent);

    report_out = net::Descriptor();
    int error = 0;
    if (::read(report_in.get(), &error, sizeof error) == sizeof error) {
        ::waitpid(pid, nullptr, 0);
        return fail(Errc::not_found, arguments.front() + ": " + std::generic_category().message(error));
    }
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    ::fcntl(notes_in.get(), F_SETFL, O_NONBLOCK);
    return Child(pid, std::move(ours), std::move(notes_in));
}

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)), notes_(std::move(other.notes_)) {}

Child& Child::operator=(Child&& other) noexcept {
    end();
    pid_ = std::exchange(other.pid_, -1);
    socket_ = std::move(other.socket_);
    notes_ = std::move(other.notes_);
    return *this;
}

std::string Child::take_notes() {
    std::string notes;
    char some[1024];
    while (notes.size() < notes_bytes_max) {
        const ssize_t size = ::read(notes_.get(), some, sizeof some);
        if (size <= 0) break;
        notes.append(some, static_cast<std::size_t>(size));
    }
    return notes;
}

void Child::kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

std::string Child::end() {
    if (pid_ <= 0) return {};
    int status = 0;
    // One that is ending by itself gets to say so.
    pid_t done = ::waitpid(pid_, &status, WNOHANG);
    if (done == 0) {
        kill();
        done = ::waitpid(pid_, &status, 0);
    }
    pid_ = -1;
    if (done < 0) return "gone";
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return "exit code " + std::to_string(WEXITSTATUS(status));
}

std::uint64_t Child::resident_bytes() const {
    const std::string path = "/proc/" + std::to_string(pid_) + "/statm";
    std::FILE* file = std::fopen(path.c_str(), "re");
    if (file == nullptr) return 0;
    unsigned long long total = 0;
    unsigned long long resident = 0;
    const int fields = std::fscanf(file, "%llu %llu", &total, &resident);
    std::fclose(file);
    return fields == 2 ? resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

bool may_make_code() {
    const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return true;  // whatever it is, it is not that
    const bool may = ::mprotect(page, size, PROT_READ | PROT_EXEC) == 0;
    ::munmap(page, size);
    return may;
}

}  // namespace sluice::plugin
