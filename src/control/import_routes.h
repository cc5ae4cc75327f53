#pragma once

#include <optional>

#include "control/backend.h"
#include "control/http.h"

namespace sluice::control {

// Routes about queues of other engines that are taken over. Nothing: the path is none of them.
std::optional<HttpReply> answer_import_get(Backend& backend, const HttpRequest& request);
std::optional<HttpReply> answer_import_post(Backend& backend, const HttpRequest& request);

}  // namespace sluice::control
