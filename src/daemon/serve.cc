#include "daemon/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/text.h"
#include "config/watch.h"
#include "daemon/engine.h"
#include "daemon/privileges.h"
#include "daemon/supervisor.h"
#include "daemon/watchdog.h"
#include "event/line_writer.h"
#include "net/socket.h"

extern "C" int mallctl(const char* name, void* old, std::size_t* old_size, void* value, std::size_t size) __attribute__((weak));

namespace sluice::daemon {
namespace {

constexpr int exit_config = 78;    // EX_CONFIG of sysexits.h
constexpr int exit_tempfail = 75;  // EX_TEMPFAIL

// Signals that arrive through a descriptor instead of interrupting threads. Blocked in every thread made afterwards.
int open_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    return ::signalfd(-1, &signals, SFD_CLOEXEC);
}

// Every connection is a descriptor: take as many as we are allowed.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

void print_problems(const std::vector<Problem>& problems) {
    for (const Problem& problem : problems) std::fprintf(stderr, "%s\n", problem.text().c_str());
}

// Waits for signals, changed files and who asks for a reload. Returns when asked to stop.
void watch(Engine& engine, int signals, std::vector<Problem> problems) {
    config::Watch files(engine.settings(), std::move(problems), [&](const config::Reload& change) { engine.take(change); });
    if (const Result<> started = files.start(); !started) {
        engine.log().warn("config", "changes are not seen before a reload is asked for", {{"reason", started.error().text()}});
    }
    for (;;) {
        std::array waiting{
            pollfd{signals, POLLIN, 0}, pollfd{files.fd(), POLLIN, 0}, pollfd{engine.reload_desk().fd(), POLLIN, 0}};
        const int ready = ::poll(waiting.data(), waiting.size(), -1);
        if (ready < 0 && errno != EINTR) return;
        if ((waiting[1].revents & POLLIN) != 0) files.on_readable();
        if ((waiting[2].revents & POLLIN) != 0) engine.reload_desk().answer(files);
        if ((waiting[0].revents & POLLIN) == 0) continue;
        signalfd_siginfo signal{};
        if (::read(signals, &signal, sizeof signal) != sizeof signal) return;
        if (signal.ssi_signo != SIGHUP) return;
        engine.log().info("core", "flushing the queue");
        engine.flush_queue();
    }
}

// Where jemalloc is linked: freed memory goes back to the kernel after some seconds also from threads that allocate nothing
// any more, such as the one that recovered a million items. It starts a thread: not before a fork, and not with more rights
// than the others.
void give_memory_back() {
    if (mallctl == nullptr) return;
    bool wanted = true;
    mallctl("background_thread", nullptr, nullptr, &wanted, sizeof wanted);
}

// What cannot work is said before the terminal is gone.
Result<> go_to_background(const config::SmtpSettings& smtp) {
    net::Descriptor log;
    if (!smtp.daemon_log_file.empty()) {
        log = net::Descriptor(event::open_for_lines(smtp.daemon_log_file));
        const int error = errno;
        if (!log.valid()) return fail(Errc::disk_failed, "daemon_log_file of smtp.ini: " + smtp.daemon_log_file + ": " + std::generic_category().message(error));
    }
    if (::daemon(1, 0) != 0) return fail(Errc::out_of_resources, "cannot become a daemon: " + std::generic_category().message(errno));
    if (!log.valid()) return {};
    for (const int output : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(log.get(), output);
    return {};
}

int exit_code_of(Errc code) {
    if (code == Errc::config) return exit_config;
    return code == Errc::locked ? exit_tempfail : 1;
}

int give_up(const Error& error) {
    std::fprintf(stderr, "sluice: %s\n", printable(error.text()).c_str());
    return exit_code_of(error.code);
}

}  // namespace

int serve(const std::string& directory) {
    config::Loaded loaded = config::load(directory);
    print_problems(loaded.problems);
    if (!loaded.settings) return exit_config;

    if (loaded.settings->smtp.daemonize) {
        if (const Result<> gone = go_to_background(loaded.settings->smtp); !gone) return give_up(gone.error());
    }
    forbid_new_privileges();
    give_memory_back();
    const int signals = open_signals();
    raise_descriptor_limit();
    // From the beginning: keys and passwords are in memory already.
    settle_core_dumps(loaded.settings->smtp.core_dumps);
    Supervisor supervisor = Supervisor::from_environment();
    supervisor.status("reading the queue");
    const std::vector<Problem> problems = loaded.problems;
    Engine engine(std::move(loaded), supervisor);
    if (const Result<> started = engine.start(); !started) return give_up(started.error());
    supervisor.ready("serving");
    {
        const Watchdog watchdog(supervisor, engine.log(), engine.vigil(), engine.spool());
        watch(engine, signals, problems);
        supervisor.stopping("finishing deliveries");
    }
    engine.stop();
    ::close(signals);
    return 0;
}

}  // namespace sluice::daemon
