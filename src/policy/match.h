#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy/pattern.h"

namespace sluice::policy {

// What is known of a delivery, as texts in normal form; fields that are not known match nothing. Borrows. Value.
struct FieldTexts {
    std::array<std::string_view, field_max> text{};
    std::array<std::uint32_t, field_max> group;  // of the policy's roll-up on this field; nothing: the text is its own
    FieldSet known;

    FieldTexts() { group.fill(Matcher::nothing); }
    void set(Field field, std::string_view value, std::uint32_t in_group = Matcher::nothing) {
        text[number_of(field)] = value;
        group[number_of(field)] = in_group;
        known.add(field);
    }
};

// One field and what it may be: any of the patterns, or any of the groups of the policy's roll-up on this field. Immutable.
struct Test {
    Field field{};
    std::vector<Pattern> patterns;
    std::vector<std::uint32_t> groups;         // whose buckets are meant: named, or because a pattern names a member
    std::vector<std::string> group_names;      // of `#group` as written
    std::shared_ptr<const Matcher> matcher;    // of all patterns

    bool holds(const FieldTexts& texts) const;
};

// The part behind `if`: every test holds, none of `none` does, and one of `any` when there are some. Immutable.
struct Match {
    std::vector<Test> all;
    std::vector<Match> none;
    std::vector<Match> any;

    bool holds(const FieldTexts& texts) const;
    bool is_empty() const { return all.empty() && none.empty() && any.empty(); }
    FieldSet fields() const;
    // Whenever `other` holds this does; false also when that cannot be told.
    bool covers(const Match& other) const;
    std::string text(const FieldTable& fields) const;
};
// The same in the numbers of another table, which learns the notes and header fields that it does not know; when there are too many
// of them a test on one never holds.
Match renumbered(Match match, const FieldTable& from, FieldTable& to);

}  // namespace sluice::policy
