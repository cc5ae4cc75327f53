#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "policy/field.h"
#include "policy/local_pool.h"

namespace sluice::policy {

// A tenant, job or transport, and what a mark says, has at most so many octets.
inline constexpr std::size_t value_octets_max = 255;

// Where a message may get a field from. Value.
struct FieldOrigin {
    enum class From : std::uint8_t { header, login, login_domain, port, note, field, constant };
    From from = From::constant;
    std::string name;    // of the header field or the note; the constant
    Field field{};       // another field of the message
    bool strip = false;  // the header field is not sent on
    std::map<std::string, std::string, std::less<>> meanings;  // what is found → what it means; empty: itself
    int line = 0;

    // What a text that was found there comes to; nothing when it says nothing.
    std::optional<std::string> meaning(std::string_view found) const;
};

// All of fields.yaml: for each field its origins, the first of which that says something counts. Immutable.
struct Assignments {
    std::vector<FieldOrigin> tenant, job, transport, priority, lifetime;
    std::vector<std::string> kept;  // notes and header fields, as FieldTable names them
    std::string text;               // the file, to tell whether it changed
};
using AssignmentsPtr = std::shared_ptr<const Assignments>;

// Null exactly when a problem is an error.
AssignmentsPtr parse_assignments(std::string_view text, const std::string& file, Problems& problems);

// transports.yaml: the local addresses of each transport. Nothing exactly when a problem is an error.
std::optional<std::vector<LocalPool>> parse_transports(std::string_view text, const std::string& file, Problems& problems);

// Warns of transports that fields.yaml gives to messages and that have no addresses.
void report_unknown_transports(
    const Assignments& assignments, const std::vector<LocalPool>& transports, const std::string& file, Problems& problems);

// "0" .. "7".
std::optional<std::uint8_t> parse_priority(std::string_view text);
// "90", "90s", "15m", "2h", "3d"; at least a second, at most ten years.
std::optional<std::chrono::seconds> parse_lifetime(std::string_view text);
// One line of UTF-8 that is not too long.
bool is_field_value(std::string_view text);

}  // namespace sluice::policy
