#pragma once

#include <string>
#include <vector>

#include "sim/traffic.h"
#include "yaml/reading.h"

namespace sluice::sim {

// The keys by which a traffic file says how hosts behave. Inside this folder only.
extern const std::vector<std::string> behaviour_keys;

// Changes what the keys that are there say. Rules take their ids from `next_rule`.
void read_behaviour(yaml::Reading& reading, const yaml::Fields& fields, Behaviour& into, std::uint32_t& next_rule);

// One number, or [least, most].
Span read_span(yaml::Reading& reading, const YAML::Node& node, const std::string& what, double max);
// "09:30"; hours may go on beyond 24 for later days.
Duration read_time(yaml::Reading& reading, const YAML::Node& node, const std::string& what);

// "421 4.7.0 too many", `lost` or `silent` as what is then judged; nothing for anything else. `at` is the stage.
std::optional<delivery::Verdict> parse_answer(std::string_view text, delivery::Stage at);

}  // namespace sluice::sim
