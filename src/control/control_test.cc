#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include "async/task_group.h"
#include "control/control_test_support.h"
#include "control/http.h"
#include "control/routes.h"

namespace sluice::control {
namespace {

using testing::HasSubstr;

Task<> keep(Backend& backend, HttpRequest request, HttpReply& reply) { reply = co_await answer(backend, std::move(request)); }

HttpReply ask(FakeBackend& backend, HttpRequest request) {
    boost::asio::io_context loop;
    async::TaskGroup tasks(loop.get_executor());
    HttpReply reply;
    tasks.spawn(keep(backend, std::move(request), reply));
    loop.run();
    return reply;
}

HttpRequest post(std::string path, std::string body, std::string type = "application/json") {
    HttpRequest request;
    request.method = "POST";
    request.path = std::move(path);
    request.body = std::move(body);
    request.content_type = std::move(type);
    return request;
}

TEST(Routes, CommandsNameExactlyOneThing) {
    FakeBackend backend;
    EXPECT_EQ(ask(backend, post("/v1/queue/flush", R"({"domain":"X.test"})")).status, 200);
    EXPECT_EQ(backend.asked, "command x.test");
    for (const char* bad : {"{}", R"({"all":false})", R"({"all":true,"domain":"x"})", R"({"item":"nonsense"})", R"({"colour":1})"}) {
        EXPECT_EQ(ask(backend, post("/v1/queue/delete", bad)).status, 422) << bad;
    }
    EXPECT_EQ(ask(backend, post("/v1/queue/delete", "{")).status, 400);
    EXPECT_EQ(ask(backend, post("/v1/queue/delete", "[]")).status, 400);
}

HttpRequest get(std::string path, std::vector<std::pair<std::string, std::string>> query = {}) {
    HttpRequest request;
    request.method = "GET";
    request.path = std::move(path);
    request.query = std::move(query);
    return request;
}

TEST(Routes, CommandsForManyNeedAFilterOrAll) {
    FakeBackend backend;
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs", R"({"action":"delete","where":"age>2h"})")).status, 202);
    EXPECT_EQ(backend.asked, "start delete age>2h");
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs", R"({"action":"hold","all":true,"dry_run":true})")).body, "{\"matched\":5}\n");
    EXPECT_EQ(backend.asked, "count hold ");
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs", R"({"action":"change","where":"x=1","tenant":"t","priority":7})")).status, 202);
    EXPECT_EQ(backend.asked, "start change x=1t1:tp1:7");
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs", R"({"action":"bounce","where":"x=1","reason":"why"})")).status, 202);
    EXPECT_EQ(backend.asked, "start bounce x=1why");
    backend.asked.clear();
    const struct {
        const char* body;
        const char* field;
    } rows[] = {
        {R"({})", "action"},
        {R"({"action":"delete"})", "where"},
        {R"({"action":"delete","where":" "})", "where"},
        {R"({"action":"delete","where":"x","all":true})", "where"},
        {R"({"action":"delete","where":7})", "where"},
        {R"({"action":"delete","where":"x","reason":"y"})", "reason"},
        {R"({"action":"delete","where":"x","tenant":"y"})", "tenant"},
        {R"({"action":"change","where":"x"})", "action"},
        {R"({"action":"change","where":"x","priority":8})", "priority"},
        {R"({"action":"change","where":"x","colour":"y"})", "colour"},
        {R"({"action":"bounce","where":"x","reason":"a\nb"})", "reason"},
        {R"({"action":"delte","where":"x"})", "action"},
    };
    for (const auto& row : rows) {
        const HttpReply refused = ask(backend, post("/v1/queue/jobs", row.body));
        EXPECT_EQ(refused.status, 422) << row.body;
        EXPECT_EQ(boost::json::parse(refused.body).at("field").as_string(), row.field) << row.body;
    }
    EXPECT_EQ(backend.asked, "");
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs", R"({"action":"delete","all":true})", "text/plain")).status, 415);
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs/4/cancel", "{}", "text/plain")).status, 415);
}

TEST(Routes, JobsAreListedShownAndCancelled) {
    FakeBackend backend;
    EXPECT_THAT(ask(backend, get("/v1/queue/jobs")).body, HasSubstr(R"("job":4,"action":"hold","where":"age>1h","state":"running","matched":9,"done":3)"));
    EXPECT_EQ(ask(backend, get("/v1/queue/jobs/4")).status, 200);
    for (const char* none : {"5", "x", "", "-4", "99999999999999999999999"}) EXPECT_EQ(ask(backend, get(std::string("/v1/queue/jobs/") + none)).status, 404);
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs/4/cancel", "{}")).status, 200);
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs/5/cancel", "{}")).status, 404);
    EXPECT_EQ(ask(backend, post("/v1/queue/jobs/x/cancel", "{}")).status, 404);
}

TEST(Routes, ImportsAreBegunLookedAtAndCancelled) {
    FakeBackend backend;
    EXPECT_EQ(ask(backend, post("/v1/queue/import", R"({"directory":"/q","dry_run":true,"force":true})")).status, 202);
    EXPECT_EQ(backend.asked, "import /q dry force");
    EXPECT_THAT(ask(backend, get("/v1/queue/import")).body, HasSubstr(R"("left":1,"left_files":[{"file":"1_2_0_1_aB3dE9_1_mx","offset":4,)"));
    EXPECT_EQ(ask(backend, post("/v1/queue/import/cancel", "{}")).status, 404);
    backend.asked.clear();
    for (const char* bad : {R"({})", R"({"directory":"q"})", R"({"directory":7})", R"({"directory":"/q","force":"yes"})", R"({"directory":"/q","all":true})",
                            R"({"directory":"/q\u0000x"})"}) {
        EXPECT_EQ(ask(backend, post("/v1/queue/import", bad)).status, 422) << bad;
    }
    EXPECT_EQ(backend.asked, "");
    EXPECT_EQ(boost::json::parse(ask(backend, post("/v1/queue/import", R"({"directory":"/gone"})")).body).at("field").as_string(), "directory");
    EXPECT_EQ(ask(backend, post("/v1/queue/import", R"({"directory":"/q"})", "text/plain")).status, 415);
}

TEST(Routes, QuestionsAboutTheWholeQueue) {
    FakeBackend backend;
    EXPECT_EQ(ask(backend, get("/v1/queue/groups", {{"by", "domain, tenant"}, {"where", "age>1h"}})).status, 200);
    EXPECT_EQ(backend.asked, "survey age>1h by 2");
    EXPECT_EQ(boost::json::parse(ask(backend, get("/v1/queue/groups", {{"where", "x"}})).body).at("field").as_string(), "x");
    EXPECT_EQ(ask(backend, get("/v1/queue/groups", {{"limit", "0"}})).status, 422);
    EXPECT_EQ(ask(backend, get("/v1/queue/groups", {{"colour", "0"}})).status, 422);
    EXPECT_EQ(ask(backend, get("/v1/buckets", {{"policy", "p"}, {"waiting", "true"}})).status, 200);
    EXPECT_EQ(backend.asked, "buckets p waiting");
    EXPECT_EQ(ask(backend, get("/v1/buckets", {{"waiting", "maybe"}})).status, 422);
    EXPECT_EQ(ask(backend, get("/v1/explain", {{"what", "a.test"}})).status, 200);
    EXPECT_EQ(backend.asked, "explain a.test");
    EXPECT_EQ(ask(backend, get("/v1/explain")).status, 422);
}

TEST(Routes, APageNamesTheNextOne) {
    FakeBackend backend;
    HttpRequest list;
    list.method = "GET";
    list.path = "/v1/queue";
    list.query = {{"limit", "7"}, {"cursor", "9-34"}};
    EXPECT_EQ(ask(backend, list).body, "{\"items\":[],\"cursor\":\"9-41\"}\n");
    EXPECT_EQ(backend.asked, "list   7 9-34");
    list.query = {{"limit", "8"}};
    EXPECT_EQ(ask(backend, list).body, "{\"items\":[]}\n");
}

TEST(Routes, WEB_1_AFormCannotChangeState) {
    FakeBackend backend;
    for (const char* type : {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}) {
        EXPECT_EQ(ask(backend, post("/v1/queue/delete", R"({"all":true})", type)).status, 415) << type;
        EXPECT_EQ(ask(backend, post("/v1/reload", "{}", type)).status, 415) << type;
    }
    HttpRequest get;
    get.method = "GET";
    get.path = "/v1/queue/delete";
    EXPECT_EQ(ask(backend, get).status, 404);
    EXPECT_EQ(backend.asked, "");
}

TEST(Routes, InjectionNamesTheFieldThatIsWrong) {
    FakeBackend backend;
    const auto good = ask(backend, post("/v1/messages", R"({"from":"a@b.test","to":["c@d.test"],"message":"x"})"));
    EXPECT_EQ(good.status, 202);
    EXPECT_EQ(backend.asked, "inject a@b.test 1 ");
    const auto none = ask(backend, post("/v1/messages", R"({"from":"a@b.test","to":[],"message":"x"})"));
    EXPECT_EQ(none.status, 422);
    EXPECT_EQ(boost::json::parse(none.body).at("field").as_string(), "to");
    const auto missing = ask(backend, post("/v1/messages", R"({"to":["c@d.test"],"message":"x"})"));
    EXPECT_EQ(missing.status, 422);
    EXPECT_EQ(boost::json::parse(missing.body).at("field").as_string(), "from");
}

TEST(Routes, LOG_1_WhatAClientWroteComesBackAsValidJson) {
    FakeBackend backend;
    HttpRequest get;
    get.method = "GET";
    get.path = "/v1/queue";
    get.query.emplace_back("limi\xF8\r\n\"", "3");
    const HttpReply reply = ask(backend, get);
    EXPECT_EQ(reply.status, 422);
    EXPECT_EQ(boost::json::parse(reply.body).at("field").as_string(), "limi\xEF\xBF\xBD\r\n\"");
}

TEST(Routes, ConditionsAndSuspensions) {
    FakeBackend backend;
    const HttpReply set = ask(backend, post("/v1/policy/conditions", R"({"then":{"rate":"10/60"},"dry_run":false})"));
    EXPECT_EQ(set.status, 200);
    EXPECT_EQ(set.body, "{\"id\":\"c-1\",\"updated\":false}\n");
    EXPECT_EQ(backend.asked, R"(set {"then":{"rate":"10/60"}})");
    const HttpReply tried = ask(backend, post("/v1/suspensions", R"({"remotemx":"*.x.test","dry_run":true})"));
    EXPECT_EQ(tried.body, "{\"matches\":{\"buckets\":3,\"waiting\":120,\"at_least\":false}}\n");
    EXPECT_EQ(backend.asked, R"(try {"remotemx":"*.x.test"})");
    const HttpReply refused = ask(backend, post("/v1/suspensions", R"({"colour":1})"));
    EXPECT_EQ(refused.status, 422);
    EXPECT_EQ(boost::json::parse(refused.body).at("field").as_string(), "colour");
    EXPECT_EQ(ask(backend, post("/v1/suspensions", R"({"dry_run":1})")).status, 422);
    EXPECT_EQ(ask(backend, post("/v1/suspensions", "[]")).status, 400);
    EXPECT_EQ(ask(backend, post("/v1/suspensions", "{}", "text/plain")).status, 415);
    EXPECT_EQ(ask(backend, post("/v1/policy/conditions/delete", R"({"id":"c-1","author":"me","reason":"over"})")).status, 200);
    EXPECT_EQ(backend.asked, "remove c-1 me over");
    EXPECT_EQ(ask(backend, post("/v1/suspensions/delete", R"({"id":"c-2"})")).status, 404);
    EXPECT_EQ(ask(backend, post("/v1/suspensions/delete", "{}")).status, 422);
    EXPECT_EQ(ask(backend, post("/v1/suspensions/delete", R"({"id":"c-1","colour":1})")).status, 422);
    EXPECT_EQ(ask(backend, post("/v1/suspensions/resume", R"({"author":"me"})")).status, 404);
    EXPECT_EQ(backend.asked, "remove start_suspended me ");
    HttpRequest list;
    list.method = "GET";
    list.path = "/v1/suspensions";
    const auto body = boost::json::parse(ask(backend, list).body);
    EXPECT_EQ(body.at("total").as_int64(), 20'000);
    EXPECT_EQ(body.at("suspensions").at(0).at("expires").as_string(), "2026-11-18T11:06:40.000Z");
}

TEST(Routes, TheDescriptionIsJsonAndNamesEveryRoute) {
    const auto document = boost::json::parse(openapi_document());
    for (const char* path : {"/v1/status", "/v1/queue", "/v1/messages", "/v1/queue/delete", "/v1/queue/groups", "/v1/queue/jobs", "/v1/queue/jobs/{job}",
                             "/v1/queue/jobs/{job}/cancel", "/v1/buckets", "/v1/explain", "/metrics", "/health", "/v1/policy/conditions",
                             "/v1/policy/conditions/delete", "/v1/suspensions", "/v1/suspensions/delete", "/v1/suspensions/resume", "/v1/plugins",
                             "/v1/plugins/reload", "/v1/memory", "/v1/memory/rate"}) {
        EXPECT_TRUE(document.at("paths").as_object().contains(path)) << path;
    }
}

TEST(Routes, PluginsAreShownWithWhatTheyCost) {
    FakeBackend backend;
    const auto shown = boost::json::parse(ask(backend, get("/v1/plugins")).body);
    EXPECT_EQ(shown.at("host").at("state").as_string(), "ready");
    EXPECT_EQ(shown.at("host").at("last_ends").at(0).at("because").as_string(), "was running");
    const auto& one = shown.at("plugins").at(0);
    EXPECT_EQ(one.at("heap_bytes").as_int64(), 4096);
    EXPECT_EQ(one.at("calls").as_int64(), 7);
    const auto& listener = shown.at("hooks").at(0).at("listeners").at(0);
    EXPECT_EQ(listener.at("priority").as_int64(), -5);
    EXPECT_EQ(listener.at("timeouts").as_int64(), 1);
    EXPECT_EQ(listener.at("busy_ms").as_double(), 3.5);
    EXPECT_EQ(ask(backend, post("/v1/plugins/reload", "", "text/plain")).status, 415);
    const auto reloaded = boost::json::parse(ask(backend, post("/v1/plugins/reload", "{}")).body);
    EXPECT_EQ(backend.asked, "reload plugins");
    EXPECT_FALSE(reloaded.at("reloaded").as_bool());
    EXPECT_EQ(reloaded.at("problems").at(0).at("line").as_int64(), 3);
}

TEST(Routes, MemoryKeepsWhatItIsGiven) {
    FakeBackend backend;
    EXPECT_EQ(ask(backend, post("/v1/memory", R"({"key":"k","value":{"a":[1]},"ttl":2.5})")).status, 200);
    EXPECT_EQ(ask(backend, get("/v1/memory", {{"key", "k"}})).body, "{\"key\":\"k\",\"value\":{\"a\":[1]},\"ttl\":2.5E0}\n");
    EXPECT_EQ(ask(backend, get("/v1/memory", {{"key", "none"}})).status, 404);
    EXPECT_EQ(ask(backend, post("/v1/memory", R"({"entries":[{"key":"a","value":1},{"key":"b","value":2}]})")).body, "{\"set\":2}\n");
    EXPECT_EQ(ask(backend, post("/v1/memory/increment", R"({"key":"a","by":4})")).body, "{\"key\":\"a\",\"value\":5}\n");
    EXPECT_EQ(ask(backend, post("/v1/memory/compare_and_set", R"({"key":"a","expected":5,"value":9})")).body, "{\"done\":true,\"value\":9}\n");
    EXPECT_EQ(ask(backend, post("/v1/memory/rate", R"({"namespace":"n","key":"a","count":1,"seconds":60})")).body, "{\"allowed\":true,\"used\":1}\n");
    EXPECT_EQ(ask(backend, post("/v1/memory/rate", R"({"namespace":"n","key":"a","count":1,"seconds":60})")).body, "{\"allowed\":false,\"used\":1}\n");
    EXPECT_EQ(boost::json::parse(ask(backend, get("/v1/memory", {{"prefix", "a"}})).body).at("entries").as_array().size(), 1U);
    EXPECT_EQ(ask(backend, post("/v1/memory/delete", R"({"key":"a"})")).body, "{\"deleted\":true}\n");
    const struct {
        const char* path;
        const char* body;
        const char* field;
    } rows[] = {
        {"", R"({"value":1})", "key"},
        {"", R"({"key":"k"})", "value"},
        {"", R"({"key":"k","value":1,"colour":1})", "colour"},
        {"", R"({"key":"","value":1})", "key"},
        {"", R"({"key":"k","value":1,"ttl":0})", "ttl"},
        {"", R"({"key":"k","value":1,"ttl":1e300})", "ttl"},
        {"", R"({"entries":[{"key":"a","value":1},{"key":"b"}]})", "entries[1]"},
        {"/increment", R"({"key":"k","by":1.5})", "by"},
        {"/compare_and_set", R"({"key":"k"})", "value"},
        {"/rate", R"({"namespace":"n","key":"k","count":-1,"seconds":1})", "count"},
        {"/rate", R"({"namespace":"n","key":"k","count":1})", "seconds"},
    };
    for (const auto& row : rows) {
        const HttpReply reply = ask(backend, post(std::string("/v1/memory") + row.path, row.body));
        EXPECT_EQ(reply.status, 422) << row.body;
        EXPECT_EQ(boost::json::parse(reply.body).at("field").as_string(), row.field) << row.body;
    }
}

TEST(Http, PercentDecoding) {
    EXPECT_EQ(percent_decode("a%20b+c", true), "a b c");
    EXPECT_EQ(percent_decode("a+b", false), "a+b");
    EXPECT_EQ(percent_decode("%0d%00", true), std::string("\r\0", 2));
    for (const char* bad : {"%", "%2", "%zz", "a%"}) EXPECT_EQ(percent_decode(bad, true), std::nullopt) << bad;
}

}  // namespace
}  // namespace sluice::control
