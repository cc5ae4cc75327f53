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

SuspensionFile suspensions_of(std::string_view text, const PolicySet& set) {
    Problems problems;
    const SuspensionFilePtr file = parse_suspensions(text, "suspend.yaml", set, problems);
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
    EXPECT_EQ(file.suspensions[1].id, "line 5");
    EXPECT_EQ(file.suspensions[1].ttl, Duration(60'000));
    Suspension trial = file.suspensions[1];
    trial.expires = now + trial.ttl;
    EXPECT_TRUE(trial.stops(texts({{Field::tenantid, "t2"}}), 0, true, at(0, 0, 0)));
    EXPECT_FALSE(trial.stops(texts({{Field::tenantid, "t2"}}), 0, true, at(0, 0, 1))) << "its time is over";
    EXPECT_EQ(trial.next_change(now), at(0, 0, 1));
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

TEST(Suspension, ARecordSaysAllOfIt) {
    const PolicySetPtr set = policies_of("lists: {remotemx: {big: ['*.big.test', '/^mx[0-9]/']}}\ngrouping: {groupings: [{id: g, remotemx: '*.g.test'}]}\n");
    Problems problems;
    std::optional<Suspension> asked = parse_suspension(
        R"({"id": "s-1", "remotemx": "@big", "not": {"grouping": "&g"}, "localip": ["192.0.2.0/28", ""], "priority": "2..4", "percent": 12.5,
            "cron": "* 9-16 * * 1-5", "new_connections_only": true, "ttl": 1.5, "tag": "t", "author": "ä \"me\"", "reason": "line\nline",
            "properties": {"k": "v\u0007"}})",
        "request", *set, problems);
    ASSERT_TRUE(asked);
    asked->since = at(0, 1, 0);
    asked->expires = at(0, 2, 0);
    const std::optional<Suspension> found = parse_suspension_record(record_of(*asked), "journal", problems);
    ASSERT_TRUE(found) << problems.all().back().text();
    EXPECT_EQ(record_of(*found), record_of(*asked));
    EXPECT_TRUE(says_the_same(*found, *asked));
    EXPECT_EQ(found->per_mille, 125U);
    EXPECT_EQ(found->expires, asked->expires);
    EXPECT_EQ(found->properties, asked->properties);
    EXPECT_TRUE(found->match.holds(texts({{Field::remotemx, "mx1.other.test"}, {Field::localip, "192.0.2.3"}, {Field::priority, "3"}})));
    EXPECT_FALSE(found->match.holds(texts({{Field::remotemx, "a.big.test"}, {Field::localip, "192.0.2.3"}, {Field::priority, "3"}, {Field::grouping, "&g"}})));
    EXPECT_EQ(record_of(*found).find('\n'), std::string::npos);
}

TEST(Suspension, WhatIsAskedForIsChecked) {
    const struct {
        const char* text;
        const char* complaint;
    } rows[] = {
        {R"({"id": ""})", "id: expected 1 to 128"},
        {R"({"id": "a b"})", "id: expected 1 to 128"},
        {R"({"remotmx": "a"})", "`remotmx` is no field; there are also notes.KEY and header.NAME (did you mean `remotemx`?)"},
        {R"({"remoteip": "300.1.1.1"})", "remoteip: expected an address"},
        {"{\"notes.\xff\": \"a\"}", "is no field"},
        {R"({"notes.a\u0007": "a"})", "is no field"},
        {R"({"tenantid": []})", "tenantid: expected at least one value"},
        {R"({"percent": 0})", "percent: expected a number from 0.1 to 100"},
        {R"({"percent": "nan"})", "percent: expected a number from 0.1 to 100"},
        {R"({"ttl": -1})", "ttl: expected seconds"},
        {R"({"ttl": 1e300})", "ttl: expected seconds"},
        {R"({"cron": "every day"})", "cron: expected five words"},
        {R"({"since": 5})", "`since` is no field"},
        {R"({"remotemx": "#group"})", "names a group of one policy"},
        {R"(["a"])", "expected a map"},
    };
    for (const auto& row : rows) {
        Problems problems;
        EXPECT_FALSE(parse_suspension(row.text, "request", PolicySet{}, problems)) << row.text;
        ASSERT_FALSE(problems.all().empty()) << row.text;
        EXPECT_THAT(problems.all().front().text(), testing::HasSubstr(row.complaint)) << row.text;
    }
}

TEST(Suspension, ADamagedRecordIsRefused) {
    for (const char* const text : {"", "[", "x", "{\"remotemx\": {}}", "{\"expires\": \"soon\"}", "{\"expires\": 99999999999999999999}", "{\"later\": 1}"}) {
        Problems problems;
        EXPECT_FALSE(parse_suspension_record(text, "journal", problems)) << text;
        EXPECT_TRUE(problems.any_error()) << text;
    }
}

}  // namespace
}  // namespace sluice::policy
