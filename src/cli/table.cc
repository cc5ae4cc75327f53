#include "cli/table.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <cstdio>

#include "base/text.h"

namespace sluice::cli {

std::string text_of(const boost::json::value& value) {
    if (const auto* text = value.if_string()) return std::string(text->data(), text->size());
    if (const auto* number = value.if_int64()) return std::to_string(*number);
    if (const auto* number = value.if_uint64()) return std::to_string(*number);
    if (const auto* flag = value.if_bool()) return *flag ? "yes" : "no";
    if (const auto* list = value.if_array()) {
        std::string out;
        for (const boost::json::value& one : *list) out += (out.empty() ? "" : ",") + text_of(one);
        return out;
    }
    return "";
}

std::string member(const boost::json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    return value != nullptr ? printable(text_of(*value)) : "";
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
    if (rows.empty()) return;
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
        }
        std::puts(line.c_str());
    }
}

}  // namespace sluice::cli
