#include "policy/dynamic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

using Class = DynamicCondition::Class;
using testing::HasSubstr;

const char* const two_policies = R"(
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

class Dynamic : public testing::Test {
protected:
    DynamicCondition asked(const std::string& text) {
        Problems problems;
        std::optional<DynamicCondition> condition = parse_condition(text, "request", *set_, problems);
        for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
        return condition.value_or(DynamicCondition{});
    }
    std::string complaint(const std::string& text) {
        Problems problems;
        EXPECT_FALSE(parse_condition(text, "request", *set_, problems)) << text;
        return problems.all().empty() ? "" : problems.all().front().text();
    }

    PolicySetPtr set_ = policies_of(two_policies);
};

TEST_F(Dynamic, BackOffBeforeWarmUpBeforeOrdinaryThenMoreFieldsThenTheNewer) {
    const auto made = [&](Class kind, const char* match, std::int64_t since_ms) {
        DynamicCondition condition = asked(std::string(R"({"policy": "both", "then": {"rate": 1}, "if": )") + match + "}");
        condition.kind = kind;
        condition.since = instant_from_ms(since_ms);
        return condition;
    };
    const DynamicCondition back_off = made(Class::back_off, R"({"localip": "192.0.2.1"})", 1);
    const DynamicCondition warm_up = made(Class::warm_up, R"({"localip": "192.0.2.1", "remotemx": "m.test"})", 9);
    const DynamicCondition two = made(Class::ordinary, R"({"localip": "192.0.2.1", "remotemx": "m.test"})", 1);
    const DynamicCondition one = made(Class::ordinary, R"({"remotemx": "m.test"})", 9);
    const DynamicCondition older = made(Class::ordinary, R"({"localip": "192.0.2.1"})", 8);
    const DynamicCondition* const order[] = {&back_off, &warm_up, &two, &one, &older};
    for (std::size_t i = 0; i < std::size(order); ++i) {
        for (std::size_t j = 0; j < std::size(order); ++j) EXPECT_EQ(comes_before(*order[i], *order[j]), i < j) << i << " " << j;
    }
}

TEST_F(Dynamic, FindsThePolicyItIsAbout) {
    EXPECT_EQ(asked(R"({"if": {"localip": "192.0.2.1", "remotemx": "#gsuite"}, "then": {"rate": "10/60"}})").policy->name, "both");
    EXPECT_EQ(asked(R"({"if": {"remotemx": "m.test"}, "then": {}})").policy->name, "both") << "the only one that has the field";
    EXPECT_EQ(asked(R"({"if": {"grouping": "&g"}, "then": {}})").policy->name, "grouped");
    EXPECT_EQ(asked(R"({"fields": ["remotemx", "localip"], "then": {}})").policy->name, "both");
    EXPECT_EQ(asked(R"({"then": {}})").policy->fields.size(), 0U) << "the engine";
    EXPECT_THAT(complaint(R"({"if": {"tenantid": "a"}, "then": {}})"), HasSubstr("no policy of policy.yaml counts by tenantid"));
    EXPECT_THAT(complaint(R"({"if": {"grouping": "&g", "localip": ""}, "then": {}})"), HasSubstr("no policy of policy.yaml counts by localip, grouping"));
    EXPECT_THAT(complaint(R"({"policy": "bot", "then": {}})"), HasSubstr("has none called `bot` (did you mean `both`?)"));
    set_ = policies_of("- fields: [remoteip]\n- fields: [{remoteip: {a: 192.0.2.1}}]\n");
    EXPECT_THAT(complaint(R"({"if": {"remoteip": "192.0.2.1"}, "then": {}})"), HasSubstr("several policies count by remoteip, so say which: `policy 1 (remoteip)`, `policy 2 (remoteip)`"));
}

TEST_F(Dynamic, WhatIsAskedForIsChecked) {
    EXPECT_THAT(complaint(R"({"if": {"remotemx": "m.test"}})"), HasSubstr("expected `then`"));
    EXPECT_THAT(complaint(R"({"if": {"remotemx": "#gsuit"}, "then": {}})"), HasSubstr("no group `#gsuit` for remotemx (did you mean `#gsuite`?)"));
    EXPECT_THAT(complaint(R"({"then": {"rates": 1}})"), HasSubstr("unknown key `rates` (did you mean `rate`?)"));
    EXPECT_THAT(complaint(R"({"then": {"stop": true}})"), HasSubstr("stop: "));
    EXPECT_THAT(complaint(R"({"then": {"inherit": true}})"), HasSubstr("inherit: "));
    EXPECT_THAT(complaint(R"({"then": {}, "class": "backoff"})"), HasSubstr("expected ordinary, warm_up or back_off (did you mean `back_off`?)"));
    EXPECT_THAT(complaint(R"({"then": {}, "ttl": 1e18})"), HasSubstr("ttl: expected seconds"));
    EXPECT_THAT(complaint(R"({"then": {}, "id": "\u00e4"})"), HasSubstr("id: expected"));
    EXPECT_THAT(complaint(R"({"then": {}, "since": 5})"), HasSubstr("unknown key `since`"));
}

TEST_F(Dynamic, KnowsWhetherItConcernsOneBucket) {
    const auto bucket = [&](const char* match) {
        const auto values = only_bucket_of(asked(std::string(R"({"policy": "both", "then": {}, "if": )") + match + "}"));
        std::string text;
        for (const BoundValue& value : values.value_or(std::vector<BoundValue>{})) {
            text += (value.group != Matcher::nothing ? "#" + std::to_string(value.group) : value.text) + " ";
        }
        return text;
    };
    EXPECT_EQ(bucket(R"({"localip": "192.0.2.1", "remotemx": "m.test"})"), "192.0.2.1 m.test ");
    EXPECT_EQ(bucket(R"({"localip": "2001:DB8::0:1", "remotemx": "#gsuite"})"), "2001:db8::1 #0 ");
    EXPECT_EQ(bucket(R"({"localip": "", "remotemx": "One.test"})"), " #1 ") << "a member means its group";
    EXPECT_EQ(bucket(R"({"localip": "192.0.2.1", "remotemx": ["one.test", "#one"]})"), "192.0.2.1 #1 ");
    for (const char* const several : {R"({"localip": "192.0.2.1"})", R"({"localip": "192.0.2.0/24", "remotemx": "m.test"})",
                                      R"({"localip": "192.0.2.1", "remotemx": ["m.test", "n.test"]})", R"({"localip": "192.0.2.1", "remotemx": "*.m.test"})",
                                      R"({"localip": "192.0.2.1", "remotemx": ["one.test", "m.test"]})",
                                      R"({"localip": "192.0.2.1", "remotemx": "m.test", "not": {"localip": "192.0.2.2"}})"}) {
        EXPECT_EQ(bucket(several), "") << several;
    }
    EXPECT_TRUE(only_bucket_of(asked(R"({"then": {}})"))) << "the engine has one";
}

TEST_F(Dynamic, ARecordSaysAllOfItWithoutThePolicyFile) {
    DynamicCondition condition = asked(
        R"({"id": "c-1", "class": "back_off", "if": {"localip": "@ours", "remotemx": ["#gsuite", "/^mx\\d+/"], "not": {"remotemx": "mx9"}},
            "then": {"concurrency": 3, "rate": ["10/0.29", {"count": 5, "interval": 60, "algorithm": "fixedwindow"}], "connectinterval": 0.5,
                     "messages_per_connection": 7, "bytes_per_second": 1000, "tag": "slow", "properties": {"a": "b \"c\""}},
            "ttl": 300, "author": "me", "reason": "421 4.7.28 \u2014 too fast"})");
    condition.since = instant_from_ms(1'795'000'000'001);
    condition.expires = condition.since + condition.ttl;
    Problems problems;
    const std::optional<DynamicCondition> found = parse_condition_record(record_of(condition), "journal", problems);
    ASSERT_TRUE(found) << problems.all().back().text();
    EXPECT_EQ(record_of(*found), record_of(condition));
    EXPECT_EQ(found->policy->counts, condition.policy->counts);
    EXPECT_EQ(found->limits, condition.limits);
    EXPECT_EQ(found->limits.rates[0].per(), Duration(290));
    EXPECT_EQ(found->since, condition.since);
    EXPECT_EQ(found->expires, condition.expires);
    EXPECT_TRUE(says_the_same(*found, condition));
    const auto holds = [&](const char* ip, const char* mx) {
        return found->match.holds(texts_for(*found->policy, {{Field::localip, ip}, {Field::remotemx, mx}}));
    };
    EXPECT_TRUE(holds("192.0.2.3", "a.google.com"));
    EXPECT_TRUE(holds("2001:db8::1", "mx1"));
    EXPECT_FALSE(holds("192.0.2.3", "mx9"));
    EXPECT_FALSE(holds("192.0.2.99", "mx1"));

    const DynamicCondition away = asked(R"({"id": "t", "if": {"grouping": "x"}, "then": {"transport": "back up"}})");
    const std::optional<DynamicCondition> kept = parse_condition_record(record_of(away), "journal", problems);
    ASSERT_TRUE(kept);
    EXPECT_EQ(kept->limits.transport, "back up");

    const DynamicCondition grouped = asked(R"({"id": "g", "if": {"grouping": "&g"}, "then": {"rate": 1}})");
    EXPECT_TRUE(parse_condition_record(record_of(grouped), "journal", problems)) << "a grouping that nobody defines any more";
}

TEST_F(Dynamic, ADamagedRecordIsRefused) {
    for (const char* const text : {"", "[", "{}", R"({"id": "a"})", R"({"id": "a", "policy": {}})", R"({"id": "a", "policy": {"fields": ["colour"]}})",
                                   R"({"id": "a", "policy": {"fields": [], "conditions": []}})",
                                   R"({"id": "a", "policy": {"fields": [], "conditions": [{"if": {}, "then": {"rate": -1}}]}})",
                                   R"({"id": "a", "later": 1, "policy": {"fields": [], "conditions": [{"if": {}, "then": {}}]}})"}) {
        Problems problems;
        EXPECT_FALSE(parse_condition_record(text, "journal", problems)) << text;
        EXPECT_TRUE(problems.any_error()) << text;
    }
}

TEST_F(Dynamic, SurvivesFieldsWithOtherNumbers) {
    const PolicySetPtr before = policies_of("- fields: [notes.a]\n- fields: [notes.b, remoteip]\n");
    const PolicySetPtr after = policies_of("- fields: [notes.b, remoteip]\n- fields: [notes.a]\n");
    Problems problems;
    const auto condition = parse_condition(R"({"if": {"notes.b": "x", "remoteip": "192.0.2.1"}, "then": {}})", "request", *before, problems);
    ASSERT_TRUE(condition);
    ASSERT_EQ(condition->policy->counts, after->policies[0]->counts);
    const DynamicCondition moved = moved_to(*condition, after->policies[0], after->fields);
    EXPECT_EQ(record_of(moved), record_of(*condition));
    EXPECT_TRUE(moved.match.holds(texts_for(*moved.policy, {{*after->fields.find("notes.b"), "x"}, {Field::remoteip, "192.0.2.1"}})));
}

}  // namespace
}  // namespace sluice::policy
