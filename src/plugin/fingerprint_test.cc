#include "plugin/fingerprint.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace sluice::plugin {
namespace {

namespace fs = std::filesystem;

TEST(Fingerprint, ChangesWithWhatAPluginIsMadeOf) {
    std::string folder = testing::TempDir() + "fingerprint_XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    const auto write = [&](const std::string& name, const char* text) {
        fs::create_directories(fs::path(folder + "/" + name).parent_path());
        std::ofstream(folder + "/" + name) << text;
    };
    EXPECT_EQ(fingerprint_of(folder + "/absent"), fingerprint_of(folder));
    write("one.js", "1");
    const std::uint64_t one = fingerprint_of(folder);
    EXPECT_EQ(fingerprint_of(folder), one);
    for (const char* ignored : {".one.js.swp", "one.js~", "#one.js#", "node_modules/x/index.js", ".git/index"}) write(ignored, "x");
    EXPECT_EQ(fingerprint_of(folder), one);
    write("queue/two.js", "22");
    const std::uint64_t two = fingerprint_of(folder);
    EXPECT_NE(two, one);
    write("one.js", "1 and more");
    EXPECT_NE(fingerprint_of(folder), two);
    fs::last_write_time(folder + "/queue/two.js", fs::file_time_type::clock::now() + std::chrono::seconds(5));
    const std::uint64_t touched = fingerprint_of(folder);
    EXPECT_NE(touched, two);
    fs::remove(folder + "/queue/two.js");
    EXPECT_NE(fingerprint_of(folder), touched);
    // A folder of plugins that is kept elsewhere, with a link that leads in a circle.
    write("../fingerprint_elsewhere/three.js", "3");
    fs::create_directory_symlink("../fingerprint_elsewhere", folder + "/elsewhere");
    fs::create_directory_symlink("..", folder + "/elsewhere/circle");
    const std::uint64_t linked = fingerprint_of(folder);
    write("elsewhere/three.js", "3 and more");
    EXPECT_NE(fingerprint_of(folder), linked);
    fs::remove_all(folder + "/../fingerprint_elsewhere");
    fs::remove_all(folder);
}

}  // namespace
}  // namespace sluice::plugin
