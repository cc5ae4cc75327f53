#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// How many letters must be added, removed, replaced or swapped with their neighbour; case does not count.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate that `name` was probably meant to be: at most a third of its letters wrong, the first of
// equals. Empty when none is near.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace sluice
