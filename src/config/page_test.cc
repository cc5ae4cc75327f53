#include "config/page.h"

#include <gmock/gmock.h>

#include <set>

#include "config/instance.h"
#include "config/load.h"
#include "config/schema.h"
#include "config/test_instance.h"

namespace sluice::config {
namespace {

using test::slurp;
using test::TemporaryFolder;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(ReferencePage, IsFresh) {
    const test::fs::path page = test::fs::path(SLUICE_SOURCE_DIR) / "docs/reference/settings.md";
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) {
        test::fs::create_directories(page.parent_path());
        std::ofstream(page) << reference_page();
    }
    EXPECT_TRUE(slurp(page) == reference_page()) << "docs/reference/settings.md is stale: run config_test "
                                                    "with SLUICE_WRITE_EXPECTED=1 and commit the page";
}

TEST(Schema, DeclaresEverySettingOnceWithWords) {
    std::set<std::string> names;
    for (const Setting& setting : schema()) {
        EXPECT_TRUE(names.insert(setting.name()).second) << setting.name();
        EXPECT_FALSE(setting.doc.empty()) << setting.name();
        EXPECT_FALSE(setting.kind.words.empty()) << setting.name();
    }
}

// What `show` says of a default can be written into the file and means the same.
TEST(Schema, DefaultsAreLegalValues) {
    for (const Setting& setting : schema()) {
        Settings settings = default_settings();
        const std::string shown = setting.kind.show(settings);
        if (shown.empty() || setting.format != Format::ini || setting.key.empty()) continue;
        EXPECT_THAT(setting.kind.assign(settings, {{shown, 1}}), IsEmpty())
            << setting.name() << " = " << shown;
        EXPECT_EQ(setting.kind.show(settings), shown) << setting.name();
    }
}

TEST(Init, MakesAnInstanceThatLoadsWithoutErrors) {
    const TemporaryFolder parent;
    const std::string directory = parent.text() + "/new/instance";
    const auto report = init(directory);
    ASSERT_TRUE(report) << report.error().detail;
    EXPECT_THAT(report->created, Contains("config/outbound.ini"));
    EXPECT_THAT(report->kept, IsEmpty());
    for (const char* folder : {"plugins", "queue", "log", "run"})
        EXPECT_TRUE(test::fs::is_directory(directory + "/" + folder));

    const Loaded loaded = load(directory);
    ASSERT_NE(loaded.settings, nullptr);
    EXPECT_THAT(loaded.settings->smtp.listen, ElementsAre("[::0]:25"));
    EXPECT_THAT(loaded.settings->relay.acl_allow, ElementsAre("127.0.0.0/8", "::1"));
    EXPECT_THAT(loaded.settings->http.listen, IsEmpty());
}

// Every commented default, once its semicolon is gone, is what the engine assumes anyway.
TEST(Init, CommentsTellTheTruthAboutDefaults) {
    const TemporaryFolder instance;
    ASSERT_TRUE(init(instance.text()));
    const Loaded before = load(instance.text());
    for (const char* file :
         {"smtp.ini", "connection.ini", "outbound.ini", "log.ini", "net-utils.ini", "spool.ini"}) {
        const std::string written = slurp(instance.path() / "config" / file);
        std::string text;
        for (const std::string_view line : split_lines(written)) {
            const bool value = line.starts_with(";") && !line.starts_with("; ") && !line.ends_with("=");
            text.append(value ? line.substr(1) : line).append("\n");
        }
        instance.write(std::string("config/") + file, text);
    }
    const Loaded after = load(instance.text());
    ASSERT_NE(after.settings, nullptr);
    for (const Setting& setting : schema()) {
        EXPECT_EQ(setting.kind.show(*after.settings), setting.kind.show(*before.settings)) << setting.name();
    }
}

TEST(Init, NeverOverwrites) {
    const TemporaryFolder instance;
    instance.write("config/smtp.ini", "listen=127.0.0.1:2600\n");
    test::fs::create_symlink("/nonexistent/target", instance.path() / "config/log.ini");
    const auto report = init(instance.text());
    ASSERT_TRUE(report);
    EXPECT_THAT(report->kept, UnorderedElementsAre("config/", "config/smtp.ini", "config/log.ini"));
    EXPECT_EQ(slurp(instance.path() / "config/smtp.ini"), "listen=127.0.0.1:2600\n");
    EXPECT_FALSE(test::fs::exists("/nonexistent/target"));

    const auto again = init(instance.text());
    ASSERT_TRUE(again);
    EXPECT_THAT(again->created, IsEmpty());
}

TEST(Init, SaysWhatIsInTheWay) {
    const TemporaryFolder instance;
    instance.write("log", "a file\n");
    const auto report = init(instance.text());
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::disk_failed);
    EXPECT_THAT(report.error().detail, HasSubstr("/log: "));
}

TEST(Init, KeepsPasswordsFromOthers) {
    const TemporaryFolder instance;
    ASSERT_TRUE(init(instance.text()));
    for (const char* file : {"auth_flat_file.ini", "http.ini", "relay_dest_domains.ini"}) {
        const auto permissions = test::fs::status(instance.path() / "config" / file).permissions();
        EXPECT_EQ(permissions & test::fs::perms::others_all, test::fs::perms::none) << file;
    }
}

TEST(InitDemo, KeepsAllMailOnThisMachine) {
    const TemporaryFolder instance;
    ASSERT_TRUE(init_demo(instance.text()));
    const Loaded loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr);
    EXPECT_THAT(loaded.problems, IsEmpty());
    EXPECT_THAT(loaded.settings->smtp.listen, ElementsAre("127.0.0.1:2525"));
    EXPECT_THAT(loaded.settings->http.listen, ElementsAre("127.0.0.1:8026"));
    EXPECT_THAT(loaded.settings->relay.acl_allow, ElementsAre("127.0.0.0/8", "::1"));
    EXPECT_TRUE(loaded.settings->relay.force_routing);
    ASSERT_TRUE(loaded.settings->relay.any);
    EXPECT_EQ(loaded.settings->relay.any->nexthop, "127.0.0.1:2526");
}

}  // namespace
}  // namespace sluice::config
