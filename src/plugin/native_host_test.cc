#include "plugin/native_host.h"

#include <gmock/gmock.h>

#include "plugin/native_test_support.h"

// Loading, against shared objects that are and are not plugins.

namespace sluice::plugin {
namespace {

using delivery::Hook;
using testing::HasSubstr;
using testing::StartsWith;

class NativeHostTest : public testing::Test {
protected:
    std::string load() {
        host_ = std::make_unique<NativeHost>(instance_.settings, log_);
        const Result<> loaded = host_->load();
        return loaded ? std::string() : loaded.error().text();
    }

    NativeInstance instance_;
    LinesLog log_;
    std::unique_ptr<NativeHost> host_;
};

TEST_F(NativeHostTest, LoadsCallsInitAndShutdown) {
    instance_.write("config/probe.ini", "[get_mx]\ncode=900\n[delivered]\ncode=900\n");
    instance_.list("probe", NATIVE_PROBE);
    EXPECT_EQ(load(), "");
    EXPECT_TRUE(host_->wants(Hook::before_attempt));
    EXPECT_TRUE(host_->wants(Hook::delivered));
    EXPECT_FALSE(host_->wants(Hook::deferred));
    EXPECT_FALSE(host_->wants(Hook::bounce));
    EXPECT_EQ(host_->listeners(SLUICE_HOOK_GET_MX).size(), 1U);
    EXPECT_THAT(log_.text(), HasSubstr("probe: the probe is there"));
    host_->end();
    EXPECT_THAT(instance_.read("probe.said"), HasSubstr("shutdown\n"));
    EXPECT_FALSE(host_->abandoned());
}

TEST_F(NativeHostTest, WhatDoesNotLoadIsNamedWithLineAndFile) {
    instance_.write("plain.so", "not a program");
    instance_.write("cut.so", "\177ELF");
    instance_.write("config/failing.ini", "fails=no route to Rome\n");
    instance_.write("config/wrong.ini", "[get_mx]\ncode=900\npriority=101\n");
    const std::string here = instance_.settings.directory;
    struct Case {
        const char* name;
        std::string file, why;
    };
    const std::vector<Case> cases{
        {"absent", here + "/absent.so", "there is no such file"},
        {"plain", here + "/plain.so", "it is no shared object"},
        {"cut", here + "/cut.so", "cut.so"},
        {"other", NATIVE_PROBE_OTHER, "it was made for version 2 of the plugin interface, and this is version 1"},
        {"none", NATIVE_PROBE_NONE, "it does not export `sluice_plugin_entry`"},
        {"failing", NATIVE_PROBE, "its init() fails: no route to Rome"},
        {"wrong", NATIVE_PROBE, "its init() fails: listen() refuses get_mx"},
    };
    for (const Case& of : cases) {
        instance_.settings.native_plugins.clear();
        instance_.list("probe", NATIVE_PROBE);
        instance_.list(of.name, of.file);
        const std::string error = load();
        // Only what init() misses may be there another time.
        const std::string kind = of.why.starts_with("its init()") ? "unreachable" : "config";
        EXPECT_THAT(error, StartsWith(kind + ": config/plugins:2: plugin `" + std::string(of.name) + "`, " + of.file + ": "));
        EXPECT_THAT(error, HasSubstr(of.why));
        EXPECT_FALSE(host_->wants(Hook::before_attempt)) << of.name;
    }
}

TEST_F(NativeHostTest, OnesThatDoNotLoadAreLeftOutWhereTheOperatorSaysSo) {
    instance_.write("config/smtp.ini", "ignore_bad_plugins=true\n");
    instance_.write("config/probe.ini", "[bounce]\ncode=900\n");
    instance_.list("other", NATIVE_PROBE_OTHER);
    instance_.list("probe", NATIVE_PROBE);
    EXPECT_EQ(load(), "");
    EXPECT_TRUE(host_->wants(Hook::bounce));
    EXPECT_THAT(log_.text(), HasSubstr("a plugin does not load and is left out plugin=other"));
}

TEST_F(NativeHostTest, PriorityThenTheListDecidesTheOrder) {
    instance_.write("config/late.ini", "[get_mx]\ncode=900\npriority=10\n");
    instance_.write("config/a.ini", "[get_mx]\ncode=900\n");
    instance_.write("config/b.ini", "[get_mx]\ncode=900\n");
    for (const char* name : {"late", "a", "b"}) instance_.list(name, NATIVE_PROBE);
    EXPECT_EQ(load(), "");
    std::string order;
    for (const NativeListener& listener : host_->listeners(SLUICE_HOOK_GET_MX)) order += listener.module->listed.name + " ";
    EXPECT_EQ(order, "a b late ");
}

TEST_F(NativeHostTest, TheTimeoutIsThePluginsOrElseTheInstances) {
    instance_.write("config/plugin_timeout", "2.5\n");
    instance_.write("config/own.timeout", "0\n");
    instance_.write("config/odd.timeout", "soon\n");
    for (const char* name : {"own", "odd"}) {
        instance_.write("config/" + std::string(name) + ".ini", "[get_mx]\ncode=900\n");
        instance_.list(name, NATIVE_PROBE);
    }
    EXPECT_EQ(load(), "");
    const auto& listeners = host_->listeners(SLUICE_HOOK_GET_MX);
    EXPECT_EQ(listeners[0].module->timeout, std::nullopt);
    EXPECT_EQ(listeners[1].module->timeout, std::chrono::milliseconds(2500));
}

}  // namespace
}  // namespace sluice::plugin
