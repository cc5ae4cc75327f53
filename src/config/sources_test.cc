#include "config/sources.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "config/test_instance.h"

namespace sluice::config {
namespace {

using test::TemporaryFolder;

class Reading : public testing::Test {
protected:
    std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
    std::string make(const std::string& name, const std::string& text) const {
        std::ofstream(path(name), std::ios::binary) << text;
        return path(name);
    }

    TemporaryFolder folder_;
};

TEST_F(Reading, GivesWhatThereIsUpToALimit) {
    const std::string file = make("file", std::string(100'000, 'x') + '\0');
    EXPECT_EQ(read_named(file, 100'001).value().size(), 100'001);
    EXPECT_EQ(read_text(file, 100'001).value().value().size(), 100'001);
    EXPECT_EQ(read_named(file, 100'000).error().code, Errc::too_large);
    EXPECT_EQ(read_text(file, 100'000).error().code, Errc::too_large);
}

TEST_F(Reading, WhatIsNotThere) {
    EXPECT_EQ(read_named(path("missing"), 1).error().code, Errc::not_found);
    EXPECT_EQ(read_text(path("missing"), 1).value(), std::nullopt);
}

// Streams of the standard library throw where reading fails, and not where a file is opened.
TEST_F(Reading, WhatOpensAndCannotBeRead) {
    EXPECT_EQ(read_named(path("."), 1).error().detail, "cannot be read: Is a directory");
    EXPECT_EQ(read_named("/proc/self/mem", 1).error().detail, "cannot be read: Input/output error");
    EXPECT_EQ(read_text(path("."), 1).error().detail, "is not a plain file");
}

TEST_F(Reading, APipeIsReadToItsEndOrRefused) {
    ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
    EXPECT_EQ(read_text(path("pipe"), 10).error().detail, "is not a plain file");
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    ASSERT_EQ(write(ends[1], "from afar", 9), 9);
    close(ends[1]);
    EXPECT_EQ(read_named("/dev/fd/" + std::to_string(ends[0]), 10).value(), "from afar");
    close(ends[0]);
}

}  // namespace
}  // namespace sluice::config
