#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "policy/limits.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

// A JSON object under construction, which is YAML as well. Inside this folder only.
class Record {
public:
    Record& text(std::string_view key, std::string_view value);
    Record& text_if(std::string_view key, std::string_view value) { return value.empty() ? *this : text(key, value); }
    Record& number(std::string_view key, std::uint64_t value) { return plain(key, std::to_string(value)); }
    Record& seconds(std::string_view key, Duration value);
    Record& truth(std::string_view key, bool value) { return plain(key, value ? "true" : "false"); }
    Record& plain(std::string_view key, std::string_view json);
    Record& properties(const Properties& properties);
    // The entries that stand behind `if`, among whatever else is here.
    Record& tests(const Match& match, const FieldTable& fields);
    std::string take() { return std::move(out_) + "}"; }

private:
    std::string out_ = "{";
};

std::string record_of(const Limits& limits);
// `fields` of a policy, with the groups.
std::string fields_record(const Policy& policy, const FieldTable& fields);

}  // namespace sluice::policy
