#include "drill/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::drill {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& yaml) {
    const Result<Plan> plan = parse_plan(yaml);
    return plan ? "none" : plan.error().detail;
}

TEST(Plan, ReadsAScenario) {
    const Result<Plan> plan = parse_plan(
        "title: t\nhours: 2\nhosts: {h: {moods: [greylists, floods], without: [CHUNKING]}}\n"
        "domains: {d.test: {mx: ['h 20'], dns: flaky}}\nclients: [{to: [d.test], messages: 3}]\n"
        "troubles_per_hour: {kills: 0.5}\n");
    ASSERT_TRUE(plan.has_value()) << plan.error().detail;
    EXPECT_EQ(plan->hosts.at("h").moods, (std::vector{Mood::greylists, Mood::floods}));
    EXPECT_FALSE(plan->hosts.at("h").chunking);
    EXPECT_EQ(plan->domains.at("d.test").mx.front().second, 20);
    EXPECT_EQ(plan->kills, 0.5);
    EXPECT_TRUE(plan->domains.contains("senders.test"));  // where notifications go
}

TEST(Plan, RefusesWhatItDoesNotKnow) {
    EXPECT_THAT(refusal("colour: red\n"), HasSubstr("unknown key `colour`"));
    EXPECT_THAT(refusal("hosts: {h: {moods: [cheerful]}}\n"), HasSubstr("mood: expected one of"));
    EXPECT_THAT(refusal("domains: {d.test: {mx: [nowhere]}}\n"), HasSubstr("no such host: nowhere"));
    EXPECT_THAT(refusal("clients: [{to: [d.test]}]\n"), HasSubstr("no such domain: d.test"));
    EXPECT_THAT(refusal("title: t\n"), HasSubstr("needs `clients`"));
}

TEST(Plan, ASeedMakesTheSameWorldEachTime) {
    const Plan one = random_plan(7);
    const Plan again = random_plan(7);
    EXPECT_EQ(one.faults_for, again.faults_for);
    EXPECT_EQ(one.hosts.size(), again.hosts.size());
    EXPECT_EQ(one.streams.size(), again.streams.size());
    EXPECT_NE(one.faults_for.count() * 1000 + static_cast<long>(one.hosts.size()),
              random_plan(8).faults_for.count() * 1000 + static_cast<long>(random_plan(8).hosts.size()));
}

}  // namespace
}  // namespace sluice::drill
