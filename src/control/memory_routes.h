#pragma once

#include <optional>

#include "control/backend.h"
#include "control/http.h"

namespace sluice::control {

// The routes below /v1/memory; nothing for other paths.
std::optional<HttpReply> answer_memory_get(Memory& memory, const HttpRequest& request);
std::optional<HttpReply> answer_memory_post(Memory& memory, const HttpRequest& request);

}  // namespace sluice::control
