#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <vector>

#include "control/backend.h"

namespace sluice::control {

// What there is to say of an explanation, the most important first.
std::vector<std::string> sentences(const Explained& explained);
boost::json::value to_json(const Explained& explained);
boost::json::value to_json(const queue::BucketView& bucket, const WallTime& time);

}  // namespace sluice::control
