#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "policy/assignment.h"
#include "policy/check.h"
#include "policy/delivery.h"
#include "policy/suspension.h"

// Whatever the bytes: a set or an error, and what is said of a set is about lines that exist. A first byte chooses the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    using namespace sluice::policy;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    Problems problems;
    const auto settle = [&](bool usable) {
        ASSERT(usable == !problems.any_error());
        for (const Problem& problem : problems.all()) ASSERT(!problem.message.empty() && problem.line >= 0);
        return 0;
    };
    if (bytes[0] == 's') return settle(parse_suspensions(text, "f", PolicySet{}, Instant{}, problems).has_value());
    if (bytes[0] == 'f') return settle(parse_assignments(text, "f", problems) != nullptr);
    if (bytes[0] == 't') return settle(parse_transports(text, "f", problems).has_value());
    if (bytes[0] == 'd') return settle(parse_delivery(text, "f", PolicySet{}, problems).has_value());

    const PolicySetPtr set = parse_policies(text, "f", problems);
    settle(set != nullptr);
    if (set == nullptr) return 0;
    review(*set, "f");
    ceilings(*set);
    for (const PolicyPtr& policy : set->policies) {
        FieldTexts texts;
        for (std::size_t place = 0; place < policy->fields.size(); ++place) {
            const RollUp* const roll_up = policy->roll_ups[place].get();
            const std::uint32_t group = roll_up != nullptr ? roll_up->group_of("mx.example.test") : Matcher::nothing;
            ASSERT(group == Matcher::nothing || group < roll_up->groups.size());
            texts.set(policy->fields[place], "mx.example.test", group);
        }
        policy->limits_of(texts);
    }
    return 0;
}
