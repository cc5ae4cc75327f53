#pragma once

#include "control/backend.h"
#include "control/http.h"

namespace sluice::control {

// Answers one authorised request. Every error is JSON: {"error": sentence, "field": name where one is to blame}.
Task<HttpReply> answer(Backend& backend, HttpRequest request);

// The OpenAPI 3.1 description of everything that answer() serves.
std::string_view openapi_document();

}  // namespace sluice::control
