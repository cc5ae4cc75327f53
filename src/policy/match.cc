#include "policy/match.h"

#include <algorithm>

namespace sluice::policy {
namespace {

// What `other` accepts is accepted by `test`.
bool covers(const Test& test, const Test& other) {
    const bool patterns = std::all_of(other.patterns.begin(), other.patterns.end(), [&](const Pattern& theirs) {
        return std::any_of(test.patterns.begin(), test.patterns.end(), [&](const Pattern& p) { return p.covers(theirs); });
    });
    return patterns && std::includes(test.groups.begin(), test.groups.end(), other.groups.begin(), other.groups.end());
}

bool same(const Match& a, const Match& b) { return a.covers(b) && b.covers(a); }

}  // namespace

bool Test::holds(const FieldTexts& texts) const {
    if (!texts.known.has(field)) return false;
    const std::uint32_t group = texts.group[number_of(field)];
    if (group != Matcher::nothing) return std::binary_search(groups.begin(), groups.end(), group);
    return matcher->matches(texts.text[number_of(field)]);
}

bool Match::holds(const FieldTexts& texts) const {
    const auto holds_too = [&](const auto& part) { return part.holds(texts); };
    return std::all_of(all.begin(), all.end(), holds_too) && std::none_of(none.begin(), none.end(), holds_too) &&
           (any.empty() || std::any_of(any.begin(), any.end(), holds_too));
}

FieldSet Match::fields() const {
    FieldSet set;
    for (const Test& test : all) set.add(test.field);
    for (const std::vector<Match>* const list : {&none, &any}) {
        for (const Match& match : *list) {
            const FieldSet inner = match.fields();
            for (std::size_t i = 0; i < field_max; ++i) {
                if (inner.has(static_cast<Field>(i))) set.add(static_cast<Field>(i));
            }
        }
    }
    return set;
}

bool Match::covers(const Match& other) const {
    const bool tests = std::all_of(all.begin(), all.end(), [&](const Test& test) {
        return std::any_of(other.all.begin(), other.all.end(), [&](const Test& theirs) {
            return theirs.field == test.field && policy::covers(test, theirs);
        });
    });
    const bool exceptions = std::all_of(none.begin(), none.end(), [&](const Match& match) {
        return std::any_of(other.none.begin(), other.none.end(), [&](const Match& theirs) { return theirs.covers(match); });
    });
    const bool choices = any.empty() || std::any_of(any.begin(), any.end(), [&](const Match& m) { return m.covers(other); }) ||
                         (any.size() == other.any.size() && std::equal(any.begin(), any.end(), other.any.begin(), same));
    return tests && exceptions && choices;
}

std::string Match::text(const FieldTable& fields) const {
    std::string out;
    const auto add = [&out](const std::string& part, const char* link) { out += (out.empty() ? "" : link) + part; };
    for (const Test& test : all) {
        std::string values;
        for (const std::string& group : test.group_names) values += (values.empty() ? "#" : " or #") + group;
        for (const Pattern& pattern : test.patterns) values += (values.empty() ? "" : " or ") + pattern.shown();
        add(fields.name_of(test.field) + " " + (values.empty() ? "\"\"" : values), ", ");
    }
    std::string choices;
    for (const Match& match : any) choices += (choices.empty() ? "" : " or ") + match.text(fields);
    if (!choices.empty()) add("(" + choices + ")", ", ");
    for (const Match& match : none) add("not (" + match.text(fields) + ")", ", ");
    return out.empty() ? "everything" : out;
}

Match renumbered(Match match, const FieldTable& from, FieldTable& to) {
    for (Test& test : match.all) {
        const std::optional<Field> field = to.add(from.name_of(test.field));
        if (field) test.field = *field;
        else test = Test{test.field, {}, {}, {}, nullptr};
    }
    for (Match& one : match.none) one = renumbered(std::move(one), from, to);
    for (Match& one : match.any) one = renumbered(std::move(one), from, to);
    return match;
}

}  // namespace sluice::policy
