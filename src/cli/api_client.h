#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>

#include "base/result.h"

namespace sluice::cli {

// One answer of the control API.
struct ApiReply {
    int status = 0;
    std::string body;
};

// Speaks to the engine of an instance over DIR/run/control.sock. Blocking; one request at a time. With `show_requests`
// the request is printed on standard error before it is sent, in a form that can be repeated by hand.
class ApiClient {
public:
    ApiClient(std::string directory, bool show_requests);

    Result<ApiReply> get(const std::string& target);
    Result<ApiReply> post(const std::string& target, const std::string& content_type, const std::string& body,
                          const std::string& idempotency_key = {});

    // The JSON of a good answer; otherwise the sentence that the engine gave as an error.
    Result<boost::json::value> get_json(const std::string& target);
    Result<boost::json::value> post_json(const std::string& target, const boost::json::object& body);

private:
    Result<ApiReply> exchange(const std::string& request);

    std::string socket_path_;
    bool show_requests_;
};

// The JSON of a good answer, or its error sentence.
Result<boost::json::value> json_of(const Result<ApiReply>& reply);

// For a query: everything but unreserved characters (RFC 3986 §2.3) escaped.
std::string percent_encode(std::string_view text);

}  // namespace sluice::cli
