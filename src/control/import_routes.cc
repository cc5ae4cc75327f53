#include "control/import_routes.h"

#include <boost/json/object.hpp>
#include <string>

#include "control/answers.h"
#include "control/json.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::string_view imports_path = "/v1/queue/import", cancel_path = "/v1/queue/import/cancel";
constexpr std::size_t path_octets_max = 4096;

Result<ImportRequest> wanted_of(const json::object& body) {
    ImportRequest wanted;
    for (const auto& member : body) {
        const std::string key(member.key());
        const json::value& value = member.value();
        if (key == "directory" && value.is_string()) wanted.directory.assign(value.as_string().data(), value.as_string().size());
        else if (key == "dry_run" && value.is_bool()) wanted.dry_run = value.as_bool();
        else if (key == "force" && value.is_bool()) wanted.force = value.as_bool();
        else return fail(Errc::bad_input, key + ": unknown member or wrong type");
    }
    const bool whole = wanted.directory.find('\0') == std::string::npos && wanted.directory.size() <= path_octets_max;
    if (!wanted.directory.starts_with('/') || !whole) return fail(Errc::bad_input, "directory: a full path is expected");
    return wanted;
}

HttpReply post_import(Backend& backend, const json::object& body) {
    Result<ImportRequest> wanted = wanted_of(body);
    if (!wanted) return refuse_field(wanted.error());
    const Result<Import> import = backend.import_queue(std::move(*wanted));
    return import ? reply(to_json(*import), 202) : refuse_field(import.error());
}

HttpReply post_cancel(Backend& backend) {
    const Result<Import> import = backend.cancel_import();
    return import ? reply(to_json(*import)) : refuse(import.error());
}

}  // namespace

std::optional<HttpReply> answer_import_get(Backend& backend, const HttpRequest& request) {
    if (request.path != imports_path) return std::nullopt;
    const std::optional<Import> import = backend.last_import();
    return import ? reply(to_json(*import)) : refuse(404, "nothing was imported since the start");
}

std::optional<HttpReply> answer_import_post(Backend& backend, const HttpRequest& request) {
    const bool cancels = request.path == cancel_path;
    if (request.path != imports_path && !cancels) return std::nullopt;
    // A form cannot send JSON: the type is what keeps foreign pages out.
    const Result<json::object> body = object_of(request);
    if (!body) return refuse_body(body.error());
    return cancels ? post_cancel(backend) : post_import(backend, *body);
}

}  // namespace sluice::control
