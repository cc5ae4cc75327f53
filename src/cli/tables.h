#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

// JSON as people read it.
namespace sluice::cli {

std::string text_of(const boost::json::value& value);
// Of an object, fit for a terminal; empty when it is not there.
std::string member(const boost::json::object& object, std::string_view key);
// A table: columns as wide as their widest cell.
void print_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sluice::cli
