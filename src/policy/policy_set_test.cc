#include "policy/policy_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "policy/delivery.h"
#include "policy/suspension.h"
#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// ---- what is refused -------------------------------------------------------------------------------------------

// A file with a mistake; the one beside it with the ending .expected is what is said about it.
class BadPolicy : public testing::TestWithParam<fs::path> {};

TEST_P(BadPolicy, IsExplained) {
    const std::string kind = GetParam().parent_path().filename().string();
    const std::string text = slurp(GetParam());
    const PolicySet empty;
    Problems problems;
    bool usable = false;
    if (kind == "policy") usable = parse_policies(text, "policy.yaml", problems) != nullptr;
    if (kind == "suspend") usable = parse_suspensions(text, "suspend.yaml", empty, problems) != nullptr;
    if (kind == "delivery") usable = parse_delivery(text, "delivery.yaml", empty, problems).has_value();
    EXPECT_FALSE(usable);
    EXPECT_TRUE(problems.any_error());
    std::string found;
    for (const Problem& problem : problems.all()) found += problem.text() + "\n";
    const fs::path expected = fs::path(GetParam()).replace_extension(".expected");
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) std::ofstream(expected) << found;
    EXPECT_EQ(found, slurp(expected));
}

std::vector<fs::path> bad_files() {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(SLUICE_SOURCE_DIR "/test/config/policy/bad")) {
        if (entry.path().extension() == ".yaml") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}
std::string file_name(const testing::TestParamInfo<fs::path>& param) {
    return param.param.parent_path().filename().string() + "_" + param.param.stem().string();
}
INSTANTIATE_TEST_SUITE_P(Fixtures, BadPolicy, testing::ValuesIn(bad_files()), file_name);

// ---- what is meant ---------------------------------------------------------------------------------------------

TEST(PolicySet, TheFirstExampleLoadsAsItStands) {
    const PolicySetPtr set = policies_of(good_file("gsuite"));
    ASSERT_EQ(set->policies.size(), 1U);
    const Policy& policy = *set->policies[0];
    EXPECT_EQ(policy.name, "policy 1 (localip, remotemx)");
    EXPECT_THAT(policy.fields, testing::ElementsAre(Field::localip, Field::remotemx));
    for (const char* const mx : {"aspmx.l.google.com", "alt1.aspmx.l.google.com", "gmail-smtp-in.l.googlemail.com", "x.smtp.goog"}) {
        const Limits& limits = policy.limits_of(texts_for(policy, {{Field::localip, "192.0.2.1"}, {Field::remotemx, mx}}));
        EXPECT_EQ(limits.concurrency, 10U) << mx;
        EXPECT_THAT(limits.rates, testing::ElementsAre(Rate(50, Duration(1'000)))) << mx;
    }
    const Limits& other = policy.limits_of(texts_for(policy, {{Field::localip, "192.0.2.1"}, {Field::remotemx, "google.com"}}));
    EXPECT_EQ(other.concurrency, 5U);
    EXPECT_THAT(other.rates, testing::ElementsAre(Rate(10, Duration(1'000))));
}

TEST(PolicySet, TheSecondExampleLoadsAsItStands) {
    const PolicySetPtr set = policies_of(good_file("o365"));
    const Policy& policy = *set->policies[0];
    EXPECT_EQ(policy.fields.size(), 3U);
    const auto limits = [&](const char* mx) {
        return policy.limits_of(texts_for(policy, {{Field::localip, "192.0.2.1"}, {Field::remoteip, "203.0.113.1"}, {Field::remotemx, mx}}));
    };
    EXPECT_EQ(limits("example-org.mail.protection.outlook.com").concurrency, 10U);
    EXPECT_FALSE(limits("mx.example.org").any()) << "nothing matches and there is no default: not limited by this policy";
}

TEST(PolicySet, BothFormsAndEveryLimit) {
    const PolicySetPtr set = policies_of(R"(
version: "6.10"
x-owner: postmaster
rate: { algorithm: fixedwindow }
lists:
  tenantid: { trial: [a, /^free-/] }
policies:
  - default: { rate: "2000/1", tag: global }
  - name: tenants
    fields: [ tenantid ]
    conditions:
      - if: { tenantid: "@trial" }
        then: { rate: "500/3600", tag: trial }
      - if: { tenantid: /^vip-/ }
        then: { concurrency: 400, stop: true }
    default: { rate: [ "50/1", { count: 1000, interval: 3600, algorithm: tokenbucket } ] }
  - fields: [ localip, grouping ]
  - fields: [ remoteip ]
    default:
      concurrency: 4
      rate: [10, "60"]
      connectinterval: 0.5
      messages_per_connection: 20
      bytes_per_second: 1000000
      properties: { backoff-rate: "5/3600", backoff-ttl: 3600, on: true }
)");
    ASSERT_EQ(set->policies.size(), 4U);
    constexpr RateAlgorithm fixed = RateAlgorithm::fixed_window;
    EXPECT_EQ(set->policies[0]->fallback->rates, std::vector<Rate>{Rate(2'000, Duration(1'000), fixed)});
    EXPECT_EQ(set->policies[0]->fallback->tag, "global");
    const Policy& tenants = *set->policies[1];
    EXPECT_EQ(tenants.name, "tenants");
    const auto of = [&](const char* tenant) { return tenants.limits_of(texts_for(tenants, {{Field::tenantid, tenant}})); };
    EXPECT_EQ(of("free-7").tag, "trial");
    EXPECT_EQ(of("a").rates[0].per(), Duration(3'600'000));
    EXPECT_TRUE(of("vip-1").stop);
    EXPECT_TRUE(of("vip-1").rates.empty()) << "nothing is inherited unless asked for";
    EXPECT_THAT(of("z").rates, testing::ElementsAre(Rate(50, Duration(1'000), fixed), Rate(1'000, Duration(3'600'000))));
    EXPECT_FALSE(set->policies[2]->fallback);
    const Limits& all = *set->policies[3]->fallback;
    EXPECT_EQ(all.rates, std::vector<Rate>{Rate(10, Duration(60'000), fixed)});
    EXPECT_EQ(all.connect_interval, Duration(500));
    EXPECT_EQ(all.messages_per_connection, 20U);
    EXPECT_EQ(all.bytes_per_second, 1'000'000U);
    EXPECT_THAT(all.properties, testing::ElementsAre(testing::Pair("backoff-rate", "5/3600"), testing::Pair("backoff-ttl", "3600"),
                                                     testing::Pair("on", "true")));
}

TEST(PolicySet, InheritTakesWhatIsNotGivenFromTheDefault) {
    const PolicySetPtr set = policies_of(R"(
- fields: [tenantid]
  conditions:
    - if: { tenantid: a }
      then: { inherit: true, rate: 0, tag: own }
  default: { concurrency: 7, rate: 3, tag: usual, stop: true }
)");
    const Policy& policy = *set->policies[0];
    const Limits& limits = policy.limits_of(texts_for(policy, {{Field::tenantid, "a"}}));
    EXPECT_EQ(limits.concurrency, 7U);
    EXPECT_TRUE(limits.rates.empty());
    EXPECT_EQ(limits.tag, "own");
    EXPECT_FALSE(limits.stop);
}

TEST(PolicySet, ConditionsKnowNotAndAnyAndListsOfValues) {
    const PolicySetPtr set = policies_of(R"(
- fields: [tenantid, recipientdomain, priority]
  conditions:
    - if: { tenantid: [a, b], not: { recipientdomain: "*.inner.test" } }
      then: { concurrency: 1 }
    - if: { any: [ { tenantid: c }, { recipientdomain: x.test, priority: ">=6" } ] }
      then: { concurrency: 2 }
    - if: { tenantid: "" }
      then: { concurrency: 3 }
  default: { concurrency: 9 }
)");
    const Policy& policy = *set->policies[0];
    const struct {
        const char *tenant, *domain, *priority;
        std::uint32_t concurrency;
    } rows[] = {
        {"a", "x.test", "4", 1},      {"b", "y.inner.test", "4", 9}, {"c", "y.inner.test", "0", 2}, {"d", "x.test", "6", 2},
        {"d", "x.test", "5", 9},      {"", "y.test", "7", 3},        {"b", "inner.test", "4", 1},
    };
    for (const auto& row : rows) {
        const FieldTexts texts = texts_for(
            policy, {{Field::tenantid, row.tenant}, {Field::recipientdomain, row.domain}, {Field::priority, row.priority}});
        EXPECT_EQ(policy.limits_of(texts).concurrency, row.concurrency) << row.tenant << " " << row.domain << " " << row.priority;
    }
}

TEST(PolicySet, AMemberOfAGroupMeansTheWholeGroup) {
    const PolicySetPtr set = policies_of(R"(
- fields:
    - remotemx: { big: ['*.big.test', '/^mx\d+\.b1\.test$/'], other: ['*.other.test'] }
  conditions:
    - if: { remotemx: mx1.b1.test }
      then: { concurrency: 1 }
    - if: { remotemx: '*.deep.other.test' }
      then: { concurrency: 2 }
    - if: { remotemx: '*.test' }
      then: { concurrency: 3 }
)");
    const Policy& policy = *set->policies[0];
    const auto concurrency = [&](const char* mx) { return policy.limits_of(texts_for(policy, {{Field::remotemx, mx}})).concurrency; };
    EXPECT_EQ(concurrency("mx1.b1.test"), 1U);
    EXPECT_EQ(concurrency("a.big.test"), 1U) << "the bucket is that of the group";
    EXPECT_EQ(concurrency("a.other.test"), 2U);
    EXPECT_EQ(concurrency("alone.test"), 3U);
}

TEST(PolicySet, AnEarlierGroupWins) {
    const PolicySetPtr set = policies_of(R"(
- fields:
    - remotemx: { first: ['*.a.test'], second: ['*.test', 'mx.a.test'] }
)");
    const RollUp& roll_up = *set->policies[0]->roll_ups[0];
    EXPECT_EQ(roll_up.group_of("mx.a.test"), 0U);
    EXPECT_EQ(roll_up.group_of("mx.b.test"), 1U);
    EXPECT_EQ(roll_up.group_of("elsewhere"), Matcher::nothing);
    EXPECT_EQ(set->policies[0]->group_text(0, 1), "#second");
}

TEST(PolicySet, GroupingIsTheFirstThatMatchesOrTheDefault) {
    const PolicySetPtr set = policies_of(R"(
lists:
  remotemx: { microsoft: ['*.protection.outlook.com'] }
grouping:
  default: recipientdomain
  groupings:
    - { id: google, remotemx: ['*.google.com'] }
    - { id: microsoft, remotemx: '@microsoft', remoteip: 203.0.113.0/24 }
policies:
  - fields: [grouping]
    conditions:
      - if: { grouping: '&google' }
        then: { concurrency: 2 }
)");
    const Grouping& grouping = set->grouping;
    EXPECT_EQ(grouping.of("mx.google.com", "203.0.113.1", "a.test"), "&google");
    EXPECT_EQ(grouping.of("a.mail.protection.outlook.com", "198.51.100.1", "a.test"), "&microsoft");
    EXPECT_EQ(grouping.of("mx.a.test", "203.0.113.9", "a.test"), "&microsoft");
    EXPECT_EQ(grouping.of("mx.a.test", "198.51.100.1", "a.test"), "a.test");
    const Policy& policy = *set->policies[0];
    EXPECT_EQ(policy.limits_of(texts_for(policy, {{Field::grouping, "&google"}})).concurrency, 2U);
    EXPECT_EQ(policy.limits_of(texts_for(policy, {{Field::grouping, "google.com"}})).concurrency, 0U);
}

TEST(PolicySet, NotesAndHeadersAreFields) {
    const PolicySetPtr set = policies_of(R"(
- fields: [notes.campaign, header.X-Stream]
  conditions:
    - if: { header.x-stream: bulk, notes.campaign: /^spring/ }
      then: { rate: 5 }
)");
    const Policy& policy = *set->policies[0];
    const std::optional<Field> note = set->fields.find("notes.campaign");
    const std::optional<Field> header = set->fields.find("header.X-STREAM");
    ASSERT_TRUE(note && header);
    EXPECT_EQ(set->fields.name_of(*header), "header.x-stream");
    EXPECT_FALSE(set->fields.find("notes.Campaign")) << "keys of notes have case";
    EXPECT_TRUE(policy.limits_of(texts_for(policy, {{*note, "spring-1"}, {*header, "bulk"}})).any());
    EXPECT_FALSE(policy.limits_of(texts_for(policy, {{*note, "autumn"}, {*header, "bulk"}})).any());
}

TEST(PolicySet, WhatIsCountedIsToldApartFromWhatIsAllowed) {
    const auto counts = [](const std::string& text) { return policies_of(text)->policies[0]->counts; };
    const std::string grouped = "- fields: [localip, {remotemx: {g: ['*.a.test']}}]\n";
    EXPECT_EQ(counts(grouped), counts(grouped + "  default: {rate: 5}\n"));
    EXPECT_EQ(counts(grouped), counts("- fields: [{remotemx: {g: '*.A.test'}}, localip]\n"));
    EXPECT_NE(counts(grouped), counts("- fields: [localip, {remotemx: {g: ['*.b.test']}}]\n"));
    EXPECT_NE(counts(grouped), counts("- fields: [localip, remotemx]\n"));
}

TEST(PolicySet, AnEmptyFileHasNoPolicies) {
    for (const char* const text : {"", "# nothing\n", "policies:\n", "[]", "policies: []"}) EXPECT_TRUE(policies_of(text)->policies.empty());
    EXPECT_TRUE(policies_of(good_file("gsuite"))->used_fields().depends_on_candidate());
}

TEST(PolicySet, ClusterIsTakenWithAWarning) {
    Problems problems;
    ASSERT_NE(parse_policies("- default: {rate: 5, cluster: true}\n", "policy.yaml", problems), nullptr);
    ASSERT_EQ(problems.all().size(), 1U);
    EXPECT_EQ(problems.all()[0].severity, Severity::warning);
}

}  // namespace
}  // namespace sluice::policy
