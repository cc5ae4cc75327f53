#include "daemon/policy_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "event/event_test_support.h"

namespace sluice::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Lines final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(event::Level level, std::string_view, std::string_view, std::string_view sentence, std::initializer_list<event::Field> fields) override {
        std::string line(sentence);
        for (const event::Field& field : fields) line += " " + std::string(field.key) + "=" + field.value;
        (level == event::Level::error ? errors : others).push_back(line);
    }
    std::vector<std::string> errors, others;
};

class Facts final : public event::SilentRecorder {
public:
    using SilentRecorder::record;
    void record(const event::PolicyChanged& fact) override {
        told.push_back(std::string(fact.kind) + " " + std::string(fact.change) + " " + std::string(fact.id) + " " + std::string(fact.by));
    }
    std::vector<std::string> told;
};

policy::Suspension suspension() {
    Problems problems;
    return *policy::parse_suspension("{id: s, remotemx: '*.x.test', percent: 5, ttl: 60}", "test", policy::PolicySet{}, problems);
}

TEST(PolicyJournal, WhatIsWrittenIsFoundAgain) {
    Problems problems;
    const policy::PolicySetPtr set = policy::parse_policies("- fields: [{remotemx: {g: '*.g.test'}}]\n", "policy.yaml", problems);
    auto condition = policy::parse_condition("{id: c, if: {remotemx: '#g'}, then: {rate: 10/60}}", "test", *set, problems);
    ASSERT_TRUE(condition);
    condition->since = instant_from_ms(1'000);
    Lines log;
    Facts facts;
    spool::Batch batch;
    take_policy_change(queue::ConditionChanged{queue::Change::added, std::make_shared<policy::DynamicCondition>(*condition), "me", ""}, batch, facts, log);
    take_policy_change(queue::SuspensionChanged{queue::Change::updated, std::make_shared<policy::Suspension>(suspension()), "me", ""}, batch, facts, log);
    take_policy_change(queue::Close{1, 0}, batch, facts, log);
    ASSERT_EQ(batch.size(), 2U);
    std::vector<spool::PolicyRecord> records;
    for (const spool::Record& record : batch) records.push_back(std::get<spool::PolicyRecord>(record));
    const std::vector<queue::Event> events = recovered_policies(records, log);
    ASSERT_EQ(events.size(), 2U);
    const auto& found = std::get<queue::SetCondition>(events[0]);
    EXPECT_TRUE(found.recorded);
    EXPECT_EQ(policy::record_of(found.condition), policy::record_of(*condition));
    EXPECT_EQ(policy::record_of(std::get<queue::SetSuspension>(events[1]).suspension), policy::record_of(suspension()));
    EXPECT_THAT(facts.told, ElementsAre("condition added c me", "suspension updated s me"));
    EXPECT_TRUE(log.errors.empty());
}

TEST(PolicyJournal, WhatIsGoneIsErased) {
    Lines log;
    Facts facts;
    spool::Batch batch;
    take_policy_change(queue::SuspensionChanged{queue::Change::expired, std::make_shared<policy::Suspension>(suspension()), "", ""}, batch, facts, log);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(std::get<spool::PolicyRecord>(batch[0]).key, "suspension:s");
    EXPECT_EQ(std::get<spool::PolicyRecord>(batch[0]).value, "");
    batch.clear();
    take_policy_change(queue::SuspensionChanged{queue::Change::removed, std::make_shared<policy::Suspension>(suspension()), "", "", false}, batch, facts, log);
    EXPECT_TRUE(batch.empty()) << "that of the start was never written";
    EXPECT_EQ(facts.told.size(), 2U);
}

TEST(PolicyJournal, ARecordThatCannotBeReadIsReportedAndTheOthersCount) {
    Lines log;
    const std::vector<spool::PolicyRecord> records{
        {"condition:a", "{\"id\": \"a\""},
        {"condition:b", "{\"id\": \"b\", \"of_the_future\": 1}"},
        {"idempotency:x", "01h5m3k9w2xyz 1795000000000"},
        {"suspension:other", policy::record_of(suspension())},
        {"suspension:s", policy::record_of(suspension())},
    };
    EXPECT_EQ(recovered_policies(records, log).size(), 1U);
    ASSERT_EQ(log.errors.size(), 3U);
    EXPECT_THAT(log.errors[0], HasSubstr("key=condition:a"));
    EXPECT_THAT(log.errors[1], HasSubstr("unknown key `of_the_future`"));
    EXPECT_THAT(log.errors[2], HasSubstr("the key names another"));
}

}  // namespace
}  // namespace sluice::daemon
