#include "daemon/watchdog.h"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace sluice::daemon {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

// The supervisor's end of the notification socket.
class Listener {
public:
    Listener() : folder_((std::filesystem::temp_directory_path() / "sluice-notify-XXXXXX").string()) {
        EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
        fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path().copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        const timeval patience{20, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    ~Listener() {
        ::close(fd_);
        std::filesystem::remove_all(folder_);
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    std::string path() const { return folder_ + "/socket"; }
    std::string next() {
        std::array<char, 4096> buffer{};
        const ssize_t length = ::recv(fd_, buffer.data(), buffer.size(), 0);
        return length < 0 ? "nothing came" : std::string(buffer.data(), static_cast<std::size_t>(length));
    }
    // The next message that is not `skipped`.
    std::string next_but(const std::string& skipped) {
        for (;;) {
            std::string message = next();
            if (message != skipped) return message;
        }
    }
    bool silent() {
        char octet = 0;
        return ::recv(fd_, &octet, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
    }

private:
    std::string folder_;
    int fd_ = -1;
};

class SilentLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(
        event::Level level, std::string_view, std::string_view, std::string_view sentence,
        std::initializer_list<event::Field>) override {
        if (level <= event::Level::error) ++errors;
        if (sentence == "the disk does not answer") ++disk_warnings;
    }
    std::atomic<int> errors = 0, disk_warnings = 0;
};

class FakeSpool final : public spool::Spool {
public:
    void append(spool::Batch, spool::CommitListener*, std::uint64_t) override {}
    Result<mail::MessagePtr> load(MessageId) override { return fail(Errc::not_found, ""); }
    spool::Status status() const override { return {}; }
    bool accepting() const override { return true; }
    void close() override {}
    spool::Pulse pulse() const override { return {steps, idle, at_disk}; }
    std::atomic<std::uint64_t> steps = 0;
    std::atomic<bool> idle = true, at_disk = false;
};

TEST(Vigil, IsAliveWhenEveryPartHasWorkedSince) {
    Vigil vigil;
    Sign a, b;
    vigil.watch("a", [&] { return a; });
    vigil.watch("b", [&] { return b; });
    EXPECT_TRUE(vigil.all_alive());
    EXPECT_FALSE(vigil.all_alive());
    ++a.steps;
    EXPECT_FALSE(vigil.all_alive());
    EXPECT_THAT(vigil.silent(), ElementsAre("b"));
    // Signs add up: the parts need not work in the same moment.
    ++b.steps;
    EXPECT_TRUE(vigil.all_alive());
    EXPECT_FALSE(vigil.all_alive());
}

TEST(Vigil, ExcusesWhoHasNothingToDo) {
    Vigil vigil;
    Sign idle{7, true};
    vigil.watch("idle", [&] { return idle; });
    for (int look = 0; look < 5; ++look) EXPECT_TRUE(vigil.all_alive());
    idle.excused = false;
    EXPECT_FALSE(vigil.all_alive());
}

TEST(Vigil, AsksAQueueOnceUntilItAnswers) {
    Vigil vigil;
    std::vector<std::function<void()>> queue;
    vigil.watch_queue("queue", [&](std::function<void()> call) { queue.push_back(std::move(call)); });
    EXPECT_TRUE(vigil.all_alive());
    for (int look = 0; look < 5; ++look) EXPECT_FALSE(vigil.all_alive());
    ASSERT_EQ(queue.size(), 1U);
    queue[0]();
    EXPECT_TRUE(vigil.all_alive());
    EXPECT_EQ(queue.size(), 2U);
}

TEST(Supervisor, SpeaksTheProtocol) {
    Listener listener;
    Supervisor supervisor(listener.path());
    supervisor.status("reading\nREADY=1");
    EXPECT_EQ(listener.next(), "STATUS=reading READY=1");
    supervisor.status("reading\nREADY=1");  // the same: not sent again
    supervisor.ready("serving");
    EXPECT_EQ(listener.next(), "READY=1\nSTATUS=serving");
    supervisor.reloading("applying");
    EXPECT_THAT(listener.next(), testing::MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=applying"));
    supervisor.stopping("bye");
    EXPECT_EQ(listener.next(), "STOPPING=1\nSTATUS=bye");
    EXPECT_FALSE(supervisor.patience());
}

// No other thread looks at the environment.
void set_variable(const char* name, const std::string& value) {
    ::setenv(name, value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
}

TEST(Supervisor, TakesItsOrdersFromTheEnvironment) {
    Listener listener;
    set_variable("NOTIFY_SOCKET", listener.path());
    set_variable("WATCHDOG_USEC", "3000000");
    set_variable("WATCHDOG_PID", std::to_string(::getpid()));
    EXPECT_EQ(Supervisor::from_environment().patience(), microseconds(3'000'000));
    EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);  // not for children
    EXPECT_EQ(std::getenv("WATCHDOG_USEC"), nullptr);
    // Somebody else is to be watched.
    set_variable("NOTIFY_SOCKET", listener.path());
    set_variable("WATCHDOG_USEC", "3000000");
    set_variable("WATCHDOG_PID", "1");
    EXPECT_EQ(Supervisor::from_environment().patience(), std::nullopt);
    // Nobody listens.
    Supervisor alone = Supervisor::from_environment();
    alone.ready("serving");
    EXPECT_TRUE(listener.silent());
}

TEST(Supervisor, DoesNotMindThatNobodyIsThere) {
    Supervisor supervisor("/nonexistent/socket", microseconds(1000));
    supervisor.ready("serving");
    Supervisor too_long(std::string(500, 'x'));
    too_long.alive();
}

TEST(Watchdog, FallsSilentWithAThreadThatHangs) {
    Listener listener;
    SilentLog log;
    const FakeSpool spool;
    Supervisor supervisor(listener.path(), milliseconds(40));
    std::atomic<std::uint64_t> steps = 0;
    std::atomic<bool> hangs = false;
    Vigil vigil;
    vigil.watch("worker", [&] { return Sign{hangs ? steps.load() : ++steps, false}; });
    const Watchdog watchdog(supervisor, log, std::move(vigil), spool);
    for (int beat = 0; beat < 5; ++beat) EXPECT_EQ(listener.next_but("STATUS=serving"), "WATCHDOG=1");
    hangs = true;
    std::string last;
    while ((last = listener.next()) == "WATCHDOG=1") {}
    EXPECT_EQ(last, "STATUS=no progress: worker");
    EXPECT_EQ(log.errors, 1);
    ::usleep(100'000);
    EXPECT_TRUE(listener.silent());
    hangs = false;
    EXPECT_EQ(listener.next(), "WATCHDOG=1");
}

TEST(Watchdog, GoesOnWhileADiskHangs) {
    Listener listener;
    SilentLog log;
    FakeSpool spool;
    Supervisor supervisor(listener.path(), milliseconds(40));
    Vigil vigil;
    vigil.watch("spool", [&] { return Sign{spool.steps, spool.at_disk || spool.idle}; });
    spool.idle = false;
    spool.at_disk = true;
    const Watchdog watchdog(supervisor, log, std::move(vigil), spool);
    EXPECT_THAT(
        [&] {
            std::string message;
            while (!(message = listener.next()).starts_with("STATUS=waiting")) {}
            return message;
        }(),
        HasSubstr("for a disk that has not answered"));
    for (int beat = 0; beat < 10; ++beat) {
        std::string message;
        while ((message = listener.next()).starts_with("STATUS=")) {}
        EXPECT_EQ(message, "WATCHDOG=1");
    }
    EXPECT_EQ(log.disk_warnings, 1);
    EXPECT_EQ(log.errors, 0);
    // The disk answers, but now the writer itself hangs.
    spool.at_disk = false;
    std::string message;
    while (!(message = listener.next()).starts_with("STATUS=no")) {}
    EXPECT_EQ(message, "STATUS=no progress: spool");
}

TEST(Watchdog, DoesNothingWhenNobodyWatches) {
    Listener listener;
    SilentLog log;
    const FakeSpool spool;
    Supervisor supervisor(listener.path());
    { const Watchdog watchdog(supervisor, log, Vigil(), spool); }
    EXPECT_TRUE(listener.silent());
}

}  // namespace
}  // namespace sluice::daemon
