#pragma once

#include <optional>

#include "async/task.h"
#include "control/backend.h"
#include "control/http.h"

namespace sluice::control {

// The routes below /v1/plugins; nothing for other paths.
std::optional<HttpReply> answer_plugins_get(Backend& backend, const HttpRequest& request);
Task<std::optional<HttpReply>> answer_plugins_post(Backend& backend, const HttpRequest& request);

}  // namespace sluice::control
