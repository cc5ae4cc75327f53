#include "policy/field.h"

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::policy {
namespace {

constexpr std::string_view note_prefix = "notes.";
constexpr std::string_view header_prefix = "header.";

// Names stand in records and reports, as keys.
constexpr std::size_t name_bytes_max = 256;

bool can_be_written(std::string_view name) {
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; };
    return name.size() <= name_bytes_max && is_valid_utf8(name) && std::none_of(name.begin(), name.end(), is_control);
}

// Header names have no case, the keys of notes have. Empty for what is neither.
std::string normal_name(std::string_view name) {
    if (!can_be_written(name)) return {};
    if (name.size() > note_prefix.size() && name.starts_with(note_prefix)) return std::string(name);
    if (name.size() > header_prefix.size() && istarts_with(name, header_prefix)) return to_lower(name);
    return {};
}

}  // namespace

const char* name_of(Field field) {
    switch (field) {
        case Field::tenantid: return "tenantid";
        case Field::jobid: return "jobid";
        case Field::transportid: return "transportid";
        case Field::recipientdomain: return "recipientdomain";
        case Field::senderdomain: return "senderdomain";
        case Field::priority: return "priority";
        case Field::attempt: return "attempt";
        case Field::localip: return "localip";
        case Field::remoteip: return "remoteip";
        case Field::remotemx: return "remotemx";
        case Field::grouping: return "grouping";
    }
    UNREACHABLE();
}

FieldType type_of(Field field) {
    switch (field) {
        case Field::recipientdomain:
        case Field::senderdomain:
        case Field::remotemx: return FieldType::domain;
        case Field::localip:
        case Field::remoteip: return FieldType::address;
        case Field::priority:
        case Field::attempt: return FieldType::number;
        case Field::grouping: return FieldType::grouping;
        case Field::tenantid:
        case Field::jobid:
        case Field::transportid: return FieldType::text;
    }
    return FieldType::text;  // notes and headers
}

std::optional<Field> FieldTable::find(std::string_view name) const {
    for (std::size_t i = 0; i < named_field_count; ++i) {
        if (name == policy::name_of(static_cast<Field>(i))) return static_cast<Field>(i);
    }
    const auto found = std::find(others_.begin(), others_.end(), normal_name(name));
    if (found == others_.end()) return std::nullopt;
    return static_cast<Field>(named_field_count + static_cast<std::size_t>(found - others_.begin()));
}

std::optional<Field> FieldTable::add(std::string_view name) {
    if (const std::optional<Field> known = find(name)) return known;
    std::string other = normal_name(name);
    if (other.empty() || size() == field_max) return std::nullopt;
    others_.push_back(std::move(other));
    return static_cast<Field>(size() - 1);
}

std::string FieldTable::name_of(Field field) const {
    const std::size_t number = number_of(field);
    return number < named_field_count ? policy::name_of(field) : others_[number - named_field_count];
}

std::vector<std::string> FieldTable::names() {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < named_field_count; ++i) names.emplace_back(policy::name_of(static_cast<Field>(i)));
    return names;
}

}  // namespace sluice::policy
