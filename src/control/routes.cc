#include "control/routes.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"
#include "control/answers.h"
#include "control/import_routes.h"
#include "control/json.h"
#include "control/memory_routes.h"
#include "control/plugin_routes.h"
#include "control/queue_routes.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::size_t list_max = 10'000;
constexpr std::size_t key_bytes_max = 255;
constexpr std::string_view from_missing = "from: a reverse-path is expected; an empty one is the null path";

// The word that is to blame stands first: "rate: expected ...".
HttpReply refuse_policy(const Error& error) {
    const std::size_t colon = error.detail.find(": ");
    const bool has_field = error.code == Errc::bad_input && colon != std::string::npos && error.detail.find_first_of(" `") > colon;
    return has_field ? refuse(422, error.detail, error.detail.substr(0, colon)) : refuse(error);
}

Task<HttpReply> get_status(Backend& backend) {
    const EngineStatus status = co_await backend.status();
    co_return reply(to_json(status));
}

Task<HttpReply> get_stats(Backend& backend) {
    const EngineStatus status = co_await backend.status();
    const std::vector<DomainCount> domains = co_await backend.domains();
    json::array list;
    for (const DomainCount& domain : domains) {
        if (list.size() < list_max) list.push_back(to_json(domain));
    }
    json::object body = to_json(status).at("queue").as_object();
    body["domains"] = std::move(list);
    co_return reply(body);
}

Task<HttpReply> get_list(Backend& backend, const HttpRequest& request) {
    ItemFilter filter;
    for (const auto& [key, value] : request.query) {
        if (key == "domain") filter.domain = to_lower(value);
        else if (key == "sender") filter.sender = value;
        else if (key == "recipient") filter.recipient = value;
        else if (key == "state") filter.state = value;
        else if (key == "where") filter.where = value;
        else if (key == "cursor") filter.cursor = value;
        else if (key == "limit") {
            const auto limit = parse_number<std::size_t>(value);
            if (!limit || *limit == 0 || *limit > list_max) co_return refuse(422, "a number from 1 to 10000 is expected", "limit");
            filter.limit = *limit;
        } else co_return refuse(422, "unknown filter", key);
    }
    for (const char* known : {"", "scheduled", "ready", "sending", "held"}) {
        if (filter.state != known) continue;
        const Result<ItemPage> page = co_await backend.list(filter);
        if (!page) co_return refuse_field(page.error());
        json::array list;
        for (const ItemDetail& item : page->items) list.push_back(to_json(item));
        json::object body;
        body["items"] = std::move(list);
        if (!page->cursor.empty()) body["cursor"] = page->cursor;
        co_return reply(body);
    }
    co_return refuse(422, "one of scheduled, ready, sending, held is expected", "state");
}

Task<HttpReply> get_item(Backend& backend, std::string_view text) {
    const auto id = ItemId::parse(text);
    if (!id) co_return refuse(422, "an item id like 01h5m3k9w2xyz.1 is expected", "id");
    const Result<ItemDetail> item = co_await backend.show(*id);
    if (!item) co_return refuse(item.error());
    co_return reply(to_json(*item));
}

// A condition or suspension: what it says is for the engine to understand.
using SetPolicy = Task<Result<PolicyReply>> (Backend::*)(std::string json, bool dry_run);
using RemovePolicy = Task<Result<>> (Backend::*)(PolicyRemoval removal);

Task<HttpReply> post_command(Backend& backend, Command command, const HttpRequest& request) {
    const Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    queue::Selection which;
    bool all = false;
    for (const auto& member : *body) {
        const std::string key(member.key());
        if (key == "item" && member.value().is_string()) {
            which.item = ItemId::parse(std::string_view(member.value().as_string()));
            if (!which.item) co_return refuse(422, "not an item id", "item");
        } else if (key == "domain" && member.value().is_string()) {
            which.domain = to_lower(std::string_view(member.value().as_string()));
        } else if (key == "all" && member.value().is_bool()) {
            all = member.value().as_bool();
        } else {
            co_return refuse(422, "unknown member or wrong type", key);
        }
    }
    // Everything is concerned only when that is said.
    const int given = (which.item ? 1 : 0) + (which.domain.empty() ? 0 : 1) + (all ? 1 : 0);
    if (given != 1) co_return refuse(422, "exactly one of item, domain or \"all\": true is expected");
    const Result<std::uint64_t> count = co_await backend.command(command, which);
    if (!count) co_return refuse(count.error());
    const json::object answer_body{{"items", *count}};
    co_return reply(answer_body);
}

// All octets of a JSON string, a NUL included: what is wrong with it is for the address parser to say.
std::string text_of(const json::value& value) { return std::string(value.as_string().data(), value.as_string().size()); }

HttpReply refuse_injection(const Error& error) {
    if (error.code == Errc::unsupported) return refuse(415, error.detail);
    return refuse_field(error);
}

// Whether `key` is something that a text can say in either form of the request.
bool set_text(InjectRequest& inject, std::string_view key, const std::string& value) {
    if (key == "tenant") inject.tenant = value;
    else if (key == "job") inject.job = value;
    else if (key == "transport") inject.transport = value;
    else if (key == "lifetime") inject.lifetime = value;
    else return false;
    return true;
}

// The texts of a query, which has no numbers and no objects of its own.
bool set_parameter(InjectRequest& inject, std::string_view key, const std::string& value) {
    if (key == "priority") {
        inject.priority = parse_number<std::uint8_t>(value);
        return inject.priority && *inject.priority <= 7;
    }
    if (key == "notes") {
        json::error_code error;
        const json::value notes = json::parse(value, error);
        if (error || !notes.is_object()) return false;
        inject.notes = json::serialize(notes);
        return true;
    }
    return set_text(inject, key, value);
}

bool set_member(InjectRequest& inject, std::string_view key, const json::value& value) {
    if (key == "priority" && value.is_int64() && value.as_int64() >= 0 && value.as_int64() <= 7) {
        inject.priority = static_cast<std::uint8_t>(value.as_int64());
        return true;
    }
    if (key == "lifetime" && value.is_int64()) {
        inject.lifetime = std::to_string(value.as_int64());
        return true;
    }
    if (key == "notes" && value.is_object()) {
        inject.notes = json::serialize(value);
        return true;
    }
    if (!value.is_string()) return false;
    if (key == "from") inject.from = text_of(value);
    else if (key == "message") inject.message = text_of(value);
    else return set_text(inject, key, text_of(value));
    return true;
}

Result<InjectRequest> injection_of(const HttpRequest& request) {
    InjectRequest inject;
    inject.idempotency_key = request.idempotency_key;
    inject.client = "http";
    bool has_from = false;
    if (is_type(request, "message/rfc822")) {
        for (const auto& [key, value] : request.query) {
            if (key == "from") inject.from = value;
            else if (key == "to") inject.to.push_back(value);
            else if (!set_parameter(inject, key, value)) return fail(Errc::bad_input, key + ": unknown parameter or bad value");
            has_from = has_from || key == "from";
        }
        inject.message = request.body;
        if (!has_from) return fail(Errc::bad_input, std::string(from_missing));
        return inject;
    }
    TRY(const json::object body, object_of(request));
    for (const auto& member : body) {
        const std::string key(member.key());
        const json::value& value = member.value();
        if (key == "to" && value.is_array()) {
            for (const json::value& one : value.as_array()) {
                if (!one.is_string()) return fail(Errc::bad_input, "to: an array of addresses is expected");
                inject.to.push_back(text_of(one));
            }
        } else if (!set_member(inject, key, value)) return fail(Errc::bad_input, key + ": unknown member or wrong type");
        has_from = has_from || key == "from";
    }
    if (!has_from) return fail(Errc::bad_input, std::string(from_missing));
    return inject;
}

Task<HttpReply> post_message(Backend& backend, const HttpRequest& request) {
    if (request.idempotency_key.size() > key_bytes_max) co_return refuse(422, "at most 255 octets", "Idempotency-Key");
    Result<InjectRequest> inject = injection_of(request);
    if (!inject) co_return refuse_injection(inject.error());
    const Result<InjectReply> queued = co_await backend.inject(std::move(*inject));
    if (!queued) co_return refuse_injection(queued.error());
    const json::object body{{"id", queued->id.text()}, {"repeated", queued->repeated}};
    co_return reply(body, queued->repeated ? 200 : 202);
}

Task<HttpReply> post_policy(Backend& backend, SetPolicy set, const HttpRequest& request) {
    Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    bool dry_run = false;
    if (const json::value* const word = body->if_contains("dry_run")) {
        if (!word->is_bool()) co_return refuse(422, "true or false is expected", "dry_run");
        dry_run = word->as_bool();
        body->erase("dry_run");
    }
    std::string said = json::serialize(*body);
    const Result<PolicyReply> done = co_await (backend.*set)(std::move(said), dry_run);
    if (!done) co_return refuse_policy(done.error());
    co_return reply(to_json(*done));
}

// `id`: the one that is meant when none has to be given.
Task<HttpReply> post_removal(Backend& backend, RemovePolicy remove, const HttpRequest& request, std::string id) {
    const Result<json::object> body = object_of(request);
    if (!body) co_return refuse_body(body.error());
    PolicyRemoval removal;
    const bool is_given = !id.empty();
    removal.id = std::move(id);
    for (const auto& member : *body) {
        const std::string key(member.key());
        const bool is_text = member.value().is_string();
        if (key == "id" && is_text && !is_given) removal.id = text_of(member.value());
        else if (key == "author" && is_text) removal.author = text_of(member.value());
        else if (key == "reason" && is_text) removal.reason = text_of(member.value());
        else co_return refuse(422, "unknown member or wrong type", key);
    }
    if (removal.id.empty()) co_return refuse(422, "an id is expected", "id");
    const json::object answer_body{{"id", removal.id}};
    const Result<> done = co_await (backend.*remove)(std::move(removal));
    if (!done) co_return refuse(done.error());
    co_return reply(answer_body);
}

template <class Detail>
HttpReply list_reply(const char* name, const PolicyList<Detail>& list) {
    json::array entries;
    for (const Detail& entry : list.entries) entries.push_back(to_json(entry));
    return reply(json::object{{name, std::move(entries)}, {"total", list.total}});
}

Task<HttpReply> get_conditions(Backend& backend) {
    const PolicyList<ConditionDetail> list = co_await backend.conditions();
    co_return list_reply("conditions", list);
}

Task<HttpReply> get_suspensions(Backend& backend) {
    const PolicyList<SuspensionDetail> list = co_await backend.suspensions();
    co_return list_reply("suspensions", list);
}

json::array array_of(const std::vector<std::string>& texts) { return json::array(texts.begin(), texts.end()); }

Task<HttpReply> post_reload(Backend& backend) {
    const ReloadReport report = co_await backend.reload();
    const json::object body{
        {"applied", report.applied},
        {"problems", array_of(report.problems)},
        {"needs_restart", array_of(report.needs_restart)}};
    co_return reply(body);
}

Task<HttpReply> answer_get(Backend& backend, const HttpRequest& request) {
    constexpr std::string_view items = "/v1/queue/items/";
    if (request.path == "/v1/status") co_return co_await get_status(backend);
    if (request.path == "/v1/queue") co_return co_await get_list(backend, request);
    if (request.path == "/v1/policy/conditions") co_return co_await get_conditions(backend);
    if (request.path == "/v1/suspensions") co_return co_await get_suspensions(backend);
    if (request.path == "/v1/queue/stats") co_return co_await get_stats(backend);
    if (request.path.starts_with(items)) co_return co_await get_item(backend, std::string_view(request.path).substr(items.size()));
    std::optional<HttpReply> answered = co_await answer_queue_get(backend, request);
    if (!answered) answered = answer_memory_get(backend.memory(), request);
    if (!answered) answered = answer_plugins_get(backend, request);
    if (!answered) answered = answer_import_get(backend, request);
    if (answered) co_return std::move(*answered);
    HttpReply out;
    if (request.path == "/v1/openapi.json") {
        out.body = openapi_document();
        co_return out;
    }
    if (request.path == "/metrics") {
        out.content_type = "text/plain; version=0.0.4; charset=utf-8";
        out.body = co_await backend.metrics();
        co_return out;
    }
    if (request.path == "/health") {
        const EngineStatus status = co_await backend.status();
        const json::object body{{"accepting", status.accepting}, {"why_not", status.why_not}};
        co_return reply(body, status.accepting ? 200 : 503);
    }
    co_return refuse(404, "no such resource");
}

Task<HttpReply> answer_post(Backend& backend, const HttpRequest& request) {
    if (request.path == "/v1/messages") co_return co_await post_message(backend, request);
    if (request.path == "/v1/queue/flush") co_return co_await post_command(backend, Command::flush, request);
    if (request.path == "/v1/queue/hold") co_return co_await post_command(backend, Command::hold, request);
    if (request.path == "/v1/queue/release") co_return co_await post_command(backend, Command::release, request);
    if (request.path == "/v1/queue/delete") co_return co_await post_command(backend, Command::remove, request);
    std::optional<HttpReply> answered = co_await answer_queue_post(backend, request);
    if (!answered) answered = answer_memory_post(backend.memory(), request);
    if (!answered) answered = co_await answer_plugins_post(backend, request);
    if (!answered) answered = answer_import_post(backend, request);
    if (answered) co_return std::move(*answered);
    if (request.path == "/v1/policy/conditions") co_return co_await post_policy(backend, &Backend::set_condition, request);
    if (request.path == "/v1/suspensions") co_return co_await post_policy(backend, &Backend::set_suspension, request);
    if (request.path == "/v1/policy/conditions/delete") co_return co_await post_removal(backend, &Backend::remove_condition, request, {});
    if (request.path == "/v1/suspensions/delete") co_return co_await post_removal(backend, &Backend::remove_suspension, request, {});
    if (request.path == "/v1/suspensions/resume") {
        co_return co_await post_removal(backend, &Backend::remove_suspension, request, queue::start_suspension);
    }
    if (request.path == "/v1/reload") {
        // A form cannot send JSON: the type is what keeps foreign pages out.
        const Result<json::object> body = object_of(request);
        if (!body) co_return refuse_body(body.error());
        co_return co_await post_reload(backend);
    }
    co_return refuse(404, "no such resource");
}

}  // namespace

Task<HttpReply> answer(Backend& backend, HttpRequest request) {
    if (request.method == "GET") co_return co_await answer_get(backend, request);
    if (request.method == "POST") co_return co_await answer_post(backend, request);
    co_return refuse(405, "GET or POST is expected");
}

}  // namespace sluice::control
