#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

// A value of an answer as people read it; a list with commas.
std::string text_of(const boost::json::value& value);
// The same of a member, printable; empty when it is not there.
std::string member(const boost::json::object& object, std::string_view key);
// A table for people: columns as wide as their widest cell.
void print_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sluice::cli
