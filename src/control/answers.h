#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/http.h"

// How routes read requests and word their answers.
namespace sluice::control {

HttpReply reply(const boost::json::value& value, int status = 200);
// {"error": sentence, "field": name}
HttpReply refuse(int status, std::string_view sentence, std::string_view field = {});
HttpReply refuse(const Error& error);
// Bad input names its field: "to[1]: Malformed domain".
HttpReply refuse_field(const Error& error);
bool is_type(const HttpRequest& request, std::string_view type);
// The body as a JSON object, or the reply that says why not.
Result<boost::json::object> object_of(const HttpRequest& request);
HttpReply refuse_body(const Error& error);

}  // namespace sluice::control
