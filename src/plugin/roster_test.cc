#include "plugin/roster.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "plugin/requests.h"

namespace sluice::plugin {
namespace {

boost::json::object parsed(const char* text) { return boost::json::parse(text).as_object(); }

TEST(Roster, SaysWhoIsLoadedWhoListensAndWhoIsLeftOut) {
    const Roster roster = roster_of(parsed(R"({
        "roster": {"plugins": [{"name": "a", "path": "/i/plugins/a.js", "timeout": 2.5, "package": false}],
                   "hooks": {"get_mx": [{"plugin": "a", "method": "route", "priority": -7}], "rcpt": [{"plugin": "a", "method": "x"}]}},
        "uncalled": [{"hook": "rcpt", "plugin": "a"}],
        "broken": [{"name": "b", "sentence": "SyntaxError: Unexpected", "reason": "long", "file": "/i/plugins/b.js", "line": 3}],
        "failed": [{"name": "c", "reason": "not there"}]})"));
    ASSERT_EQ(roster.plugins.size(), 1U);
    EXPECT_EQ(roster.plugins[0].timeout_s, 2.5);
    ASSERT_EQ(roster.hooks.size(), 2U);
    EXPECT_TRUE(roster.hooks[0].called);
    EXPECT_EQ(roster.hooks[0].listeners[0].priority, -7);
    EXPECT_FALSE(roster.hooks[1].called);
    ASSERT_EQ(roster.left_out.size(), 2U);
    EXPECT_EQ(roster.left_out[0].place(), "/i/plugins/b.js:3");
    EXPECT_EQ(roster.left_out[0].reason, "SyntaxError: Unexpected");
    EXPECT_EQ(roster.left_out[1].reason, "not there");
    EXPECT_EQ(roster.left_out[1].place(), "");
}

TEST(Roster, NonsenseIsEmpty) {
    for (const char* text : {"{}", R"({"roster":1})", R"({"roster":{"plugins":[1,{}],"hooks":{"x":1}},"broken":[7],"uncalled":{}})"}) {
        EXPECT_TRUE(roster_of(parsed(text)).left_out.empty()) << text;
    }
}

TEST(Chronicle, ANumberThatShrinksIsNotBelieved) {
    Chronicle chronicle;
    Chronicle::Seen seen;
    chronicle.count(parsed(R"({"cpu_ms":50,"rows":[["a","x",5,10,1,3,0,0,4,2]]})"), seen);
    chronicle.count(parsed(R"({"cpu_ms":40,"rows":[["a","x",2,4,1,9,0,0,3,7]]})"), seen);
    chronicle.count(parsed(R"({"cpu_ms":-1,"rows":[["a","x",-3,1e300,"x",9,0,0,-1,"y"]]})"), seen);
    EXPECT_EQ(chronicle.state().counts.at({"a", "x"}).calls, 5U);
    EXPECT_EQ(chronicle.state().counts.at({"a", "x"}).max_ms, 9);
    EXPECT_EQ(chronicle.state().counts.at({"a", "x"}).over_budget, 4U);
    EXPECT_EQ(chronicle.state().counts.at({"a", "x"}).passed_over, 7U);
}

TEST(Chronicle, BlamesOnlyWhoWasCertainlyAtItAndUntilPluginsAreLoadedAgain) {
    Chronicle chronicle;
    const Blame::Limits limits{2, std::chrono::seconds(30)};
    const Blame::Time now{std::chrono::hours(1)};
    HostEnd end;
    end.plugin = "a";
    end.hook = "get_mx";
    for (int i = 0; i < 9; ++i) EXPECT_FALSE(chronicle.blame(end, limits, now));
    end.certain = true;
    EXPECT_FALSE(chronicle.blame(end, limits, now));
    EXPECT_TRUE(chronicle.blame(end, limits, now));
    EXPECT_EQ(chronicle.resting(now).size(), 1U);
    chronicle.reloaded(false);
    EXPECT_EQ(chronicle.resting(now).size(), 1U);
    chronicle.reloaded(true);
    EXPECT_TRUE(chronicle.resting(now).empty());
}

TEST(Roster, SaysWhoIsPassedOver) {
    const auto found = passed_over_of(parsed(R"({"resting":[["a","get_mx",5000],["a",1,5],["b","x"],7,["c","data","soon"]]})"));
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].hook, "get_mx");
    EXPECT_EQ(found[0].until_ms, 5000);
    EXPECT_EQ(found[1].until_ms, 0) << "long over";
    EXPECT_TRUE(passed_over_of(parsed("{}")).empty());
}

TEST(Chronicle, RemembersTheLastEnds) {
    Chronicle chronicle;
    for (int i = 0; i < 100; ++i) {
        HostEnd end;
        end.reason = std::to_string(i);
        chronicle.ended(end);
    }
    EXPECT_EQ(chronicle.state().ends, 100U);
    EXPECT_EQ(chronicle.state().last_ends.size(), 20U);
    EXPECT_EQ(chronicle.state().last_ends.front().reason, "99");
    EXPECT_TRUE(chronicle.state().counts.empty()) << "nobody was to blame";
    HostEnd end;
    end.plugin = "a";
    end.hook = "get_mx";
    for (int i = 0; i < 2; ++i) chronicle.ended(end);
    EXPECT_EQ(chronicle.state().counts.at({"a", "get_mx"}).host_ends, 2U);
}

TEST(Requests, AreReadStrictly) {
    const auto call = call_of(parsed(R"({"method":"POST","path":"/v1/x","query":{"a":"b"},"body":{"c":[1]}})"));
    ASSERT_TRUE(call);
    EXPECT_EQ(call->query.front().second, "b");
    EXPECT_EQ(call->body, R"({"c":[1]})");
    for (const char* bad : {"{}", R"({"method":"PUT","path":"/"})", R"({"method":"GET","path":"x"})", R"({"method":"GET","path":"/","query":{"a":1}})"}) {
        EXPECT_FALSE(call_of(parsed(bad))) << bad;
    }
    EXPECT_EQ(response_text(7, 200, "{\"a\":1}\n"), R"({"t":"response","id":7,"status":200,"body":{"a":1}})");
    EXPECT_EQ(response_text(7, 200, ""), R"({"t":"response","id":7,"status":200,"body":null})");
}

}  // namespace
}  // namespace sluice::plugin
