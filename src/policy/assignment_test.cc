#include "policy/assignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using From = FieldOrigin::From;

AssignmentsPtr parse(std::string_view text) {
    Problems problems;
    AssignmentsPtr assignments = parse_assignments(text, "fields.yaml", problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    return assignments;
}

std::string refusal_of(std::string_view text, bool transports = false) {
    Problems problems;
    const bool taken = transports ? parse_transports(text, "f", problems).has_value() : parse_assignments(text, "f", problems) != nullptr;
    EXPECT_FALSE(taken) << text;
    return problems.all().empty() ? "nothing" : problems.all().front().text();
}

TEST(Assignment, EveryOriginIsRead) {
    const AssignmentsPtr fields = parse(R"(
tenantid:
  - header: X-Tenant
    strip: true
  - login: {alice: acme, bob: globex}
  - login: domain
  - note: tenant
  - value: others
jobid: {header: X-Campaign}
transportid:
  - tenantid: {acme: acme-ips}
  - port: {587: submission, 2525: bulk}
priority:
  - header: X-Class
    map: {urgent: 7, bulk: 0}
lifetime: {header: X-Lifetime, strip: true}
keep: [notes.stream, header.X-Mailer, HEADER.x-mailer]
)");
    ASSERT_NE(fields, nullptr);
    ASSERT_EQ(fields->tenant.size(), 5U);
    EXPECT_EQ(fields->tenant[0].name, "X-Tenant");
    EXPECT_TRUE(fields->tenant[0].strip);
    EXPECT_EQ(fields->tenant[1].meaning("bob"), "globex");
    EXPECT_EQ(fields->tenant[1].meaning("eve"), std::nullopt);
    EXPECT_EQ(fields->tenant[2].from, From::login_domain);
    EXPECT_EQ(fields->tenant[3].from, From::note);
    EXPECT_EQ(fields->transport[0].field, Field::tenantid);
    EXPECT_EQ(fields->transport[1].meaning("2525"), "bulk");
    EXPECT_EQ(fields->priority[0].meaning("urgent"), "7");
    EXPECT_THAT(fields->kept, ElementsAre("notes.stream", "header.x-mailer"));
    EXPECT_THAT(parse("")->tenant, IsEmpty());
}

TEST(Assignment, MistakesAreNamedWithTheirLine) {
    EXPECT_THAT(refusal_of("tenantid:\n  - haeder: X-T"), HasSubstr("f:2: tenantid: unknown key `haeder` (did you mean `header`?)"));
    EXPECT_THAT(refusal_of("tenant: {header: X-T}"), HasSubstr("unknown key `tenant` (did you mean `tenantid`?)"));
    EXPECT_THAT(refusal_of("tenantid: {header: X-T, login: name}"), HasSubstr("expected one of header, login, port, note, value in each entry"));
    EXPECT_THAT(refusal_of("tenantid: {strip: true}"), HasSubstr("expected one of"));
    EXPECT_THAT(refusal_of("tenantid: X-Tenant"), HasSubstr("expected a map, found `X-Tenant`"));
    EXPECT_THAT(refusal_of("tenantid: {header: 'X Tenant'}"), HasSubstr("header: expected a name"));
    EXPECT_THAT(refusal_of("tenantid: {header: 'X-Tenant:'}"), HasSubstr("header: expected a name"));
    EXPECT_THAT(refusal_of("tenantid: {transportid: {a: b}}"), HasSubstr("unknown key `transportid`")) << "it is known later only";
    EXPECT_THAT(refusal_of("tenantid: {login: names}"), HasSubstr("did you mean `name`?"));
    EXPECT_THAT(refusal_of("tenantid: {login: name, strip: true}"), HasSubstr("strip: expected beside `header` only"));
    EXPECT_THAT(refusal_of("priority: {value: 8}"), HasSubstr("priority: expected a number from 0 to 7, found `8`"));
    EXPECT_THAT(refusal_of("priority: {header: X-P, map: {a: -1}}"), HasSubstr("found `-1`"));
    EXPECT_THAT(refusal_of("lifetime: {value: soon}"), HasSubstr("expected a time such as 90s"));
    EXPECT_THAT(refusal_of("transportid: {port: {99999: a}}"), HasSubstr("expected ports from 1 to 65535"));
    EXPECT_THAT(refusal_of("transportid: {port: {}}"), HasSubstr("expected at least one entry"));
    EXPECT_THAT(refusal_of("keep: [tenantid]"), HasSubstr("that is known of every message"));
    EXPECT_THAT(refusal_of("keep: [note.x]"), HasSubstr("expected notes.KEY or header.NAME"));
    EXPECT_THAT(refusal_of("tenantid: [a"), HasSubstr("not YAML"));
    EXPECT_THAT(refusal_of("tenantid: {value: '" + std::string(256, 'x') + "'}"), HasSubstr("at most 255 octets"));
    std::string many = "keep: [";
    for (int i = 0; i < 40; ++i) many += "notes.n" + std::to_string(i) + ",";
    EXPECT_THAT(refusal_of(many + "]"), HasSubstr("expected at most 32"));
}

TEST(Assignment, TimesHaveUnitsAndBounds) {
    EXPECT_EQ(parse_lifetime("90"), std::chrono::seconds(90));
    EXPECT_EQ(parse_lifetime("15m"), std::chrono::seconds(900));
    EXPECT_EQ(parse_lifetime("3d"), std::chrono::seconds(259'200));
    for (const char* const bad : {"", "0", "0s", "s", "-1", "1.5h", "1 h", "1w", "4294967295d", "99999999999", "9999d", "1hm"}) {
        EXPECT_EQ(parse_lifetime(bad), std::nullopt) << bad;
    }
    for (const char* const bad : {"", "8", "-1", "07x", "256", "1.0"}) EXPECT_EQ(parse_priority(bad), std::nullopt) << bad;
    EXPECT_EQ(parse_priority("0"), 0);
}

TEST(Transports, AddressesHaveWeightsAndNames) {
    Problems problems;
    const auto pools = parse_transports(R"(
bulk:
  order: spread
  addresses:
    - {ip: 192.0.2.1, weight: 3, helo: mx1.example.org}
    - 192.0.2.2
    - '2001:DB8:0::1'
warm: {order: fill, addresses: [192.0.2.3, 192.0.2.4]}
plain: [192.0.2.5]
one: 192.0.2.6
)",
                                        "f", problems);
    ASSERT_TRUE(pools) << problems.all().front().text();
    ASSERT_EQ(pools->size(), 4U);
    EXPECT_EQ(pools->at(0).sources[0], (LocalPool::Source{"192.0.2.1", 3, "mx1.example.org"}));
    EXPECT_EQ(pools->at(0).sources[2].address, "2001:db8::1") << "in the form in which policies compare";
    EXPECT_EQ(pools->at(1).order, LocalPool::Order::fill);
    EXPECT_EQ(pools->at(2).order, LocalPool::Order::spread);
    EXPECT_EQ(pools->at(3).sources.size(), 1U);
}

TEST(Transports, MistakesAreNamedWithTheirLine) {
    EXPECT_THAT(refusal_of("a:\n  order: first\n  addresses: [192.0.2.1]", true), HasSubstr("f:2: order: expected spread, fill or sticky, found `first`"));
    EXPECT_THAT(refusal_of("a: {order: fill, addresses: [{ip: 192.0.2.1, weight: 2}]}", true), HasSubstr("weights are for `order: spread`"));
    EXPECT_THAT(refusal_of("a: {addresses: [{ip: 192.0.2.1, weight: 0}]}", true), HasSubstr("weight: expected at least 1"));
    EXPECT_THAT(refusal_of("a: {addresses: [{ip: 192.0.2.1, weigth: 2}]}", true), HasSubstr("did you mean `weight`?"));
    EXPECT_THAT(refusal_of("a: {addresses: [{weight: 2}]}", true), HasSubstr("expected `ip`"));
    EXPECT_THAT(refusal_of("a: {adresses: [192.0.2.1]}", true), HasSubstr("did you mean `addresses`?"));
    EXPECT_THAT(refusal_of("a: [mx.example.org]", true), HasSubstr("expected an IP address, found `mx.example.org`"));
    EXPECT_THAT(refusal_of("a: [192.0.2.0/24]", true), HasSubstr("expected an IP address"));
    EXPECT_THAT(refusal_of("a: [192.0.2.1, '::ffff:192.0.2.1']", true), HasSubstr("stands here twice"));
    EXPECT_THAT(refusal_of("a: []", true), HasSubstr("expected at least one address"));
    EXPECT_THAT(refusal_of("a: [192.0.2.1]\na: [192.0.2.2]", true), HasSubstr("`a` stands here twice"));
    EXPECT_THAT(refusal_of("a: {addresses: [{ip: 192.0.2.1, helo: 'a b'}]}", true), HasSubstr("helo: expected a host name"));
    std::string many = "a: [";
    for (int i = 0; i < 65; ++i) many += "192.0.2." + std::to_string(i) + ",";
    EXPECT_THAT(refusal_of(many + "]", true), HasSubstr("at most 64 addresses of a family"));
}

TEST(Transports, AMistypedNameIsNoticed) {
    Problems problems;
    const AssignmentsPtr fields = parse("transportid: [{tenantid: {a: bulk}}, {value: blk}]");
    report_unknown_transports(*fields, {{"bulk", LocalPool::Order::fill, {}}}, "fields.yaml", problems);
    ASSERT_EQ(problems.all().size(), 1U);
    EXPECT_THAT(problems.all().front().text(), HasSubstr("`blk` has no addresses in transports.yaml"));
    EXPECT_EQ(problems.all().front().suggestion, "bulk");
}

}  // namespace
}  // namespace sluice::policy
