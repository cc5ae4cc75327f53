#include "config/setting.h"

#include <algorithm>
#include <array>

#include "config/syntax.h"

namespace sluice::config {
namespace {

Complaints complaint(const Value& value, std::string expected) {
    return {Complaint(value, std::move(expected))};
}

std::optional<bool> truth_of(std::string_view text) {
    constexpr std::array<std::string_view, 6> truths{"true", "yes", "ok", "enabled", "on", "1"};
    constexpr std::array<std::string_view, 6> untruths{"false", "no", "off", "disabled", "0", ""};
    const auto is = [&](std::string_view word) { return iequals(word, text); };
    if (std::any_of(truths.begin(), truths.end(), is)) return true;
    if (std::any_of(untruths.begin(), untruths.end(), is)) return false;
    return std::nullopt;
}

std::string join(const std::vector<std::string>& items) {
    std::string out;
    for (const std::string& item : items)
        out += (out.empty() ? "" : ", ") + item;
    return out;
}

// A single value: `parse` gives it or nothing. An empty value leaves the default, as in Haraka.
template <class T, class Parse>
std::function<Complaints(Settings&, const Values&)> single(
    Field<T> field, std::string expected, Parse parse
) {
    return [field, expected, parse](Settings& settings, const Values& given) -> Complaints {
        if (given.back().text.empty()) return {};
        const std::optional<T> value = parse(std::string_view(given.back().text));
        if (!value) return complaint(given.back(), expected);
        field.write(settings) = *value;
        return {};
    };
}

template <class Number>
Kind whole_number(Field<Number> field, Bounds<Number> bounds) {
    Kind kind;
    kind.words = "whole number, " + std::to_string(bounds.low) + " to " + std::to_string(bounds.high);
    kind.assign = single(field, "a " + kind.words, [bounds](std::string_view text) {
        auto value = parse_number<Number>(text);
        if (value && (*value < bounds.low || *value > bounds.high)) value.reset();
        return value;
    });
    kind.show = [field](const Settings& settings) { return std::to_string(field.read(settings)); };
    kind.copy = copying(field);
    return kind;
}

// What stands between the commas of all values; empty pieces are no items.
Values pieces(const Values& given) {
    Values items;
    for (const Value& value : given) {
        for (const std::string_view piece : split(value.text, ',')) {
            if (!trim(piece).empty()) items.push_back({std::string(trim(piece)), value.line});
        }
    }
    return items;
}

}  // namespace

std::string Setting::name() const {
    std::string out = file;
    if (!section.empty()) out += " [" + section + "]";
    if (!key.empty()) out += " " + key;
    return out;
}

Kind boolean(Field<bool> field) {
    Kind kind;
    kind.words = "boolean";
    kind.assign = [field](Settings& settings, const Values& given) -> Complaints {
        const auto value = truth_of(given.back().text);
        if (!value) return complaint(given.back(), "`true` or `false`");
        field.write(settings) = *value;
        return {};
    };
    kind.show = [field](const Settings& settings) { return field.read(settings) ? "true" : "false"; };
    kind.copy = copying(field);
    return kind;
}

Kind truth(Field<bool> field) {
    Kind kind = boolean(field);
    kind.assign = [field, strict = kind.assign](Settings& settings, const Values& given) {
        Complaints complaints = strict(settings, given);
        for (Complaint& wrong : complaints) {
            field.write(settings) = false;
            wrong.mild = true;
            wrong.consequence = "taken as false";
        }
        return complaints;
    };
    return kind;
}

Kind number(Field<std::uint32_t> field, Bounds<std::uint32_t> bounds) {
    return whole_number(field, bounds);
}
Kind number(Field<std::uint64_t> field, Bounds<std::uint64_t> bounds) {
    return whole_number(field, bounds);
}
Kind number(Field<std::uint16_t> field, Bounds<std::uint16_t> bounds) {
    return whole_number(field, bounds);
}
Kind number(Field<int> field, Bounds<int> bounds) {
    return whole_number(field, bounds);
}

Kind bytes(Field<std::uint64_t> field, Bounds<std::uint64_t> bounds) {
    Kind kind;
    kind.words = "octets, " + format_bytes(bounds.low) + " to " + format_bytes(bounds.high);
    const std::string expected = "a number of " + kind.words + ", such as 26214400 or 25M";
    kind.assign = single(field, expected, [bounds](std::string_view text) {
        auto value = parse_bytes(text);
        if (value && (*value < bounds.low || *value > bounds.high)) value.reset();
        return value;
    });
    kind.show = [field](const Settings& settings) { return format_bytes(field.read(settings)); };
    kind.copy = copying(field);
    return kind;
}

Kind duration(Field<Milliseconds> field, Bounds<Milliseconds> bounds, Milliseconds unit) {
    Kind kind;
    const std::string counted = unit == Milliseconds(1) ? "milliseconds" : "seconds";
    kind.words = counted + ", " + format_duration(bounds.low) + " to " + format_duration(bounds.high);
    const std::string expected = "a duration in " + kind.words + ", such as 30, 500ms, 5m or 2h";
    kind.assign = single(field, expected, [bounds, unit](std::string_view text) {
        auto value = parse_duration(text, unit);
        if (value && (*value < bounds.low || *value > bounds.high)) value.reset();
        return value;
    });
    kind.show = [field](const Settings& settings) { return format_duration(field.read(settings)); };
    kind.copy = copying(field);
    return kind;
}

Kind text(Field<std::string> field) {
    Kind kind;
    kind.words = "text";
    kind.assign = [field](Settings& settings, const Values& given) -> Complaints {
        if (!given.back().text.empty()) field.write(settings) = given.back().text;
        return {};
    };
    kind.show = [field](const Settings& settings) { return field.read(settings); };
    kind.copy = copying(field);
    return kind;
}

Kind first_text(Field<std::string> field, std::string expected, ItemRule rule) {
    Kind kind;
    kind.words = expected;
    kind.assign = [field, expected, rule](Settings& settings, const Values& given) -> Complaints {
        if (given.front().text.empty()) return {};
        auto accepted = rule(given.front().text);
        if (!accepted) return complaint(given.front(), expected);
        field.write(settings) = std::move(*accepted);
        return {};
    };
    kind.show = [field](const Settings& settings) { return field.read(settings); };
    kind.copy = copying(field);
    return kind;
}

Kind secret(Field<std::string> field) {
    Kind kind = text(std::move(field));
    kind.words = "text, never printed";
    kind.secret = true;
    return kind;
}

Kind list(Field<std::vector<std::string>> field, std::string expected, ItemRule item) {
    Kind kind;
    kind.words = "list; an item is " + expected;
    kind.assign = [field, expected, item](Settings& settings, const Values& given) {
        Complaints complaints;
        std::vector<std::string> items;
        for (const Value& piece : pieces(given)) {
            if (auto accepted = item(piece.text)) {
                items.push_back(std::move(*accepted));
            } else {
                complaints.emplace_back(piece, expected);
            }
        }
        if (!items.empty()) field.write(settings) = std::move(items);
        return complaints;
    };
    kind.show = [field](const Settings& settings) { return join(field.read(settings)); };
    kind.copy = copying(field);
    return kind;
}

Kind texts(Field<std::vector<std::string>> field) {
    Kind kind;
    kind.words = "texts, one a line";
    kind.assign = [field](Settings& settings, const Values& given) -> Complaints {
        std::vector<std::string>& items = field.write(settings);
        items.clear();
        for (const Value& value : given) {
            if (!value.text.empty()) items.push_back(value.text);
        }
        return {};
    };
    kind.show = [field](const Settings& settings) { return join(field.read(settings)); };
    kind.copy = copying(field);
    return kind;
}

Kind verbatim(Field<std::vector<std::string>> field) {
    Kind kind;
    kind.words = "lines, kept as they are";
    kind.assign = [field](Settings& settings, const Values& given) -> Complaints {
        for (const Value& line : given)
            field.write(settings).push_back(line.text);
        return {};
    };
    kind.show = [field](const Settings& settings) {
        std::string out;
        for (const std::string& line : field.read(settings))
            out += line + "\n";
        return out;
    };
    kind.copy = copying(field);
    return kind;
}

Kind keys(Field<std::vector<std::string>> field, std::string expected, ItemRule item) {
    Kind kind = list(std::move(field), std::move(expected), std::move(item));
    kind.words =
        "section of" + kind.words.substr(std::string_view("list; an item is").size()) + ", one a line";
    kind.assign = [assign_list = kind.assign](Settings& settings, const Values& given) {
        Values items;
        for (const Value& entry : given)
            items.push_back({entry.name, entry.line});
        return assign_list(settings, items);
    };
    return kind;
}

Kind ports(Field<std::vector<std::uint16_t>> field) {
    Kind kind;
    kind.words = "list of ports, 1 to 65535; 0: none";
    kind.assign = [field](Settings& settings, const Values& given) {
        Complaints complaints;
        std::vector<std::uint16_t> numbers;
        const Values items = pieces(given);
        for (const Value& piece : items) {
            const auto port = parse_port(piece.text);
            if (port) numbers.push_back(*port);
            if (!port && piece.text != "0") complaints.emplace_back(piece, "a port from 1 to 65535");
        }
        if (!items.empty()) field.write(settings) = std::move(numbers);
        return complaints;
    };
    kind.show = [field](const Settings& settings) {
        std::vector<std::string> words;
        for (const std::uint16_t port : field.read(settings))
            words.push_back(std::to_string(port));
        return join(words);
    };
    kind.copy = copying(field);
    return kind;
}

Kind zero_is_default(Kind kind) {
    kind.words += "; 0: the default";
    kind.assign = [assign = kind.assign](Settings& settings, const Values& given) {
        return given.back().text == "0" ? Complaints() : assign(settings, given);
    };
    return kind;
}

Kind anything() {
    Kind kind;
    kind.words = "ignored";
    kind.assign = [](Settings&, const Values&) { return Complaints{}; };
    kind.show = [](const Settings&) { return std::string(); };
    kind.copy = [](Settings&, const Settings&) {};
    return kind;
}

Kind elsewhere(std::string words) {
    Kind kind = anything();
    kind.words = std::move(words);
    return kind;
}

}  // namespace sluice::config
