#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

// What plugins ask of the engine by way of the module `sluice`: requests of the control API.
namespace sluice::plugin {

// A request of the control API. Value.
struct ApiCall {
    std::string method, path;
    std::vector<std::pair<std::string, std::string>> query;
    std::string body;  // JSON, or empty
};
// JSON text. From any thread.
using Respond = std::function<void(int status, const std::string& body)>;
// Answers each call exactly once. From any thread.
using ServeCalls = std::function<void(ApiCall call, Respond respond)>;

// Of a `request`. Error: bad_input.
Result<ApiCall> call_of(const boost::json::object& request);
// The `response` to request `id`.
std::string response_text(std::uint64_t id, int status, const std::string& body);

}  // namespace sluice::plugin
