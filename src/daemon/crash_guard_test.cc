#include "daemon/crash_guard.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <functional>
#include <vector>

#include "base/assert.h"
#include "base/working_on.h"

namespace sluice::daemon {
namespace {

constexpr MessageId poison{77};
constexpr MessageId other{78};

class CrashGuardTest : public testing::Test {
protected:
    CrashGuardTest() {
        char name[] = "/tmp/sluice-crashes-XXXXXX";
        const int fd = ::mkstemp(name);
        ::close(fd);
        path_ = name;
    }
    ~CrashGuardTest() override { ::unlink(path_.c_str()); }

    // Runs `work` in a process with an armed guard; how it ended, as waitpid() says.
    int in_child(const std::function<void()>& work) const {
        const pid_t child = ::fork();
        if (child == 0) {
            CrashGuard guard(path_);
            const std::array queued{poison, other};
            if (!guard.arm(queued)) ::_exit(9);
            ::close(STDERR_FILENO);
            work();
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return status;
    }

    std::vector<std::string> lines() const {
        std::ifstream file(path_);
        std::vector<std::string> lines;
        for (std::string line; std::getline(file, line);) lines.push_back(line);
        return lines;
    }

    std::string path_;
};

void overflow_the_stack(volatile char* before) {  // NOLINT(misc-no-recursion)
    volatile char block[4096];
    block[0] = before == nullptr ? 'x' : *before;
    overflow_the_stack(block);
    block[1] = block[0];
}

TEST_F(CrashGuardTest, FM_51_EveryKindOfCrashIsNotedWithItsMessage) {
    const std::vector<std::function<void()>> crashes = {
        [] { ::abort(); },
        [] { ASSERT(poison == other); },
        [] { ::raise(SIGSEGV); },
        [] { ::raise(SIGBUS); },
        [] { ::raise(SIGFPE); },
        [] { ::raise(SIGILL); },
        [] { *reinterpret_cast<volatile int*>(16) = 1; },
        [] { overflow_the_stack(nullptr); },
    };
    std::vector<std::string> expected;
    for (const auto& crash : crashes) {
        const int status = in_child([&] {
            const WorkingOn working(poison);
            crash();
        });
        // A sanitizer turns a fault into an exit of its own.
        EXPECT_TRUE(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0));
        expected.push_back(poison.text());
        EXPECT_EQ(lines(), expected);
    }
}

TEST_F(CrashGuardTest, FM_51_AKillOrACrashElsewhereNeverCounts) {
    EXPECT_TRUE(WIFSIGNALED(in_child([] {
        const WorkingOn working(poison);
        ::kill(::getpid(), SIGKILL);
    })));
    EXPECT_TRUE(WIFSIGNALED(in_child([] { ::abort(); })));
    EXPECT_TRUE(WIFSIGNALED(in_child([] {
        { const WorkingOn working(poison); }
        ::abort();
    })));
    EXPECT_EQ(lines(), std::vector<std::string>());
}

TEST_F(CrashGuardTest, FM_51_TheInnermostMessageIsNoted) {
    in_child([] {
        const WorkingOn original(other);
        const WorkingOn notification(poison);
        ::abort();
    });
    EXPECT_EQ(lines(), std::vector<std::string>{poison.text()});
}

TEST_F(CrashGuardTest, FM_51_ThreeCrashesAreAQuarantineUntilItIsForgotten) {
    for (std::uint32_t count = 1; count <= CrashGuard::crashes_max; ++count) {
        in_child([] {
            const WorkingOn working(poison);
            ::abort();
        });
        EXPECT_TRUE(CrashGuard(path_).crashed_on(poison));
        EXPECT_EQ(CrashGuard(path_).quarantined(poison), count == CrashGuard::crashes_max) << count;
        EXPECT_FALSE(CrashGuard(path_).crashed_on(other));
    }
    {
        CrashGuard guard(path_);
        ASSERT_TRUE(guard.arm(std::array{poison}));
        guard.forget(poison);
        EXPECT_FALSE(guard.quarantined(poison));
    }
    EXPECT_FALSE(CrashGuard(path_).crashed_on(poison));
}

TEST_F(CrashGuardTest, WhatIsNotQueuedAnyMoreIsForgottenAtStart) {
    std::ofstream(path_) << poison.text() << "\n" << other.text() << "\nhalf a li";
    {
        CrashGuard guard(path_);
        ASSERT_TRUE(guard.arm(std::array{other}));
    }
    EXPECT_EQ(lines(), std::vector<std::string>{other.text()});
}

}  // namespace
}  // namespace sluice::daemon
