#include "daemon/reload_desk.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace sluice::daemon {
namespace {

// An instance, its watch, and a desk in front of it.
class Desk : public testing::Test {
protected:
    Desk() {
        std::string place = testing::TempDir() + "/sluice-desk-XXXXXX";
        directory_ = ::mkdtemp(place.data());
        std::filesystem::create_directory(directory_ / "config");
        write("me", "mx.example.com");
        const config::Loaded loaded = config::load(directory_);
        watch_.emplace(loaded.settings, loaded.problems, [this](const config::Reload&) { ++published_; });
    }
    ~Desk() override { std::filesystem::remove_all(directory_); }

    void write(const std::string& file, const std::string& text) { std::ofstream(directory_ / "config" / file) << text << "\n"; }
    bool readable() const {
        pollfd waiting{desk_.fd(), POLLIN, 0};
        return ::poll(&waiting, 1, 0) == 1;
    }
    void ask() {
        desk_.ask([this](const std::optional<config::Reload>& reload) {
            ++answered_;
            answer_ = reload;
        });
    }

    std::filesystem::path directory_;
    std::optional<config::Watch> watch_;
    ReloadDesk desk_;
    std::optional<config::Reload> answer_;
    int published_ = 0, answered_ = 0;
};

TEST_F(Desk, OneReloadAnswersAllWhoAskedBeforeIt) {
    EXPECT_FALSE(readable());
    write("outbound.ini", "concurrency_max=7");
    std::thread([this] { ask(); }).join();
    ask();
    EXPECT_TRUE(readable());
    EXPECT_EQ(answered_, 0) << "the thread that asks does not load";
    desk_.answer(*watch_);
    EXPECT_EQ(answered_, 2);
    EXPECT_EQ(published_, 1);
    ASSERT_TRUE(answer_);
    EXPECT_EQ(answer_->settings->outbound.concurrency_max, 7U);
    EXPECT_FALSE(readable());
}

TEST_F(Desk, NobodyWaitsForAnEngineThatStops) {
    ask();
    desk_.close();
    EXPECT_EQ(answered_, 1);
    EXPECT_FALSE(answer_);
    ask();
    EXPECT_EQ(answered_, 2) << "at once";
    desk_.answer(*watch_);
    EXPECT_EQ(answered_, 2);
}

}  // namespace
}  // namespace sluice::daemon
