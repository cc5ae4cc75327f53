#include "policy/suspension.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

// Monday 2026-11-23 00:00:00 UTC.
constexpr std::int64_t monday_ms = 1'795'392'000'000;
Instant at(int day, int hour, int minute) {
    return instant_from_ms(monday_ms + ((day * 24LL + hour) * 60 + minute) * 60'000);
}

SuspensionFile suspensions_of(std::string_view text, const PolicySet& set, Instant now = at(0, 0, 0)) {
    Problems problems;
    std::optional<SuspensionFile> file = parse_suspensions(text, "suspend.yaml", set, now, problems);
    EXPECT_TRUE(file);
    EXPECT_THAT(texts_of(problems.all()), testing::IsEmpty());
    return file ? *file : SuspensionFile{};
}

FieldTexts texts(std::initializer_list<std::pair<Field, std::string_view>> values) {
    FieldTexts texts;
    for (const auto& [field, value] : values) texts.set(field, value);
    return texts;
}

TEST(Cron, NamesMinutes) {
    const struct {
        const char* text;
        Instant when;
        bool matches;
    } rows[] = {
        {"* * * * *", at(0, 0, 0), true},         {"0 9-17 * * 1-5", at(0, 9, 0), true},  {"0 9-17 * * 1-5", at(5, 9, 0), false},
        {"*/10 * * * *", at(0, 3, 20), true},     {"*/10 * * * *", at(0, 3, 21), false},  {"0,30 8 * * *", at(2, 8, 30), true},
        {"* * 23 11 *", at(0, 5, 5), true},       {"* * 24 11 *", at(0, 5, 5), false},    {"* * * * 0", at(6, 1, 1), true},
        {"* * * * 7", at(6, 1, 1), true},         {"* * 24 * 1", at(0, 1, 1), true},      {"* * 24 * 1", at(1, 1, 1), true},
        {"* * 24 * 1", at(2, 1, 1), false},       {"5/20 * * * *", at(0, 0, 45), true},   {"5/20 * * * *", at(0, 0, 46), false},
    };
    for (const auto& row : rows) {
        const Result<Cron> cron = Cron::parse(row.text);
        ASSERT_TRUE(cron) << row.text;
        EXPECT_EQ(cron->matches(row.when), row.matches) << row.text;
    }
}

TEST(Cron, KnowsItsNextChange) {
    const Cron office = *Cron::parse("* 9-16 * * 1-5");
    EXPECT_EQ(office.next_change(at(0, 0, 0)), at(0, 9, 0));
    EXPECT_EQ(office.next_change(at(0, 9, 0)), at(0, 17, 0));
    EXPECT_EQ(office.next_change(at(4, 17, 0)), at(7, 9, 0));
    EXPECT_EQ(Cron::parse("* * * * *")->next_change(at(0, 0, 0)), std::nullopt);
    EXPECT_EQ(Cron::parse("0 0 31 2 *")->next_change(at(0, 0, 0)), std::nullopt);
    EXPECT_EQ(to_ms(*Cron::parse("0 0 29 2 *")->next_change(at(0, 0, 0))), 1'835'395'200'000) << "2028-02-29";
}

TEST(Suspension, AllFieldsAndEntriesAreAlternatives) {
    const PolicySetPtr set = policies_of("lists: {tenantid: {trial: [t1, t2]}}\n");
    const SuspensionFile file = suspensions_of(R"(
version: "1"
suspends:
  - { id: outage, remotemx: '*.down.test', localip: 192.0.2.0/28, reason: "they asked", tag: outage, author: me }
  - { tenantid: '@trial', ttl: 60 }
)", *set);
    ASSERT_EQ(file.suspensions.size(), 2U);
    EXPECT_FALSE(file.start_suspended);
    const Suspension& outage = file.suspensions[0];
    EXPECT_EQ(outage.reason, "they asked");
    const Instant now = at(0, 0, 0);
    EXPECT_TRUE(outage.stops(texts({{Field::remotemx, "mx.down.test"}, {Field::localip, "192.0.2.3"}}), 0, true, now));
    EXPECT_FALSE(outage.stops(texts({{Field::remotemx, "mx.down.test"}, {Field::localip, "192.0.2.99"}}), 0, true, now));
    EXPECT_FALSE(outage.stops(texts({{Field::remotemx, "mx.down.test"}}), 0, true, now)) << "not known is not matched";
    EXPECT_TRUE(file.suspensions[1].stops(texts({{Field::tenantid, "t2"}}), 0, true, at(0, 0, 0)));
    EXPECT_FALSE(file.suspensions[1].stops(texts({{Field::tenantid, "t2"}}), 0, true, at(0, 0, 1))) << "its time is over";
    EXPECT_EQ(file.suspensions[1].next_change(now), at(0, 0, 1));
}

TEST(Suspension, AnEmptyEntryStopsEverything) {
    const SuspensionFile file = suspensions_of("- {}\n", PolicySet{});
    EXPECT_TRUE(file.suspensions.at(0).stops(FieldTexts{}, 7, false, at(0, 0, 0)));
    EXPECT_TRUE(suspensions_of("start_suspended: true\n", PolicySet{}).start_suspended);
}

TEST(Suspension, APercentageLetsTheOthersThrough) {
    const SuspensionFile file = suspensions_of("- { tenantid: a, percent: 12.5 }\n", PolicySet{});
    Random random(1);
    int stopped = 0;
    for (int i = 0; i < 100'000; ++i) {
        const std::uint64_t hash = random.next();
        const bool stops = file.suspensions[0].stops(texts({{Field::tenantid, "a"}}), hash, true, at(0, 0, 0));
        EXPECT_EQ(stops, file.suspensions[0].stops(texts({{Field::tenantid, "a"}}), hash, true, at(3, 0, 0)));
        if (stops) ++stopped;
    }
    EXPECT_NEAR(stopped, 12'500, 500);
}

TEST(Suspension, WindowsAndNewConnectionsOnly) {
    const SuspensionFile file = suspensions_of("- { remotemx: m.test, cron: ['* 9-16 * * 1-5', '* * * * 0'], new_connections_only: true }\n", PolicySet{});
    const Suspension& suspension = file.suspensions[0];
    const FieldTexts mx = texts({{Field::remotemx, "m.test"}});
    EXPECT_TRUE(suspension.stops(mx, 0, true, at(0, 9, 0)));
    EXPECT_FALSE(suspension.stops(mx, 0, false, at(0, 9, 0))) << "a session that is open goes on";
    EXPECT_FALSE(suspension.stops(mx, 0, true, at(0, 8, 59)));
    EXPECT_TRUE(suspension.stops(mx, 0, true, at(6, 3, 0)));
    EXPECT_EQ(suspension.next_change(at(4, 17, 0)), at(6, 0, 0));
}

}  // namespace
}  // namespace sluice::policy
