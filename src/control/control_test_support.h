#pragma once

// What the tests of the control API put in place of the engine.

#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "control/backend.h"
#include "event/log.h"

namespace sluice::control {

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
    plugin::Hosts::View plugins() override {
        plugin::Hosts::View view;
        view.any = true;
        view.host.state = "ready";
        view.host.roster.plugins.push_back({"one", "/i/plugins/one.js", 30, false});
        view.host.roster.hooks.push_back({"get_mx", true, {{"one", "route", -5}}});
        view.host.heap["one"] = 4096;
        view.totals.counts[{"one", "get_mx"}] = {7, 1, 2, 12.5, 3.5, 4};
        view.totals.counts[{"gone", "get_mx"}].calls = 3;
        view.totals.last_ends.push_back({1'795'000'000'000, "it hangs", "one", "get_mx", "was running", 9});
        return view;
    }
    Task<plugin::Reloaded> reload_plugins() override {
        asked = "reload plugins";
        plugin::Reloaded reloaded;
        reloaded.reason = "one: SyntaxError";
        reloaded.problems.push_back({"one", "SyntaxError", "/i/plugins/one.js", 3, true});
        co_return reloaded;
    }
    Memory& memory() override { return memory_; }
    std::string asked;

private:
    ManualClock clock_{instant_from_ms(0)};
    Memory memory_{clock_};
};

class SilentLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return false; }
    void write(event::Level, std::string_view, std::string_view, std::string_view, std::initializer_list<event::Field>) override {}
};

}  // namespace sluice::control
