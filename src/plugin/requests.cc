#include "plugin/requests.h"

#include <boost/json/serialize.hpp>

#include "base/text.h"
#include "plugin/json_members.h"

namespace sluice::plugin {

Result<ApiCall> call_of(const boost::json::object& request) {
    ApiCall call;
    call.method = text_of(request, "method");
    call.path = text_of(request, "path");
    if (call.method != "GET" && call.method != "POST") return fail(Errc::bad_input, "method: GET or POST is expected");
    if (!call.path.starts_with('/')) return fail(Errc::bad_input, "path: a path like /v1/status is expected");
    for (const auto& member : object_of(request, "query")) {
        if (!member.value().is_string()) return fail(Errc::bad_input, "query: texts are expected");
        call.query.emplace_back(member.key(), member.value().get_string());
    }
    const boost::json::value* body = request.if_contains("body");
    if (body != nullptr) call.body = boost::json::serialize(*body);
    return call;
}

std::string response_text(std::uint64_t id, int status, const std::string& body) {
    const std::string_view json = trim(body);
    return R"({"t":"response","id":)" + std::to_string(id) + R"(,"status":)" + std::to_string(status) + R"(,"body":)" +
           (json.empty() ? std::string("null") : std::string(json)) + "}";
}

}  // namespace sluice::plugin
