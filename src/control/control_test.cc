#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include "async/task_group.h"
#include "control/http.h"
#include "control/routes.h"

namespace sluice::control {
namespace {

using testing::HasSubstr;

// An engine that remembers what it was asked.
class FakeBackend final : public Backend {
public:
    Task<EngineStatus> status() override { co_return EngineStatus{}; }
    Task<std::vector<DomainCount>> domains() override { co_return std::vector<DomainCount>{}; }
    Task<Result<ItemPage>> list(ItemFilter filter) override {
        asked = "list " + filter.domain + " " + filter.state + " " + std::to_string(filter.limit) + " " + filter.cursor;
        ItemPage page;
        page.cursor = filter.limit == 7 ? "9-41" : "";
        co_return page;
    }
    Task<Result<ItemDetail>> show(ItemId id) override { co_return fail(Errc::not_found, id.text()); }
    Task<Result<std::uint64_t>> command(Command, queue::Selection which) override {
        asked = "command " + which.domain;
        co_return std::uint64_t{3};
    }
    Task<Result<InjectReply>> inject(InjectRequest request) override {
        asked = "inject " + request.from + " " + std::to_string(request.to.size()) + " " + request.idempotency_key;
        if (request.to.empty()) co_return fail(Errc::bad_input, "to: at least one is expected");
        co_return InjectReply{};
    }
    Task<Result<PolicyReply>> set_condition(std::string json, bool dry_run) override {
        asked = std::string(dry_run ? "try " : "set ") + json;
        if (json.find("colour") != std::string::npos) co_return fail(Errc::bad_input, "colour: is none of these");
        PolicyReply reply;
        reply.id = dry_run ? "" : "c-1";
        if (dry_run) reply.reach = queue::Reach{3, 120, false};
        co_return reply;
    }
    Task<Result<PolicyReply>> set_suspension(std::string json, bool dry_run) override { co_return co_await set_condition(std::move(json), dry_run); }
    Task<Result<>> remove_condition(PolicyRemoval removal) override {
        asked = "remove " + removal.id + " " + removal.author + " " + removal.reason;
        if (removal.id != "c-1") co_return fail(Errc::not_found, "no condition `" + removal.id + "`");
        co_return Result<>{};
    }
    Task<Result<>> remove_suspension(PolicyRemoval removal) override { co_return co_await remove_condition(std::move(removal)); }
    Task<PolicyList<ConditionDetail>> conditions() override { co_return PolicyList<ConditionDetail>{}; }
    Task<PolicyList<SuspensionDetail>> suspensions() override {
        PolicyList<SuspensionDetail> list;
        list.entries.resize(1);
        list.entries[0].what.id = "s-1";
        list.entries[0].expires_ms = 1'795'000'000'000;
        list.total = 20'000;
        co_return list;
    }
    Task<ReloadReport> reload() override { co_return ReloadReport{}; }
    Task<std::string> metrics() override { co_return std::string("metric 1\n"); }
    std::string asked;
};

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
    for (const char* path : {"/v1/status", "/v1/queue", "/v1/messages", "/v1/queue/delete", "/metrics", "/health", "/v1/policy/conditions", "/v1/policy/conditions/delete",
                             "/v1/suspensions", "/v1/suspensions/delete", "/v1/suspensions/resume"}) {
        EXPECT_TRUE(document.at("paths").as_object().contains(path)) << path;
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
