#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/policy_set.h"

namespace sluice::policy {

// A file of test/config/policy/good, which several suites load.
inline std::string good_file(const std::string& name) {
    std::ifstream file(SLUICE_SOURCE_DIR "/test/config/policy/good/" + name + ".yaml");
    EXPECT_TRUE(file) << name;
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A set that must be good.
inline PolicySetPtr policies_of(std::string_view text) {
    Problems problems;
    PolicySetPtr set = parse_policies(text, "policy.yaml", problems);
    for (const Problem& problem : problems.all()) {
        EXPECT_EQ(problem.severity, Severity::warning) << problem.text();
    }
    EXPECT_NE(set, nullptr);
    return set;
}

inline std::vector<std::string> texts_of(const std::vector<Problem>& problems) {
    std::vector<std::string> texts;
    for (const Problem& problem : problems) texts.push_back(problem.text());
    return texts;
}

// The values of a delivery as a policy sees them: its roll-ups are applied. Borrows.
inline FieldTexts texts_for(const Policy& policy, std::initializer_list<std::pair<Field, std::string_view>> values) {
    FieldTexts texts;
    for (const auto& [field, value] : values) {
        std::uint32_t group = Matcher::nothing;
        for (std::size_t place = 0; place < policy.fields.size(); ++place) {
            if (policy.fields[place] == field && policy.roll_ups[place] != nullptr) group = policy.roll_ups[place]->group_of(value);
        }
        texts.set(field, value, group);
    }
    return texts;
}

}  // namespace sluice::policy
