#include "policy/record.h"

#include <cstdio>
#include <utility>

#include "base/text.h"

namespace sluice::policy {
namespace {

// Beyond ASCII as it is: yaml-cpp does not read the pairs of escapes with which JSON writes what is rare.
std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        const auto octet = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') out += '\\';
        if (octet >= 0x20 && octet != 0x7f) out += c;
        else out += "\\u00" + hex_encode(std::string_view(&c, 1));
    }
    return out + "\"";
}

// A list of what `each` makes of the entries.
template <class List, class Each>
std::string list_of(const List& list, Each each) {
    std::string out;
    for (const auto& entry : list) out += (out.empty() ? "" : ",") + each(entry);
    return "[" + out + "]";
}

std::string values_of(const Test& test) {
    std::vector<std::string> values;
    for (const std::string& group : test.group_names) values.push_back("#" + group);
    for (const Pattern& pattern : test.patterns) values.push_back(pattern.shown());
    return list_of(values, quoted);
}

std::string seconds_text(Duration value) {
    char text[32];
    std::snprintf(text, sizeof text, "%lld.%03lld", static_cast<long long>(value.count() / 1'000), static_cast<long long>(value.count() % 1'000));
    return text;
}

std::string rate_record(const Rate& rate) {
    Record record;
    record.number("count", rate.count()).seconds("interval", rate.per());
    return record.text("algorithm", rate.algorithm() == RateAlgorithm::fixed_window ? "fixedwindow" : "tokenbucket").take();
}

std::string adaptive_record(const Adaptive& adaptive) {
    Record record;
    const auto bounds = [](const std::string& low, const std::string& high) { return "[" + low + "," + high + "]"; };
    if (adaptive.concurrency_max != 0) {
        record.plain("concurrency", bounds(std::to_string(adaptive.concurrency_min), std::to_string(adaptive.concurrency_max)));
    }
    if (adaptive.rate_max != 0) {
        record.plain("rate", bounds(rate_record(Rate(adaptive.rate_min, adaptive.rate_per)), rate_record(Rate(adaptive.rate_max, adaptive.rate_per))));
    }
    return record.take();
}

std::string group_record(const RollUp& roll_up) {
    Record groups;
    for (const Group& group : roll_up.groups) {
        groups.plain(group.name, list_of(group.patterns, [](const Pattern& pattern) { return quoted(pattern.shown()); }));
    }
    return groups.take();
}

}  // namespace

Record& Record::plain(std::string_view key, std::string_view json) {
    out_ += out_.size() == 1 ? "" : ", ";
    out_ += quoted(key) + ": ";
    out_ += json;
    return *this;
}

Record& Record::text(std::string_view key, std::string_view value) { return plain(key, quoted(value)); }

Record& Record::seconds(std::string_view key, Duration value) { return plain(key, seconds_text(value)); }

Record& Record::properties(const Properties& properties) {
    if (properties.empty()) return *this;
    Record map;
    for (const auto& [key, value] : properties) map.text(key, value);
    return plain("properties", map.take());
}

Record& Record::tests(const Match& match, const FieldTable& fields) {
    const auto inner = [&fields](const Match& part) { return Record().tests(part, fields).take(); };
    for (const Test& test : match.all) plain(fields.name_of(test.field), values_of(test));
    if (!match.none.empty()) plain("not", list_of(match.none, inner));
    if (!match.any.empty()) plain("any", list_of(match.any, inner));
    return *this;
}

std::string record_of(const Limits& limits) {
    Record record;
    if (limits.concurrency != 0) record.number("concurrency", limits.concurrency);
    if (!limits.rates.empty()) record.plain("rate", list_of(limits.rates, rate_record));
    if (limits.connect_interval.count() != 0) record.seconds("connectinterval", limits.connect_interval);
    if (limits.messages_per_connection != 0) record.number("messages_per_connection", limits.messages_per_connection);
    if (limits.bytes_per_second != 0) record.number("bytes_per_second", limits.bytes_per_second);
    if (limits.adaptive.any()) record.plain("adaptive", adaptive_record(limits.adaptive));
    return record.text_if("transport", limits.transport).text_if("tag", limits.tag).properties(limits.properties).take();
}

std::string fields_record(const Policy& policy, const FieldTable& fields) {
    std::vector<std::string> entries;
    for (std::size_t place = 0; place < policy.fields.size(); ++place) {
        const std::string name = fields.name_of(policy.fields[place]);
        const RollUp* const roll_up = policy.roll_ups[place].get();
        entries.push_back(roll_up == nullptr ? quoted(name) : Record().plain(name, group_record(*roll_up)).take());
    }
    return list_of(entries, [](const std::string& entry) { return entry; });
}

}  // namespace sluice::policy
