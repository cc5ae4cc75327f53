// The control port: any octets of a client, understood the same way at every read size, answered in JSON, and never more
// than one message for one request. Injections go through to the message that would be queued.

#include "control/http.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/parse.hpp>

#include "async/task_group.h"
#include "base/assert.h"
#include "base/text.h"
#include "control/routes.h"
#include "mail/header.h"
#include "reception/injection.h"
#include "scripted_stream.h"

namespace {

using namespace sluice;
using namespace sluice::control;

constexpr std::uint64_t body_bytes_max = 1 << 20;

void check(const mail::Message& message) {
    ASSERT(!message.envelope.recipients.empty() && !message.items.empty());
    ASSERT(mail::is_clean_text(message.trace) && (message.content.empty() || mail::is_clean_text(message.content)));
    for (const mail::Recipient& recipient : message.envelope.recipients) {
        for (const char c : recipient.address.text()) ASSERT(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
    }
}

// Answers as an engine with an empty queue; keeps what it was asked.
class EmptyEngine final : public Backend {
public:
    Task<EngineStatus> status() override { co_return EngineStatus{}; }
    Task<std::vector<DomainCount>> domains() override { co_return std::vector<DomainCount>{}; }
    Task<Result<ItemPage>> list(ItemFilter filter) override {
        asked += "list " + filter.domain + "|" + filter.sender + "|" + filter.recipient + "\n";
        co_return ItemPage{};
    }
    Task<Result<ItemDetail>> show(ItemId id) override { co_return fail(Errc::not_found, id.text()); }
    Task<Result<std::uint64_t>> command(Command, queue::Selection which) override {
        ASSERT(which.item.has_value() != which.domain.empty() || !which.item);
        asked += "command " + which.domain + "\n";
        co_return std::uint64_t{0};
    }
    Task<Result<SurveyReport>> survey(SurveyRequest request) override {
        asked += "survey " + request.where + "\n";
        co_return SurveyReport{};
    }
    Task<Result<BucketPage>> buckets(BucketFilter filter) override {
        asked += "buckets " + filter.policy + "|" + filter.part + "\n";
        co_return BucketPage{};
    }
    Task<Result<std::vector<Explained>>> explain(std::string what) override { co_return fail(Errc::not_found, what); }
    Task<Result<std::uint64_t>> count(BulkRequest request) override {
        asked += "count " + request.where + "\n";
        co_return std::uint64_t{0};
    }
    Task<Result<Job>> start(BulkRequest request) override {
        asked += "start " + request.where + "\n";
        co_return Job{};
    }
    std::vector<Job> jobs() override { return {}; }
    Result<Job> cancel(std::uint64_t job) override { return fail(Errc::not_found, std::to_string(job)); }
    Result<Import> import_queue(ImportRequest request) override {
        ASSERT(request.directory.starts_with('/') && request.directory.find('\0') == std::string::npos);
        asked += "import " + request.directory + "\n";
        return Import{};
    }
    std::optional<Import> last_import() override { return std::nullopt; }
    Result<Import> cancel_import() override { return fail(Errc::not_found, "none"); }
    Task<Result<InjectReply>> inject(InjectRequest request) override {
        asked += "inject " + request.from + "\n";
        reception::Injection injection;
        injection.reverse_path = std::move(request.from);
        injection.recipients = std::move(request.to);
        injection.content = std::move(request.message);
        injection.tenant = std::move(request.tenant);
        const auto message = reception::make_message(std::move(injection), settings, clock, ids);
        if (!message) co_return fail(Errc::bad_input, message.error().front().field + ": " + message.error().front().reason);
        check(**message);
        co_return InjectReply{};
    }
    Task<Result<PolicyReply>> set_condition(std::string json, bool) override { return set(std::move(json)); }
    Task<Result<PolicyReply>> set_suspension(std::string json, bool) override { return set(std::move(json)); }
    Task<Result<>> remove_condition(PolicyRemoval removal) override { co_return fail(Errc::not_found, removal.id); }
    Task<Result<>> remove_suspension(PolicyRemoval removal) override { co_return fail(Errc::not_found, removal.id); }
    Task<PolicyList<ConditionDetail>> conditions() override { co_return PolicyList<ConditionDetail>{}; }
    Task<PolicyList<SuspensionDetail>> suspensions() override { co_return PolicyList<SuspensionDetail>{}; }
    Task<ReloadReport> reload() override { co_return ReloadReport{}; }
    Task<std::string> metrics() override { co_return std::string(); }
    plugin::Hosts::View plugins() override { return {}; }
    Task<plugin::Reloaded> reload_plugins() override { co_return plugin::Reloaded{}; }
    Memory& memory() override { return memory_; }

    config::Settings settings;
    ManualClock clock{instant_from_ms(1'800'000'000'000)};
    spool::IdSource ids{clock, MessageId{}};
    std::string asked;

private:
    Memory memory_{clock};

    Task<Result<PolicyReply>> set(std::string json) {
        asked += "set " + json + "\n";
        co_return PolicyReply{};
    }
};

Task<> serve(net::StreamPtr stream, EmptyEngine& engine, std::string& statuses) {
    std::string unread;
    for (bool open = true; open;) {
        RequestReader reader(*stream, unread, body_bytes_max);
        Result<HttpRequest> request = co_await reader.head();
        if (!request) break;
        const Result<> body = co_await reader.body(*request);
        if (!body) break;
        open = request->keep_alive;
        const HttpReply reply = co_await answer(engine, std::move(*request));
        statuses += std::to_string(reply.status) + " ";
        if (reply.content_type == "application/json") ASSERT(boost::json::parse(reply.body).is_object());
        const Result<> written = co_await write_reply(*stream, reply, open);
        if (!written) break;
    }
    co_await stream->close();
}

// What the engine was asked and what it answered.
std::string converse(std::string_view said, std::size_t piece) {
    boost::asio::io_context loop(1);
    std::string heard;
    EmptyEngine engine;
    engine.settings.me = "mx.test";
    std::string statuses;
    async::TaskGroup group(loop.get_executor());
    group.spawn(serve(std::make_unique<ScriptedStream>(said, piece, heard), engine, statuses));
    loop.run();
    return statuses + "\n" + engine.asked;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* octets, std::size_t size) {
    const std::string_view said(reinterpret_cast<const char*>(octets), size);
    const std::string whole = converse(said, SIZE_MAX);
    ASSERT(whole == converse(said, 7));
    if (size < 2000) ASSERT(whole == converse(said, 1));
    return 0;
}
