#include "plugin/native_config.h"

#include <gmock/gmock.h>

#include "plugin/native_event.h"
#include "plugin/native_test_support.h"

namespace sluice::plugin {
namespace {

using testing::HasSubstr;

std::string shown(const sluice_config& config) {
    std::string text;
    for (const sluice_config::Entry& entry : config.entries) {
        text += std::to_string(entry.line) + ":" + entry.section + ":" + entry.key + "=" + entry.value + " ";
    }
    return text;
}

TEST(NativeConfig, ReadsWhatHarakaReads) {
    const NativeInstance instance;
    instance.write("config/a.ini", "x=1\n[s]\ny=2\ny=3\n");
    instance.write("config/l", "# no\none\n\ntwo\n");
    instance.write("config/j.json", R"({"a/b":{"c":[1,"two",true,null]},"":"e"})");
    const auto read = [&](const char* name, int type) {
        const auto config = read_config(instance.settings.directory, name, type);
        return config ? shown(*config) : config.error().detail;
    };
    EXPECT_EQ(read("a.ini", SLUICE_INI), "1:main:x=1 3:s:y=2 4:s:y=3 ");
    EXPECT_EQ(read("l", SLUICE_LIST), "2::=one 4::=two ");
    EXPECT_EQ(read("l", SLUICE_VALUE), "2::=one ");
    EXPECT_EQ(read("j.json", SLUICE_JSON), "0::/a~1b/c/0=1 0::/a~1b/c/1=two 0::/a~1b/c/2=true 0::/a~1b/c/3=null 0::/=e ");
    EXPECT_EQ(read("l", SLUICE_DATA), "0::=# no\none\n\ntwo\n ");
    EXPECT_EQ(read("absent", SLUICE_INI), "");
}

TEST(NativeConfig, RefusesWithTheNameOfTheFile) {
    const NativeInstance instance;
    instance.write("config/j.json", "{");
    std::filesystem::create_directories(instance.settings.directory + "/config/folder");
    const auto refusal = [&](std::string_view name, int type) {
        const auto config = read_config(instance.settings.directory, name, type);
        return config ? "nothing" : config.error().detail;
    };
    EXPECT_THAT(refusal("j.json", SLUICE_JSON), HasSubstr("config/j.json: not JSON"));
    EXPECT_THAT(refusal("j.json", 17), HasSubstr("file type 17"));
    EXPECT_THAT(refusal("folder", SLUICE_DATA), HasSubstr("config/folder: "));
    const std::vector<std::string_view> names{"", "/etc/passwd", "../secret", "a/../../b", std::string_view("a\0b", 3)};
    for (const std::string_view name : names) {
        EXPECT_THAT(refusal(name, SLUICE_DATA), HasSubstr("is not the name of a file in config/"));
    }
}

TEST(NativeConfig, TheLastValueCountsAndStructuresMayBeOlder) {
    const NativeInstance instance;
    instance.write("config/a.ini", "x=1\n[s]\ny=2\ny=3\n");
    const auto config = read_config(instance.settings.directory, "a.ini", SLUICE_INI);
    ASSERT_TRUE(config);
    EXPECT_EQ(view_of(config_get(&*config, "s", "y")), "3");
    EXPECT_EQ(view_of(config_get(&*config, nullptr, "x")), "1");
    EXPECT_EQ(config_get(&*config, nullptr, "y").data, nullptr);
    EXPECT_EQ(config_get(nullptr, nullptr, "y").data, nullptr);
    EXPECT_EQ(config_count(&*config), 3U);

    sluice_config_entry entry{};
    EXPECT_EQ(config_entry(&*config, 0, &entry), -1) << "its size is not set";
    entry.size = offsetof(sluice_config_entry, value);
    EXPECT_EQ(config_entry(&*config, 1, &entry), 0);
    EXPECT_EQ(view_of(entry.section), "s");
    EXPECT_EQ(entry.value.data, nullptr) << "an older structure has no room for it";
    entry.size = sizeof entry;
    EXPECT_EQ(config_entry(&*config, 3, &entry), -1);
}

}  // namespace
}  // namespace sluice::plugin
