#include "plugin/plan.h"

#include <gmock/gmock.h>

#include "plugin/native_host.h"
#include "plugin/native_test_support.h"

// Native and JavaScript plugins in one order.

namespace sluice::plugin {
namespace {

using delivery::Hook;

class PlanTest : public testing::Test {
protected:
    // A native plugin after so many JavaScript plugins, listening to `hooks`.
    void native(const std::string& name, std::size_t after, const std::vector<std::string>& hooks, int priority = 0) {
        std::string text;
        for (const std::string& hook : hooks) text += "[" + hook + "]\ncode=900\npriority=" + std::to_string(priority) + "\n";
        instance_.write("config/" + name + ".ini", text);
        instance_.list(name, NATIVE_PROBE, after);
    }
    void javascript(const std::string& hook, double place, double priority = 0) {
        listeners_.known = true;
        listeners_.places[hook].push_back({priority, place});
    }
    std::string plan_of(Hook hook, bool with_host = true) {
        if (!host_) {
            host_ = std::make_unique<NativeHost>(instance_.settings, log_);
            EXPECT_TRUE(host_->load());
        }
        std::string text;
        for (const Step& step : plan(hook, *host_, with_host ? &listeners_ : nullptr)) {
            text += step.native != nullptr ? step.native->module->listed.name + "." + name_of_hook(step.number) : "js" + step.spans;
            text += " ";
        }
        return text;
    }

    NativeInstance instance_;
    LinesLog log_;
    JavaScriptListeners listeners_;
    std::unique_ptr<NativeHost> host_;
};

TEST_F(PlanTest, WithoutNativePluginsOfAHookTheHostIsAskedAsEver) {
    native("a", 0, {"delivered"});
    EXPECT_EQ(plan_of(Hook::before_attempt), "js ");
    EXPECT_EQ(plan_of(Hook::before_attempt, false), "");
}

TEST_F(PlanTest, AHostWhosePluginsDoNotListenIsNotAsked) {
    native("a", 1, {"send_email", "get_mx"});
    EXPECT_EQ(plan_of(Hook::before_attempt, false), "a.send_email a.get_mx ");
    javascript("delivered", 0);
    EXPECT_EQ(plan_of(Hook::before_attempt), "a.send_email a.get_mx ");
    EXPECT_EQ(plan_of(Hook::delivered), "js ");
}

TEST_F(PlanTest, ThePlaceInTheListDecides) {
    native("first", 0, {"get_mx"});
    native("middle", 1, {"get_mx"});
    native("beside", 1, {"get_mx"});
    native("last", 2, {"get_mx"});
    javascript("get_mx", 0);
    javascript("get_mx", 1);
    EXPECT_EQ(
        plan_of(Hook::before_attempt),
        "first.get_mx js{\"get_mx\":[[0E0,-5E-1],[0E0,5E-1]]} middle.get_mx beside.get_mx js{\"get_mx\":[[0E0,5E-1],[0E0,1.5E0]]} "
        "last.get_mx ");
}

TEST_F(PlanTest, PriorityGoesBeforeThePlace) {
    native("early", 2, {"deferred"}, -10);
    javascript("deferred", 0);
    javascript("deferred", 1, -20);
    EXPECT_EQ(plan_of(Hook::deferred), "js{\"deferred\":[null,[-1E1,1.5E0]]} early.deferred js{\"deferred\":[[-1E1,1.5E0],null]} ");
}

TEST_F(PlanTest, PartsThatFollowEachOtherAreOneQuestion) {
    native("a", 0, {"send_email"});
    javascript("send_email", 0);
    javascript("get_mx", 0);
    EXPECT_EQ(plan_of(Hook::before_attempt), "a.send_email js{\"send_email\":[[0E0,-5E-1],null],\"get_mx\":[null,null]} ");
}

TEST_F(PlanTest, AHostThatHasNotToldMayHaveListenersAnywhere) {
    native("a", 1, {"bounce"});
    EXPECT_EQ(plan_of(Hook::bounce), "js{\"bounce\":[null,[0E0,5E-1]]} a.bounce js{\"bounce\":[[0E0,5E-1],null]} ");
}

TEST_F(PlanTest, AHookOfMailInIsTakenApart) {
    native("a", 1, {"rcpt"});
    native("b", 2, {"rcpt"});
    plan_of(Hook::bounce);  // loads them
    const auto steps = [&](const JavaScriptListeners* host) {
        std::string text;
        for (const Step& step : plugin::plan_of(SLUICE_HOOK_RCPT, *host_, host)) {
            text += (step.native != nullptr ? step.native->module->listed.name : step.spans) + " ";
        }
        return text;
    };
    EXPECT_EQ(steps(nullptr), "a b ");
    EXPECT_EQ(steps(&listeners_), "[null,[0E0,5E-1]] a [[0E0,5E-1],[0E0,1.5E0]] b [[0E0,1.5E0],null] ") << "nobody has told";
    javascript("rcpt", 0);
    javascript("rcpt", 0, 7);
    EXPECT_EQ(steps(&listeners_), "[null,[0E0,5E-1]] a b [[0E0,1.5E0],null] ");
}

}  // namespace
}  // namespace sluice::plugin
