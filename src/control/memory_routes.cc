#include "control/memory_routes.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>

#include "base/text.h"
#include "control/answers.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::size_t rows_max = 10'000, rows_usual = 100;

json::object to_json(const Memory::Entry& entry) {
    json::object body{{"key", entry.key}, {"value", entry.value}};
    if (entry.left) body["ttl"] = static_cast<double>(entry.left->count()) / 1000;
    return body;
}

Result<std::string> text_member(const json::object& body, std::string_view name) {
    const json::value* const value = body.if_contains(name);
    if (value == nullptr || !value->is_string()) return fail(Errc::bad_input, std::string(name) + ": a text is expected");
    return std::string(value->get_string());
}

// Seconds; nothing when there is no such member.
Result<std::optional<Duration>> seconds_member(const json::object& body, std::string_view name) {
    const json::value* const value = body.if_contains(name);
    if (value == nullptr || value->is_null()) return std::optional<Duration>();
    const double seconds = value->is_number() ? value->to_number<double>() : 0;
    const double longest = static_cast<double>(Memory::ttl_max.count()) / 1000;
    if (!(seconds > 0 && seconds <= longest)) {
        return fail(Errc::bad_input, std::string(name) + ": seconds are expected, more than 0 and at most 366 days");
    }
    return std::optional<Duration>(std::max<std::int64_t>(1, std::llround(seconds * 1000)));
}

Result<> only(const json::object& body, std::initializer_list<std::string_view> known) {
    for (const auto& member : body) {
        if (std::find(known.begin(), known.end(), std::string_view(member.key())) == known.end()) {
            return fail(Errc::bad_input, std::string(member.key()) + ": unknown member");
        }
    }
    return {};
}

using Answer = Result<json::value>;

Result<> set_one(Memory& memory, const json::object& body) {
    TRY_VOID(only(body, {"key", "value", "ttl"}));
    TRY(const std::string key, text_member(body, "key"));
    TRY(const auto ttl, seconds_member(body, "ttl"));
    const json::value* const value = body.if_contains("value");
    if (value == nullptr) return fail(Errc::bad_input, "value: one is expected");
    return memory.set(key, *value, ttl);
}

// One entry, or many in one go.
Answer post_entries(Memory& memory, const json::object& body) {
    const json::value* const entries = body.if_contains("entries");
    if (entries == nullptr) {
        TRY_VOID(set_one(memory, body));
        return json::object{{"set", 1}};
    }
    TRY_VOID(only(body, {"entries"}));
    if (!entries->is_array()) return fail(Errc::bad_input, "entries: an array is expected");
    std::size_t set = 0;
    for (const json::value& entry : entries->get_array()) {
        const std::string place = "entries[" + std::to_string(set) + "]: ";
        if (!entry.is_object()) return fail(Errc::bad_input, place + "an object is expected");
        const Result<> done = set_one(memory, entry.get_object());
        if (!done) return fail(done.error().code, place + done.error().detail);
        ++set;
    }
    return json::object{{"set", set}};
}

Answer post_increment(Memory& memory, const json::object& body) {
    TRY_VOID(only(body, {"key", "by", "ttl"}));
    TRY(const std::string key, text_member(body, "key"));
    TRY(const auto ttl, seconds_member(body, "ttl"));
    const json::value* const by = body.if_contains("by");
    if (by != nullptr && !by->is_int64()) return fail(Errc::bad_input, "by: a whole number is expected");
    TRY(const std::int64_t sum, memory.increment(key, by != nullptr ? by->get_int64() : 1, ttl));
    return json::object{{"key", key}, {"value", sum}};
}

Answer post_swap(Memory& memory, const json::object& body) {
    TRY_VOID(only(body, {"key", "expected", "value", "ttl"}));
    TRY(const std::string key, text_member(body, "key"));
    TRY(const auto ttl, seconds_member(body, "ttl"));
    const json::value* const value = body.if_contains("value");
    if (value == nullptr) return fail(Errc::bad_input, "value: one is expected");
    const json::value* const expected = body.if_contains("expected");
    const auto wanted = expected != nullptr ? std::optional(*expected) : std::nullopt;
    TRY(const Memory::Swap swap, memory.compare_and_set(key, wanted, *value, ttl));
    json::object answer{{"done", swap.done}};
    if (swap.value) answer["value"] = *swap.value;
    return answer;
}

Answer post_delete(Memory& memory, const json::object& body) {
    TRY_VOID(only(body, {"key"}));
    TRY(const std::string key, text_member(body, "key"));
    return json::object{{"deleted", memory.erase(key)}};
}

Answer post_rate(Memory& memory, const json::object& body) {
    TRY_VOID(only(body, {"namespace", "key", "count", "seconds"}));
    TRY(const std::string space, text_member(body, "namespace"));
    TRY(const std::string key, text_member(body, "key"));
    TRY(const auto window, seconds_member(body, "seconds"));
    const json::value* const count = body.if_contains("count");
    if (!window) return fail(Errc::bad_input, "seconds: more than 0 is expected");
    if (count == nullptr || !count->is_int64() || count->get_int64() < 0) return fail(Errc::bad_input, "count: a number is expected");
    TRY(const Memory::Rate rate, memory.rate(space, key, static_cast<std::uint64_t>(count->get_int64()), *window));
    return json::object{{"allowed", rate.allowed}, {"used", rate.used}};
}

HttpReply get_list(Memory& memory, const HttpRequest& request) {
    std::string prefix, after;
    std::size_t limit = rows_usual;
    for (const auto& [key, value] : request.query) {
        if (key == "prefix") prefix = value;
        else if (key == "after") after = value;
        else if (key == "limit") {
            const auto number = parse_number<std::size_t>(value);
            if (!number || *number == 0 || *number > rows_max) return refuse(422, "a number from 1 to 10000 is expected", key);
            limit = *number;
        } else return refuse(422, "unknown parameter", key);
    }
    const Memory::Page page = memory.list(prefix, after, limit);
    json::array entries;
    for (const Memory::Entry& entry : page.entries) entries.push_back(to_json(entry));
    json::object body{{"entries", std::move(entries)}, {"total", memory.entries()}, {"bytes", memory.bytes()}};
    if (!page.after.empty()) body["after"] = page.after;
    return reply(body);
}

}  // namespace

std::optional<HttpReply> answer_memory_get(Memory& memory, const HttpRequest& request) {
    if (request.path != "/v1/memory") return std::nullopt;
    const bool one = request.query.size() == 1 && request.query.front().first == "key";
    if (!one) return get_list(memory, request);
    const auto entry = memory.get(request.query.front().second);
    return entry ? reply(to_json(*entry)) : refuse(404, "nothing is kept under this key");
}

std::optional<HttpReply> answer_memory_post(Memory& memory, const HttpRequest& request) {
    struct Route {
        std::string_view path;
        Answer (*answer)(Memory& memory, const json::object& body);
    };
    constexpr Route routes[] = {
        {"/v1/memory", post_entries},
        {"/v1/memory/increment", post_increment},
        {"/v1/memory/compare_and_set", post_swap},
        {"/v1/memory/delete", post_delete},
        {"/v1/memory/rate", post_rate},
    };
    for (const Route& route : routes) {
        if (request.path != route.path) continue;
        const Result<json::object> body = object_of(request);
        if (!body) return refuse_body(body.error());
        const Answer answer = route.answer(memory, *body);
        return answer ? reply(*answer) : refuse_field(answer.error());
    }
    return std::nullopt;
}

}  // namespace sluice::control
