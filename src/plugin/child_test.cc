#include "plugin/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice::plugin {
namespace {

std::string read_all(const net::Descriptor& socket) {
    std::string text;
    for (;;) {
        pollfd ready{socket.get(), POLLIN, 0};
        if (::poll(&ready, 1, 10'000) <= 0) return text + " (nothing came)";
        char bytes[256];
        const ssize_t size = ::read(socket.get(), bytes, sizeof bytes);
        if (size <= 0) return text;
        text.append(bytes, static_cast<std::size_t>(size));
    }
}

TEST(Child, HasItsSocketAndItsNotesAndNothingElse) {
    const int inheritable = ::open("/dev/null", O_RDONLY);
    auto child = Child::start({"sh", "-c", "exec ls /proc/self/fd >&3"});
    ASSERT_TRUE(child) << child.error().text();
    const net::Descriptor socket = child->take_socket();
    const std::string said = read_all(socket);
    // The last one is the folder that is being listed.
    ::close(inheritable);
    EXPECT_EQ(said, "0\n1\n2\n3\n4\n5\n");
}

TEST(Child, NotesOutliveIt) {
    auto child = Child::start({"sh", "-c", "echo here I was >&4; exec sleep 1000"});
    ASSERT_TRUE(child);
    EXPECT_EQ(child->end(), "signal 9");
    const std::string notes = child->take_notes();
    EXPECT_TRUE(notes.empty() || notes == "here I was\n") << "it may have been killed before";
    auto other = Child::start({"sh", "-c", "echo here I was >&4"});
    ASSERT_TRUE(other);
    read_all(other->take_socket());
    EXPECT_EQ(other->take_notes(), "here I was\n");
    EXPECT_EQ(other->take_notes(), "");
}

TEST(Child, TheEndIsToldAsItWas) {
    auto child = Child::start({"sh", "-c", "exit 7"});
    ASSERT_TRUE(child);
    read_all(child->take_socket());  // until it has gone
    for (std::string end; end.empty();) {
        const std::string state = "/proc/" + std::to_string(child->id()) + "/stat";
        std::FILE* file = std::fopen(state.c_str(), "re");
        char letter = 'Z';
        if (file != nullptr && std::fscanf(file, "%*d %*s %c", &letter) != 1) letter = 'Z';
        if (file != nullptr) std::fclose(file);
        if (letter == 'Z') end = child->end();
        if (!end.empty()) {
            EXPECT_EQ(end, "exit code 7");
        }
    }
}

TEST(Child, IsKilledWhenItGoesOutOfScope) {
    pid_t pid = 0;
    {
        auto child = Child::start({"sleep", "1000"});
        ASSERT_TRUE(child);
        pid = child->id();
        EXPECT_GT(child->resident_bytes(), 0U);
    }
    EXPECT_NE(::kill(pid, 0), 0);
}

TEST(Child, AProgramThatIsNotThereIsNamed) {
    const auto child = Child::start({"/no/such/program"});
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::not_found);
    EXPECT_NE(child.error().detail.find("/no/such/program"), std::string::npos);
}

TEST(Child, KnowsWhetherItMayMakeCode) {
    EXPECT_TRUE(may_make_code());
    constexpr int set_mdwe = 65, refuse_exec_gain = 1;  // PR_SET_MDWE of Linux 6.3
    constexpr int forbidden = 10, allowed = 11, not_known = 12;
    const pid_t pid = ::fork();
    if (pid == 0) {
        if (::prctl(set_mdwe, refuse_exec_gain, 0, 0, 0) != 0) ::_exit(not_known);
        ::_exit(may_make_code() ? allowed : forbidden);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == not_known) GTEST_SKIP() << "this kernel cannot forbid it";
    EXPECT_EQ(WEXITSTATUS(status), forbidden);
}

}  // namespace
}  // namespace sluice::plugin
