#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "config/lines.h"
#include "config/settings.h"

namespace sluice::config {

// A value that does not fit its setting: where it stands and what was expected. Value.
struct Complaint {
    int line = 0;
    std::string text;         // what was found; empty when it may be secret
    std::string expected;     // continues "expected ..."
    std::string consequence;  // what happens instead, where the setting is lenient; may be empty
    bool mild = false;        // a warning even where the setting is not lenient
    std::string name;         // of the entry, where the setting is a whole section

    Complaint(const Value& value, std::string expected_)
        : line(value.line), text(value.text), expected(std::move(expected_)) {}
    Complaint(int line_, std::string text_, std::string expected_)
        : line(line_), text(std::move(text_)), expected(std::move(expected_)) {}
};
using Complaints = std::vector<Complaint>;

// How a setting is written and where it goes. `assign` is given what the file says, never nothing; for a
// single value the last one counts. What it complains about it leaves at the default. `show` is the value as
// it would be written in the file, "" when empty; a reload finds changes by comparing it, so it hides
// nothing, not even passwords. `copy` takes the value over from other settings; only kinds of settings that
// need a restart must have it.
struct Kind {
    std::string words;  // for the reference page: "seconds, 1s to 1d"
    std::function<Complaints(Settings&, const Values&)> assign;
    std::function<std::string(const Settings&)> show;
    std::function<void(Settings& to, const Settings& from)> copy{};
    bool secret = false;  // never print what `show` says
};

enum class Effect : std::uint8_t {
    live,     // within a second of the file's change
    restart,  // when the engine starts again
    none,     // accepted so that a Haraka instance starts unchanged; `doc` says why it does nothing
};

// How the file of a setting is read.
enum class Format : std::uint8_t {
    ini,
    list,      // a line is an item
    value,     // the first line counts
    verbatim,  // every line as it is
};

// One setting. The table of all of them is schema().
struct Setting {
    std::string file;     // under DIR/config
    std::string section;  // of an ini file; empty when the whole file is the setting
    std::string key;      // empty when the whole file, or every line of the section, is the setting
    Kind kind;
    Effect effect = Effect::live;
    std::string doc;
    Format format = Format::ini;
    bool lenient = false;  // a wrong value is a warning and the default is used, because Haraka does so
    std::string fallback_section{};  // where the value comes from when the key is not in `section`
    std::string legacy_file{};  // one-value file of old Haraka versions, read when the ini says nothing or no

    // "outbound.ini [main] concurrency_max", or the file alone.
    std::string name() const;
};

// Where in Settings a value lives.
template <class T>
struct Field {
    std::function<T&(Settings&)> write;
    std::function<const T&(const Settings&)> read;
};
template <class T>
Field<T> at(T Settings::* member) {
    return {
        [member](Settings& s) -> T& { return s.*member; },
        [member](const Settings& s) -> const T& { return s.*member; }
    };
}
template <class Group, class T>
Field<T> at(Group Settings::* group, T Group::* member) {
    return {
        [group, member](Settings& s) -> T& { return s.*group.*member; },
        [group, member](const Settings& s) -> const T& { return s.*group.*member; }
    };
}

template <class T>
std::function<void(Settings&, const Settings&)> copying(Field<T> field) {
    return [field](Settings& to, const Settings& from) { field.write(to) = field.read(from); };
}

template <class T>
struct Bounds {
    T low, high;
};

// `true` or `false` in Haraka's words.
Kind boolean(Field<bool> field);
// The same, and whatever else is said means false, with a warning: what Haraka makes of its own booleans.
Kind truth(Field<bool> field);
Kind number(Field<std::uint32_t> field, Bounds<std::uint32_t> bounds);
Kind number(Field<std::uint64_t> field, Bounds<std::uint64_t> bounds);
Kind number(Field<std::uint16_t> field, Bounds<std::uint16_t> bounds);
Kind number(Field<int> field, Bounds<int> bounds);
// Octets, with k, M, G, T.
Kind bytes(Field<std::uint64_t> field, Bounds<std::uint64_t> bounds);
// A bare number counts in `unit`, as it does in Haraka's file.
Kind duration(Field<Milliseconds> field, Bounds<Milliseconds> bounds, Milliseconds unit = Milliseconds(1000));
Kind text(Field<std::string> field);
// The first item of a list; `rule` checks and rewrites it.
using ItemRule = std::function<std::optional<std::string>(std::string_view)>;
Kind first_text(Field<std::string> field, std::string expected, ItemRule rule);
Kind secret(Field<std::string> field);
// Items separated by commas, or given one by one as `key[]`; each is checked and rewritten by `item`, which
// gives nothing for a wrong one. `expected` says what an item must be.
Kind list(Field<std::vector<std::string>> field, std::string expected, ItemRule item);
// Texts given one by one as `key[]`, taken as they are.
Kind texts(Field<std::vector<std::string>> field);
// A file whose lines all count, blank ones and comments too.
Kind verbatim(Field<std::vector<std::string>> field);
// The same as a list, of a section whose keys are the items.
Kind keys(Field<std::vector<std::string>> field, std::string expected, ItemRule item);
Kind ports(Field<std::vector<std::uint16_t>> field);

// `kind` with 0 for its default, as many of Haraka's numbers have it.
Kind zero_is_default(Kind kind);
// Kept for Haraka; whatever the value, nothing happens.
Kind anything();
// Read by the loader together with other settings, which show what came of it.
Kind elsewhere(std::string words);

// One of some words, without regard to case.
template <class T>
Kind choice(Field<T> field, std::vector<std::pair<std::string, T>> words) {
    std::string expected = "one of";
    for (const auto& [word, value] : words)
        expected += (expected.ends_with("of") ? " `" : ", `") + word + "`";
    Kind kind;
    kind.words = expected;
    kind.assign = [field, words, expected](Settings& settings, const Values& given) -> Complaints {
        for (const auto& [word, value] : words) {
            if (!iequals(word, given.back().text)) continue;
            field.write(settings) = value;
            return {};
        }
        return {Complaint(given.back(), expected)};
    };
    kind.show = [field, words](const Settings& settings) {
        for (const auto& [word, value] : words) {
            if (value == field.read(settings)) return word;
        }
        return std::string();
    };
    kind.copy = copying(field);
    return kind;
}

}  // namespace sluice::config
