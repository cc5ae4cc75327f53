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
    Task<Result<SurveyReport>> survey(SurveyRequest request) override {
        asked = "survey " + request.where + " by " + std::to_string(request.by.size());
        if (request.where == "x") co_return fail(Errc::bad_input, "x: no field is called so");
        co_return SurveyReport{};
    }
    Task<Result<BucketPage>> buckets(BucketFilter filter) override {
        asked = "buckets " + filter.policy + (filter.waiting ? " waiting" : "");
        co_return BucketPage{};
    }
    Task<Result<std::vector<Explained>>> explain(std::string what) override {
        asked = "explain " + what;
        co_return std::vector<Explained>(1);
    }
    Task<Result<std::uint64_t>> count(BulkRequest request) override {
        asked = std::string("count ") + name_of(request.command) + " " + request.where;
        co_return std::uint64_t{5};
    }
    Task<Result<Job>> start(BulkRequest request) override {
        asked = std::string("start ") + name_of(request.command) + " " + request.where + request.changes.format() + request.reason;
        Job job;
        job.id = 4;
        co_return job;
    }
    std::vector<Job> jobs() override { return {Job{4, Command::hold, "age>1h", Job::State::running, 9, 3, 0, 0, ""}}; }
    Result<Job> cancel(std::uint64_t job) override {
        asked = "cancel " + std::to_string(job);
        if (job != 4) return fail(Errc::not_found, "no such job is running");
        return jobs().front();
    }
    Result<Import> import_queue(ImportRequest request) override {
        asked = "import " + request.directory + (request.dry_run ? " dry" : "") + (request.force ? " force" : "");
        if (request.directory == "/gone") return fail(Errc::bad_input, "directory: /gone: No such file or directory");
        return *last_import();
    }
    std::optional<Import> last_import() override {
        Import import;
        import.directory = "/q";
        import.left = 1;
        import.left_files.push_back({"1_2_0_1_aB3dE9_1_mx", 4, "the todo is not JSON"});
        return import;
    }
    Result<Import> cancel_import() override { return fail(Errc::not_found, "no import is running"); }
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
                             "/v1/policy/conditions/delete", "/v1/suspensions", "/v1/suspensions/delete", "/v1/suspensions/resume"}) {
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
