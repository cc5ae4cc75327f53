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

TEST(Routes, TheDescriptionIsJsonAndNamesEveryRoute) {
    const auto document = boost::json::parse(openapi_document());
    for (const char* path : {"/v1/status", "/v1/queue", "/v1/messages", "/v1/queue/delete", "/metrics", "/health"}) {
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
