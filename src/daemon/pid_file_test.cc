#include "daemon/pid_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace sluice::daemon {
namespace {

namespace fs = std::filesystem;

class PidFiles : public testing::Test {
protected:
    PidFiles() {
        std::string name = (fs::temp_directory_path() / "sluice-pid-XXXXXX").string();
        folder_ = mkdtemp(name.data());
    }
    ~PidFiles() override { fs::remove_all(folder_); }
    std::string path(const std::string& name) const { return (folder_ / name).string(); }
    static std::string text_of(const std::string& path) {
        std::string line;
        std::getline(std::ifstream(path), line, '\0');
        return line;
    }
    fs::path folder_;
};

TEST_F(PidFiles, NamesUsAndGoesWithUs) {
    std::ofstream(path("pid")) << "4194304\nand more";
    Result<PidFile> file = PidFile::write(path("pid"));
    ASSERT_TRUE(file) << file.error().text();
    EXPECT_EQ(text_of(path("pid")), std::to_string(::getpid()) + "\n");
    file->remove();
    EXPECT_FALSE(fs::exists(path("pid")));
}

TEST_F(PidFiles, LeavesAlsoWhatSomebodyElsePutInItsPlace) {
    Result<PidFile> file = PidFile::write(path("pid"));
    ASSERT_TRUE(file);
    fs::rename(path("pid"), path("old"));
    std::ofstream(path("pid")) << "1\n";
    file->remove();
    EXPECT_EQ(text_of(path("pid")), "1\n");
    EXPECT_EQ(text_of(path("old")), "");
}

TEST_F(PidFiles, IsNeverAnotherFile) {
    std::ofstream(path("treasure")) << "keep";
    fs::create_symlink(path("treasure"), path("link"));
    fs::create_hard_link(path("treasure"), path("second"));
    fs::create_directory(path("folder"));
    for (const char* name : {"link", "second", "folder", "absent/pid"}) {
        const Result<PidFile> file = PidFile::write(path(name));
        ASSERT_FALSE(file) << name;
        EXPECT_EQ(file.error().detail.find(path(name) + ": "), 0u) << file.error().detail;
    }
    EXPECT_EQ(text_of(path("treasure")), "keep");
}

}  // namespace
}  // namespace sluice::daemon
