#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::policy {

// What can be known of a delivery. The names are those of the policy files. Numbers after the last one stand for notes and
// header fields, in the order in which a FieldTable first heard of them.
enum class Field : std::uint8_t {
    tenantid,
    jobid,
    transportid,
    recipientdomain,
    senderdomain,
    priority,
    attempt,
    localip,  // from here on known only once a candidate is chosen
    remoteip,
    remotemx,
    grouping,
};
inline constexpr std::size_t named_field_count = 11;
inline constexpr std::size_t field_max = 24;
constexpr std::size_t number_of(Field field) { return static_cast<std::size_t>(field); }
// Of a field that has a number of its own.
const char* name_of(Field field);

// What a field's values are, which decides what patterns mean.
enum class FieldType : std::uint8_t { text, domain, address, number, grouping };
FieldType type_of(Field field);

// A set of fields. Value.
class FieldSet {
public:
    constexpr FieldSet() = default;
    constexpr FieldSet(std::initializer_list<Field> fields) {
        for (const Field field : fields) add(field);
    }
    constexpr void add(Field field) { bits_ |= bit(field); }
    constexpr void add(FieldSet others) { bits_ |= others.bits_; }
    constexpr bool has(Field field) const { return (bits_ & bit(field)) != 0; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr bool includes(FieldSet other) const { return (bits_ & other.bits_) == other.bits_; }
    // Some value differs between the candidates of one route, so a reservation must name its candidate.
    constexpr bool depends_on_candidate() const {
        return has(Field::localip) || has(Field::remoteip) || has(Field::remotemx) || has(Field::grouping);
    }
    friend constexpr bool operator==(FieldSet, FieldSet) = default;

private:
    static constexpr std::uint32_t bit(Field field) { return 1U << static_cast<unsigned>(field); }
    std::uint32_t bits_ = 0;
};

// The fields of one policy set: those with a number of their own, then notes.KEY and header.NAME as they came. Value.
class FieldTable {
public:
    // Nothing for a name that is no field, and for a note or header nobody added.
    std::optional<Field> find(std::string_view name) const;
    // Also numbers notes and headers that are new; nothing when there are too many.
    std::optional<Field> add(std::string_view name);
    std::string name_of(Field field) const;
    std::size_t size() const { return named_field_count + others_.size(); }
    // All fields with a number of their own, for suggestions.
    static std::vector<std::string> names();

private:
    std::vector<std::string> others_;
};

// A field's text as a number, given out by whoever interns it. Equal texts have equal numbers.
using Value = std::uint32_t;
inline constexpr Value unknown = ~Value{0};
// Values from here on stand for the groups of a roll-up, not for a text.
inline constexpr Value first_group_value = Value{1} << 31;
constexpr bool is_text(Value value) { return value < first_group_value; }

// The fields of one delivery. Value.
struct FieldValues {
    std::array<Value, field_max> values;

    constexpr FieldValues() { values.fill(unknown); }
    Value& operator[](Field field) { return values[number_of(field)]; }
    Value operator[](Field field) const { return values[number_of(field)]; }
    friend bool operator==(const FieldValues&, const FieldValues&) = default;
};

}  // namespace sluice::policy
