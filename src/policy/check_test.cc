#include "policy/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> warnings(std::string_view text) { return texts_of(review(*policies_of(text), "policy.yaml")); }

TEST(Review, NothingToSayOfAGoodFile) {
    EXPECT_THAT(warnings(R"(
- default: { rate: "2000/1", concurrency: 5000 }
- fields: [localip, {remotemx: {google: ['*.google.com', '*.smtp.goog'], microsoft: '*.outlook.com'}}]
  conditions:
    - if: { remotemx: '#google', localip: 192.0.2.0/28 }
      then: { concurrency: 20, rate: ["50/1", "10000/3600"] }
    - if: { remotemx: '#google' }
      then: { concurrency: 10 }
  default: { concurrency: 5 }
)"), IsEmpty());
}

TEST(Review, ConditionsThatAreNeverReached) {
    EXPECT_THAT(warnings(R"(
- fields: [localip, remotemx]
  conditions:
    - if: { remotemx: '*.a.test' }
      then: { rate: 5 }
    - if: { remotemx: '*.b.a.test', localip: 192.0.2.1 }
      then: { rate: 6 }
    - if: { remotemx: ['*.c.a.test', x.test] }
      then: { rate: 7 }
    - if: { any: [ { remotemx: y.test }, { localip: 192.0.2.0/24 } ] }
      then: { rate: 8 }
    - if: { localip: 192.0.2.7 }
      then: { rate: 9 }
    - if: { not: { localip: 198.51.100.0/24 } }
      then: { rate: 10 }
    - if: { not: { localip: 198.51.100.0/23 }, remotemx: z.test }
      then: { rate: 11 }
)"), ElementsAre("warning: policy.yaml:6: this condition is never reached: the one on line 4 takes all that it would match",
                 "warning: policy.yaml:12: this condition is never reached: the one on line 10 takes all that it would match",
                 "warning: policy.yaml:16: this condition is never reached: the one on line 14 takes all that it would match"));
}

TEST(Review, ADefaultThatIsNeverUsed) {
    EXPECT_THAT(warnings("- fields: [localip]\n  conditions: [{if: {}, then: {rate: 5}}]\n  default: {rate: 6}\n"),
                ElementsAre(HasSubstr("`default` is never used")));
}

TEST(Review, GroupsThatOverlap) {
    EXPECT_THAT(warnings(R"(
- fields:
    - remotemx:
        all: ['*.a.test']
        part: ['*.b.a.test', '*.c.test']
        wide: ['*.test']
)"), ElementsAre("warning: policy.yaml:5: `*.b.a.test` never counts for #part: `*.a.test` of #all comes first and takes all of it",
                 "warning: policy.yaml:6: `*.test` of #wide overlaps `*.a.test` of #all: what both match counts for #all, which comes first",
                 "warning: policy.yaml:6: `*.test` of #wide overlaps `*.b.a.test` of #part: what both match counts for #part, which comes first",
                 "warning: policy.yaml:6: `*.test` of #wide overlaps `*.c.test` of #part: what both match counts for #part, which comes first"));
}

TEST(Review, AMemberThatMeansTheWholeGroup) {
    EXPECT_THAT(warnings("- fields: [{remotemx: {g: ['*.a.test']}}]\n  conditions: [{if: {remotemx: mx.a.test}, then: {rate: 5}}]\n"),
                ElementsAre(HasSubstr("names members of #g; the condition applies to that whole group")));
}

TEST(Review, LimitsThatNeverBind) {
    EXPECT_THAT(warnings("- default: {rate: [\"10/1\", \"700/60\"]}\n"), ElementsAre(HasSubstr("rate: 700 per 60 s is never reached")));
    EXPECT_THAT(warnings(R"(
- default: { concurrency: 100, rate: 50 }
- name: tenants
  fields: [tenantid]
  conditions:
    - if: { tenantid: vip }
      then: { concurrency: 200, rate: "4000/60" }
  default: { concurrency: 99, rate: 49 }
)"), ElementsAre("warning: policy.yaml:6: concurrency: 200 is never reached, because policy 1 (everything) allows no more for all that it counts together",
                 "warning: policy.yaml:6: rate: 4000 per 60 s is never reached, because policy 1 (everything) allows no more for all that it counts together"));
}

TEST(Review, AWiderPolicyThatMayNotLimitProvesNothing) {
    EXPECT_THAT(warnings(R"(
- fields: [tenantid]
  conditions: [{if: {tenantid: a}, then: {concurrency: 1}}]
- fields: [tenantid, localip]
  default: { concurrency: 50 }
)"), IsEmpty());
    EXPECT_THAT(warnings(R"(
- fields: [jobid]
  conditions: [{if: {jobid: urgent}, then: {stop: true}}]
- fields: [tenantid, localip]
  default: { concurrency: 50 }
- default: { concurrency: 10 }
)"), IsEmpty()) << "a message may stop before it comes to the wider policy";
    EXPECT_THAT(warnings(R"(
- fields: [{localip: {office: 192.0.2.0/24}}]
  default: { concurrency: 50 }
- fields: [localip]
  default: { concurrency: 10 }
)"), IsEmpty()) << "a group holds several addresses";
}

TEST(Review, OfTwoThatCountTheSameTheOneThatAllowsMoreIsNamed) {
    EXPECT_THAT(warnings("- fields: [tenantid]\n  default: {concurrency: 50}\n- fields: [tenantid]\n  default: {concurrency: 10}\n"),
                ElementsAre(HasSubstr("policy.yaml:1: concurrency: 50 is never reached")));
    EXPECT_THAT(warnings("- fields: [tenantid]\n  default: {concurrency: 10}\n- fields: [tenantid]\n  default: {concurrency: 10}\n"),
                ElementsAre(HasSubstr("policy.yaml:3: concurrency: 10 is never reached")));
}

TEST(Ceilings, WhatIsLeftOfALimitBelowAWiderOne) {
    const std::vector<Ceiling> found = ceilings(*policies_of(R"(
- name: engine
  default: { concurrency: 15 }
- fields: [localip, {remotemx: {g: ['*.g.test']}}]
  conditions:
    - if: { remotemx: '#g' }
      then: { concurrency: 20, rate: 50 }
  default: { rate: "10/60" }
)"));
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(found[0].when, "always");
    EXPECT_EQ(found[0].per, "the engine");
    EXPECT_EQ(found[0].sessions, 15U);
    EXPECT_EQ(found[0].bound_by, "");
    EXPECT_EQ(found[1].when, "remotemx #g");
    EXPECT_EQ(found[1].limits, "20 sessions, 50 per second");
    EXPECT_EQ(found[1].per, "localip, remotemx");
    EXPECT_EQ(found[1].sessions, 15U);
    EXPECT_EQ(found[1].bound_by, "engine");
    EXPECT_EQ(found[2].when, "otherwise");
    EXPECT_EQ(found[2].limits, "10 per 60 s");
    EXPECT_EQ(found[2].sessions, 15U);
}

}  // namespace
}  // namespace sluice::policy
