#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

// What the plugin host sends is read leniently: what is missing or of another type is empty.
namespace sluice::plugin {

// Notes may be nested deeper than JSON usually is.
inline boost::json::value parse_json(std::string_view text, boost::system::error_code& error) {
    boost::json::parse_options options;
    options.max_depth = 256;
    return boost::json::parse(text, error, {}, options);
}

inline std::string text_of(const boost::json::object& object, std::string_view key) {
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

inline std::uint64_t whole_of(const boost::json::value& value) {
    boost::system::error_code error;
    const auto number = value.is_number() ? value.to_number<std::uint64_t>(error) : 0;
    return error ? 0 : number;
}

inline std::uint64_t number_of(const boost::json::object& object, std::string_view key) {
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr ? whole_of(*value) : 0;
}

// Of a number without a value, which `0e999` is to the parser, 0 as well.
inline double real_of(const boost::json::value& value) {
    boost::system::error_code error;
    const double number = value.is_number() ? value.to_number<double>(error) : 0;
    return error || std::isnan(number) ? 0 : number;
}

inline bool is_true(const boost::json::object& object, std::string_view key) {
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_bool() && value->get_bool();
}

inline const boost::json::array& list_of(const boost::json::object& object, std::string_view key) {
    static const boost::json::array none;
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_array() ? value->get_array() : none;
}

inline const boost::json::object& object_of(const boost::json::object& object, std::string_view key) {
    static const boost::json::object none;
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_object() ? value->get_object() : none;
}

}  // namespace sluice::plugin
