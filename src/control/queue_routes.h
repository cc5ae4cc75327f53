#pragma once

#include <optional>

#include "control/backend.h"
#include "control/http.h"

namespace sluice::control {

// Routes about the queue as a whole: counts, buckets, explanations, commands for many. Nothing: the path is none of them.
Task<std::optional<HttpReply>> answer_queue_get(Backend& backend, const HttpRequest& request);
Task<std::optional<HttpReply>> answer_queue_post(Backend& backend, const HttpRequest& request);

}  // namespace sluice::control
