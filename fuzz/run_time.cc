#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "policy/dynamic.h"
#include "policy/policy_set.h"
#include "policy/suspension.h"

// What operators and programs ask for while the engine runs, and what the journal keeps of it. A first byte chooses: 'c' a condition, 's' a
// suspension, 'C' and 'S' their records.
namespace {

using namespace sluice;
using namespace sluice::policy;

constexpr std::string_view policies = R"(
lists: {localip: {ours: [192.0.2.0/28, 2001:db8::1]}}
grouping: {default: remotemx, groupings: [{id: g, remotemx: '*.g.test'}]}
policies:
- name: both
  fields: [localip, {remotemx: {gsuite: ['*.google.com', '/^aspmx/'], one: one.test}}]
  default: {concurrency: 20}
- name: grouped
  fields: [grouping]
- default: {rate: 5}
)";

const PolicySet& the_set() {
    static const PolicySetPtr set = [] {
        Problems problems;
        return parse_policies(policies, "f", problems);
    }();
    ASSERT(set != nullptr);
    return *set;
}

// A value or an error; and what was understood is understood again from its record, as the same, once the engine has named and dated it.
template <class Value>
void settle(std::optional<Value> value, const Problems& problems, std::optional<Value> (*read)(std::string_view, const std::string&, Problems&)) {
    ASSERT(value.has_value() == !problems.any_error());
    for (const Problem& problem : problems.all()) ASSERT(!problem.message.empty() && problem.line >= 0);
    if (!value) return;
    if (value->id.empty()) value->id = "unnamed";
    value->since = instant_from_ms(1);
    const std::string record = record_of(*value);
    ASSERT(record.find('\n') == std::string::npos);
    Problems more;
    const std::optional<Value> again = read(record, "journal", more);
    ASSERT(again && record_of(*again) == record);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    Problems problems;
    switch (bytes[0]) {
    case 'c': settle(parse_condition(text, "request", the_set(), problems), problems, parse_condition_record); break;
    case 's': settle(parse_suspension(text, "request", the_set(), problems), problems, parse_suspension_record); break;
    case 'C': settle(parse_condition_record(text, "journal", problems), problems, parse_condition_record); break;
    case 'S': settle(parse_suspension_record(text, "journal", problems), problems, parse_suspension_record); break;
    default: break;
    }
    return 0;
}
