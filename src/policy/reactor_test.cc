#include "policy/reactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/test_texts.h"

namespace sluice::policy {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr Duration second{1'000};

// A reactor with the rules of a file, and what it decided.
struct Bench {
    PolicySetPtr set;
    Reactor reactor;
    Instant now = instant_from_ms(1'795'000'000'000);
    Reactions last;

    explicit Bench(std::string_view yaml) : set(policies_of(yaml)) {
        Reactions none;
        reactor.configure(set, now, none);
    }
    // "421 4.7.28 text" at a stage, from a local address towards an MX host.
    const Reactions& fail(std::string_view ip, std::string_view mx, Stage stage, std::uint16_t code, std::string status, std::string text) {
        Observation seen{stage, code, Errc::refused, std::move(status), std::move(text), Failure::other};
        seen.failure = classify(seen);
        FieldTexts values;
        values.set(Field::localip, ip);
        values.set(Field::remotemx, mx);
        values.set(Field::recipientdomain, "example.org");
        last = {};
        reactor.failed(values, seen, now, last);
        return last;
    }
    const Reactions& busy(std::string_view ip = "192.0.2.1", std::string_view mx = "mx.a.test") {
        return fail(ip, mx, Stage::rcpt, 450, "4.2.0", "no");
    }
    const Reactions& pass(Duration time) {
        now += time;
        last = {};
        reactor.advance(now, last);
        return last;
    }
};

const char* const five_lines = R"(
rules:
- per: [localip, remotemx]
  more_than: 10/60
  then: { rate: 10/60 }
  for: 300
)";

TEST(Reactor, FiveLinesSlowDownWhoFailsTooOften) {
    Bench bench(five_lines);
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(bench.busy().empty()) << i;
        bench.busy("192.0.2.2");  // another bucket
        bench.pass(second);
    }
    ASSERT_THAT(bench.busy().set, SizeIs(1));
    const DynamicCondition condition = bench.last.set.front();
    EXPECT_EQ(condition.kind, DynamicCondition::Class::back_off);
    EXPECT_EQ(condition.limits.text(), "10 per 60 s");
    EXPECT_EQ(condition.match.text(bench.set->fields), "localip 192.0.2.1, remotemx mx.a.test");
    EXPECT_EQ(condition.ttl, Duration(300'000));
    EXPECT_EQ(condition.reason, "rule rule 1: 450 4.2.0 no");
    ASSERT_THAT(bench.last.told, SizeIs(1));
    EXPECT_EQ(bench.last.told.front().what, "10 per 60 s for 300 s");
    EXPECT_TRUE(bench.pass(Duration(299'999)).empty());
    bench.pass(Duration(1));
    EXPECT_THAT(bench.last.removed, testing::ElementsAre(condition.id));
    EXPECT_EQ(bench.last.told.front().what, "lifted");
    EXPECT_EQ(bench.reactor.next(), Instant::max());
}

TEST(Reactor, CountsOnlyWithinTheWindow) {
    Bench bench(five_lines);
    for (int i = 0; i < 1'000; ++i) {
        // Eleven failures take 60 s exactly: never more than ten in less.
        EXPECT_TRUE(bench.busy().empty()) << i;
        bench.pass(Duration(6'000));
    }
    Bench faster(five_lines);
    int fired = 0;
    for (int i = 0; i < 11; ++i) {
        fired += faster.busy().set.empty() ? 0 : 1;
        faster.pass(Duration(5'999));
    }
    EXPECT_EQ(fired, 1);
}

TEST(Reactor, ThePolicyOfTheFileKeepsItsGroupsAndItsOtherLimits) {
    Bench bench(R"(
policies:
- fields: [localip, {remotemx: {gsuite: ['*.google.com']}}]
  conditions: [{if: {remotemx: '#gsuite'}, then: {concurrency: 10, rate: 50, stop: true}}]
rules:
- if: { remotemx: '#gsuite', reply: 421 }
  per: [localip, remotemx]
  at_least: 2/3600
  then: { rate: 10/60 }
  for: 1800
)");
    EXPECT_THAT(bench.set->policies, SizeIs(1));
    bench.fail("192.0.2.1", "a.google.com", Stage::banner, 421, "4.7.28", "slow");
    bench.fail("192.0.2.1", "mx.other.test", Stage::banner, 421, "4.7.28", "slow");
    bench.fail("192.0.2.1", "b.google.com", Stage::banner, 421, "4.7.28", "slow");
    ASSERT_THAT(bench.last.set, SizeIs(1));
    EXPECT_EQ(bench.last.set[0].limits.text(), "10 sessions, 50 per second, 10 per 60 s");
    EXPECT_TRUE(bench.last.set[0].limits.stop);
    EXPECT_EQ(bench.last.set[0].match.text(bench.set->fields), "localip 192.0.2.1, remotemx #gsuite");
    FieldTexts other;
    other.set(Field::localip, "192.0.2.1");
    other.set(Field::remotemx, "c.google.com");
    EXPECT_TRUE(bench.last.set[0].match.holds(in_groups(*bench.set->policies[0], other)));
}

TEST(Reactor, RecoversStepByStepAndBeginsAnewWhenItFailsAgain) {
    Bench bench(R"(
rules:
- name: slow
  per: [localip]
  then: { rate: 10/60, concurrency: 1 }
  for: 300
  recover: { steps: 3, every: 60 }
)");
    bench.busy();
    const std::string id = bench.last.set.at(0).id;
    EXPECT_EQ(bench.last.set[0].ttl, Duration(480'000));
    std::vector<std::string> limits;
    for (int i = 0; i < 2; ++i) {
        bench.pass(i == 0 ? Duration(300'000) : Duration(60'000));
        limits.push_back(bench.last.set.at(0).limits.text());
    }
    EXPECT_THAT(limits, testing::ElementsAre("2 sessions, 20 per 60 s", "4 sessions, 40 per 60 s"));
    EXPECT_EQ(bench.last.told.at(0).what, "recovers: 4 sessions, 40 per 60 s for 60 s");
    bench.busy();
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "1 session, 10 per 60 s");
    EXPECT_EQ(bench.last.set[0].id, id);
    bench.pass(Duration(3'600'000));
    EXPECT_THAT(bench.last.removed, testing::ElementsAre(id)) << "also when nobody looked for an hour";
}

TEST(Reactor, AnotherTransportUntilTheRecoveryBegins) {
    Bench bench(R"(
rules:
- name: away
  per: [remotemx]
  then: { transport: backup, rate: 10/60 }
  for: 300
  recover: { steps: 1, every: 60 }
)");
    bench.busy();
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "10 per 60 s, from the addresses of `backup`");
    EXPECT_EQ(bench.last.told.at(0).what, "10 per 60 s, from the addresses of `backup` for 300 s");
    bench.pass(Duration(300'000));
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "20 per 60 s");
    bench.pass(Duration(60'000));
    EXPECT_THAT(bench.last.removed, SizeIs(1));
}

TEST(Reactor, TwoRulesInOneBucketHoldTogether) {
    Bench bench(R"(
rules:
- { name: a, if: { text: one }, per: [localip], then: { rate: 10/60 }, for: 100 }
- { name: b, if: { text: two }, per: [localip], then: { concurrency: 2 }, for: 50 }
)");
    bench.fail("192.0.2.1", "mx", Stage::dot, 451, "", "one");
    const std::string id = bench.last.set.at(0).id;
    bench.fail("192.0.2.1", "mx", Stage::dot, 451, "", "two");
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "2 sessions, 10 per 60 s");
    bench.pass(Duration(50'000));
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "10 per 60 s");
    EXPECT_EQ(bench.last.set.at(0).id, id);
}

TEST(Reactor, WhatItDidOutlivesARestart) {
    const char* const yaml = R"(
rules:
- name: slow
  per: [localip, {remotemx: {g: '*.g.test'}}]
  then: { rate: 10/60 }
  for: 300
  recover: { steps: 2, every: 60 }
)";
    Bench before(yaml);
    before.fail("192.0.2.1", "mx.g.test", Stage::connect, 0, "", "");
    const DynamicCondition kept = before.last.set.at(0);
    Bench after(yaml);
    after.now = before.now + Duration(320'000);
    Reactions reactions;
    ASSERT_TRUE(after.reactor.adopt(kept, after.now, reactions));
    ASSERT_THAT(reactions.set, SizeIs(1));
    EXPECT_EQ(reactions.set[0].limits.text(), "20 per 60 s") << "the recovery had begun meanwhile";
    EXPECT_EQ(reactions.set[0].id, kept.id);
    after.fail("192.0.2.1", "other.g.test", Stage::connect, 0, "", "");
    EXPECT_EQ(after.last.set.at(0).id, kept.id);
    EXPECT_EQ(after.last.set[0].limits.text(), "10 per 60 s");

    DynamicCondition foreign = kept;
    foreign.author = "somebody";
    EXPECT_FALSE(Bench(yaml).reactor.adopt(foreign, after.now, reactions));
}

TEST(Reactor, AnOperatorHasTheLastWord) {
    Bench bench("rules: [{ per: [localip], then: { rate: 1 }, for: 300, recover: {steps: 3, every: 10} }]");
    bench.busy();
    bench.reactor.forget(bench.last.set.at(0).id);
    EXPECT_TRUE(bench.pass(Duration(1'000'000)).empty());
}

TEST(Reactor, AReloadKeepsWhatIsUnderWayAndEndsWhatHasNoRule) {
    Bench bench("rules: [{ name: a, per: [localip], then: { rate: 1 }, for: 300 }, { name: b, per: [localip], then: { concurrency: 1 }, for: 300 }]");
    bench.busy();
    Reactions reactions;
    bench.reactor.configure(policies_of("rules: [{ name: b, per: [localip], then: { concurrency: 7 }, for: 300 }]"), bench.now, reactions);
    ASSERT_THAT(reactions.set, SizeIs(1));
    EXPECT_EQ(reactions.set[0].limits.text(), "7 sessions");
    reactions = {};
    bench.reactor.configure(policies_of("[]"), bench.now, reactions);
    EXPECT_THAT(reactions.removed, SizeIs(1));
    EXPECT_EQ(bench.reactor.targets(), 0U);
}

TEST(Reactor, InARowEndsWithADelivery) {
    Bench bench("rules: [{ if: { error: any }, per: [localip], in_a_row: 3, then: { suspend: true }, for: 60 }]");
    FieldTexts values;
    values.set(Field::localip, "192.0.2.1");
    const auto fail = [&] { return bench.fail("192.0.2.1", "mx", Stage::connect, 0, "", "").suspended.size(); };
    EXPECT_EQ(fail() + fail(), 0U);
    bench.reactor.delivered(values);
    EXPECT_EQ(fail() + fail(), 0U);
    bench.pass(Duration(3'600'000));
    EXPECT_EQ(fail(), 1U);
    EXPECT_EQ(bench.last.suspended[0].ttl, Duration(60'000));
    EXPECT_EQ(fail() + fail() + fail(), 0U) << "it is suspended already";
}

TEST(Reactor, SuspendedGroupsAreTheirMembersAndComeBackSlowly) {
    Bench bench(R"(
rules:
- if: { text: TSS04, remotemx: '#yahoo' }
  per: [localip, {remotemx: {yahoo: ['*.yahoodns.net', '*.aol.com']}}]
  then: { suspend: true, concurrency: 1 }
  for: 7200
  recover: { steps: 3, every: 600 }
)");
    bench.fail("192.0.2.1", "mta5.am0.yahoodns.net", Stage::banner, 421, "4.7.0", "[TSS04] Messages temporarily deferred");
    ASSERT_THAT(bench.last.suspended, SizeIs(1));
    EXPECT_EQ(bench.last.suspended[0].match.text(bench.set->fields), "localip 192.0.2.1, remotemx *.yahoodns.net or *.aol.com");
    EXPECT_EQ(bench.last.set.at(0).limits.text(), "1 session");
    std::vector<std::string> limits;
    for (int i = 0; i < 3; ++i) limits.push_back(bench.pass(i == 0 ? Duration(7'200'000) : Duration(600'000)).set.at(0).limits.text());
    EXPECT_THAT(limits, testing::ElementsAre("1 session", "2 sessions", "4 sessions"));
    EXPECT_THAT(bench.pass(Duration(600'000)).removed, SizeIs(1));
}

TEST(Reactor, HoldsNotifiesAndRehearses) {
    Bench bench(R"(
rules:
- { name: h, if: { text: hold }, per: [recipientdomain], then: { hold: true } }
- { name: n, if: { text: note }, then: { notify: look at it } }
- { name: d, if: { text: dry }, per: [localip], then: { rate: 1 }, for: 5, dry_run: true }
)");
    bench.fail("192.0.2.1", "mx", Stage::dot, 550, "5.7.1", "hold this");
    EXPECT_EQ(bench.last.suspended.at(0).ttl, Duration(0));
    EXPECT_EQ(bench.fail("192.0.2.1", "mx", Stage::dot, 550, "5.7.1", "note\nthis").told.at(0).what, "told: look at it");
    EXPECT_THAT(bench.last.told[0].because, HasSubstr("note"));
    EXPECT_EQ(bench.fail("192.0.2.1", "mx", Stage::dot, 550, "5.7.1", "dry").told.at(0).what, "would do: 1 per second for 5 s");
    EXPECT_THAT(bench.last.set, IsEmpty());
    EXPECT_TRUE(bench.fail("192.0.2.1", "mx", Stage::dot, 550, "5.7.1", "dry").empty()) << "said already";
}

TEST(Reactor, WhatCouldBeReadAsAPatternGetsNoReaction) {
    Bench bench("rules: [{ per: [remotemx], then: { rate: 1 }, for: 300 }]");
    for (const char* const name : {"*.example.org", "*", "/./", "#g", "@list", "&id", "a b"}) {
        EXPECT_TRUE(bench.busy("192.0.2.1", name).empty()) << name;
    }
    EXPECT_FALSE(bench.busy("192.0.2.1", "mx.example.org").empty());
    EXPECT_FALSE(bench.busy("192.0.2.1", "").empty());
}

TEST(Reactor, AFloodOfKeysIsForgottenAndARepeatedFailureIsNotRecordedAgain) {
    Bench bench(five_lines);
    const Observation seen{Stage::rcpt, 450, {}, "4.2.0", "no", Failure::other};
    const auto flood = [&seen](Bench& at, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::string mx = "mx" + std::to_string(i) + ".test";
            FieldTexts values;
            values.set(Field::localip, "192.0.2.1");
            values.set(Field::remotemx, mx);
            Reactions reactions;
            at.reactor.failed(values, seen, at.now, reactions);
        }
    };
    flood(bench, Reactor::windows_max + 500);
    EXPECT_EQ(bench.reactor.windows(), Reactor::windows_max);
    Bench often("rules: [{ per: [localip, remotemx], then: { rate: 1 }, for: 1000 }]");
    int records = 0;
    for (int i = 0; i < 1'000; ++i) {
        records += static_cast<int>(often.busy().set.size());
        often.pass(second);
    }
    EXPECT_LE(records, 11);
    flood(often, Reactor::targets_max + 100);
    EXPECT_EQ(often.reactor.targets(), Reactor::targets_max);
}

TEST(Rules, TreatIsForEveryFailureThatMatches) {
    const PolicySetPtr set = policies_of(R"(
rules:
- { if: { text: '/spamhaus|block list/', reply: 5xx }, per: [localip], at_least: 3/60, then: { treat: defer, suspend: true }, for: 60 }
- { if: { status: 5.2.2 }, then: { treat: defer } }
- { if: { status: 4.7.*, remotemx: '*.strict.test' }, then: { treat: bounce } }
)");
    const auto treated = [&](std::uint16_t code, std::string status, std::string text, std::string_view mx) {
        FieldTexts values;
        values.set(Field::localip, "192.0.2.1");
        values.set(Field::remotemx, mx);
        return treatment_of(set->rules, Observation{Stage::rcpt, code, {}, std::move(status), std::move(text), Failure::other}, values);
    };
    EXPECT_EQ(treated(550, "5.7.1", "see SPAMHAUS.org", "mx.a.test"), Treatment::deferral);
    EXPECT_EQ(treated(552, "5.2.2", "full", "mx.a.test"), Treatment::deferral);
    EXPECT_EQ(treated(550, "5.1.1", "nobody", "mx.a.test"), Treatment::usual);
    EXPECT_EQ(treated(450, "4.7.5", "tls", "mx.strict.test"), Treatment::bounce);
    EXPECT_EQ(treated(450, "4.7.5", "tls", "mx.a.test"), Treatment::usual);
}

TEST(Classify, WhatReceiversSay) {
    const auto of = [](std::uint16_t code, std::string status, std::string text, Stage stage = Stage::rcpt) {
        return std::string(name_of(classify({stage, code, Errc::timed_out, std::move(status), std::move(text), Failure::other})));
    };
    EXPECT_EQ(of(421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail"), "throttled");
    EXPECT_EQ(of(421, "4.7.0", "[TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints"), "throttled");
    EXPECT_EQ(of(451, "4.7.650", "The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation."), "throttled");
    EXPECT_EQ(of(451, "4.7.500", "Server busy. Please try again later from [192.0.2.1]."), "busy");
    EXPECT_EQ(of(421, "4.7.0", "Too many connections, try later"), "connections");
    EXPECT_EQ(of(421, "", "Too many concurrent SMTP connections from this IP address"), "connections");
    EXPECT_EQ(of(421, "4.5.0", "max messages per connection reached"), "session_messages");
    EXPECT_EQ(of(550, "5.7.1", "Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3140)"), "blocked");
    EXPECT_EQ(of(554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"), "blocked");
    EXPECT_EQ(of(450, "4.2.0", "Greylisted, please try again"), "greylisted");
    EXPECT_EQ(of(550, "5.1.1", "The email account that you tried to reach does not exist"), "unknown_mailbox");
    EXPECT_EQ(of(552, "5.2.2", "mailbox is over quota"), "full_mailbox");
    EXPECT_EQ(of(550, "5.2.1", "The email account is inactive"), "disabled_mailbox");
    EXPECT_EQ(of(550, "5.7.26", "This mail is unauthenticated"), "content");
    EXPECT_EQ(of(0, "", "", Stage::connect), "connection");
    EXPECT_EQ(of(0, "", "", Stage::tls), "tls");
    EXPECT_EQ(of(535, "5.7.8", "no", Stage::auth), "auth");
    EXPECT_EQ(of(450, "", "please wait"), "other");
}

TEST(DefaultRules, AreGoodAndCountTogether) {
    const PolicySetPtr set = policies_of("rules: [default]");
    EXPECT_THAT(set->policies, SizeIs(1));
    EXPECT_GT(set->rules.size(), 10U);
}

}  // namespace
}  // namespace sluice::policy
