#pragma once

#include <boost/json/value.hpp>

#include "control/backend.h"

// The JSON of the API, in one place: what the server writes here the client reads.
namespace sluice::control {

boost::json::value to_json(const EngineStatus& status);
boost::json::value to_json(const DomainCount& count);
boost::json::value to_json(const ItemDetail& item);
boost::json::value to_json(const SurveyReport& report, const std::vector<std::string>& by);
boost::json::value to_json(const Job& job);
boost::json::value to_json(const Import& import);
boost::json::value to_json(const ConditionDetail& condition);
boost::json::value to_json(const SuspensionDetail& suspension);
boost::json::value to_json(const PolicyReply& reply);

}  // namespace sluice::control
