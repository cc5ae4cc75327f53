#include "control/answers.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"

namespace sluice::control {

namespace json = boost::json;

HttpReply reply(const json::value& value, int status) {
    HttpReply out;
    out.status = status;
    // Subjects, header fields and what a client wrote may hold any octets; JSON is UTF-8 (RFC 8259 §8.1).
    out.body = with_valid_utf8(json::serialize(value)) + "\n";
    return out;
}

HttpReply refuse(int status, std::string_view sentence, std::string_view field) {
    json::object body{{"error", sentence}};
    if (!field.empty()) body["field"] = field;
    return reply(body, status);
}

HttpReply refuse(const Error& error) {
    switch (error.code) {
        case Errc::not_found: return refuse(404, error.detail);
        case Errc::bad_input: return refuse(422, error.detail);
        case Errc::too_large: return refuse(413, error.detail);
        case Errc::unreachable:
        case Errc::disk_full:
        case Errc::disk_failed: return refuse(503, error.detail);
        default: return refuse(500, error.text());
    }
}

HttpReply refuse_field(const Error& error) {
    if (error.code != Errc::bad_input) return refuse(error);
    const std::size_t colon = error.detail.find(": ");
    if (colon == std::string::npos) return refuse(400, error.detail);
    return refuse(422, error.detail, error.detail.substr(0, colon));
}

bool is_type(const HttpRequest& request, std::string_view type) {
    return iequals(trim(std::string_view(request.content_type).substr(0, request.content_type.find(';'))), type);
}

Result<json::object> object_of(const HttpRequest& request) {
    if (!is_type(request, "application/json")) return fail(Errc::unsupported, "Content-Type: application/json is expected");
    json::error_code error;
    json::value value = json::parse(request.body, error);
    if (error) return fail(Errc::bad_input, "the body is not JSON (" + error.message() + ")");
    if (!value.is_object()) return fail(Errc::bad_input, "the body is not a JSON object");
    return std::move(value.as_object());
}

HttpReply refuse_body(const Error& error) { return refuse(error.code == Errc::unsupported ? 415 : 400, error.detail); }

}  // namespace sluice::control
