// Rules and limits that move, in the core: what receivers answer, and what follows.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>

#include "queue/core.h"
#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

// What a receiver says to one message; code 0: it takes it.
struct Answer {
    std::uint16_t code = 0;
    std::string status, text;
    policy::Stage stage = policy::Stage::rcpt;
    bool unreachable = false;
    bool unreachable_or_said() const { return unreachable || code != 0; }
};

// Hosts that answer as told, under virtual time. Each message lasts `each`.
class Receiver {
public:
    explicit Receiver(std::string_view yaml, Duration each_ = Duration(100)) : each(each_), world(made(yaml)) {
        answer = [](const Receiver&) { return Answer{}; };
    }

    static Options made(std::string_view yaml) {
        Options options = queue::options(0);
        options.policies = policies(yaml);
        options.sources4 = {"192.0.2.1"};
        options.unhealthy_for = Duration(1);
        return options;
    }
    void route(const std::string& domain, const std::string& mx) {
        auto made = std::make_shared<Route>();
        made->key = domain;
        made->candidates.push_back({mx, "198.51.100.1:25", 0});
        made->expires = world.now + Duration(10LL * 86'400'000);
        routes[domain] = made;
    }
    void admit(const std::string& domain, int count) {
        for (int i = 0; i < count; ++i) world.core.handle(world.mail(domain), world.now, world.actions);
        work();
    }
    void run(Duration time, Duration step = Duration(10'000)) {
        const Instant end = world.now + time;
        while (world.now < end) {
            Instant next = std::min(end, std::min(world.core.next_timer(), world.now + step));
            if (!busy.empty()) next = std::min(next, busy.front().ends);
            world.now = std::max(next, world.now);
            world.core.handle(Tick{}, world.now, world.actions);
            work();
        }
        world.core.audit();
    }
    std::size_t open() const { return sessions.size(); }
    // The message is the first of its session.
    bool is_new() const { return sessions.at(last_session) == 1; }
    std::string told() const { return reactions.empty() ? "" : reactions.back().what; }

    Duration each;
    std::function<Answer(const Receiver&)> answer;
    std::map<std::string, RoutePtr> routes;
    World world;
    std::uint64_t taken = 0, refused = 0;
    std::vector<policy::Reaction> reactions;
    std::vector<ConditionChanged> conditions;
    std::vector<SuspensionChanged> suspensions;
    std::map<SessionId, int> sessions;  // messages on each
    Duration retry{60'000};

private:
    struct Attempt {
        Deliver deliver;
        Instant ends;
        Answer answer;
    };

    void work() {
        finish();
        while (!world.actions.empty()) {
            std::vector<Action> todo;
            std::swap(todo, world.actions);
            for (Action& action : todo) carry_out(action);
        }
    }
    void carry_out(Action& action) {
        if (auto* const asked = std::get_if<Resolve>(&action)) tell(RouteResolved{asked->key, routes.at(asked->key)});
        if (auto* const deliver = std::get_if<Deliver>(&action)) begin(std::move(*deliver));
        if (auto* const closing = std::get_if<Close>(&action)) close(closing->session);
        if (auto* const reacted = std::get_if<Reacted>(&action)) reactions.push_back(reacted->what);
        if (auto* const condition = std::get_if<ConditionChanged>(&action)) conditions.push_back(*condition);
        if (auto* const suspension = std::get_if<SuspensionChanged>(&action)) suspensions.push_back(*suspension);
    }
    void begin(Deliver deliver) {
        ++sessions[deliver.session];
        last_session = deliver.session;
        Answer said = answer(*this);
        if (deliver.open && !said.unreachable && said.stage > policy::Stage::ehlo) tell(SessionOpened{deliver.session, 0});
        busy.push_back({std::move(deliver), world.now + each, std::move(said)});
    }
    void finish() {
        while (!busy.empty() && busy.front().ends <= world.now) {
            const Attempt attempt = std::move(busy.front());
            busy.pop_front();
            const bool good = !attempt.answer.unreachable_or_said();
            AttemptEnded ended = world.ending(attempt.deliver, good ? Verdict::done : Verdict::deferred, good);
            ended.next = world.now + retry;
            ended.delivered = good;
            ++(good ? taken : refused);
            if (!good) {
                policy::Observation seen{attempt.answer.stage, attempt.answer.code, Errc::timed_out, attempt.answer.status, attempt.answer.text, {}};
                if (attempt.answer.unreachable) seen.stage = policy::Stage::connect;
                seen.failure = policy::classify(seen);
                const bool connected = !attempt.answer.unreachable;
                ended.failures.push_back({connected ? Failed::connected : 0, seen});
            }
            tell(ended);
            if (!good) close(attempt.deliver.session);
        }
    }
    void close(SessionId session) {
        sessions.erase(session);
        tell(SessionClosed{session});
    }
    void tell(Event event) { world.core.handle(std::move(event), world.now, world.actions); }

    std::deque<Attempt> busy;

public:
    SessionId last_session = 0;
};

const char* const google = "aspmx.l.google.com";
const char* const yahoo = "mta5.am0.yahoodns.net";
constexpr Duration hour{3'600'000};

// A receiver that says the same to everything, until it is content; then it takes all.
struct Mood {
    const char* mx;
    Answer says;
    int messages = 60;
    Duration angry{60'000};
};

// Runs the default rules against it; the receiver is content again after a while.
std::unique_ptr<Receiver> provoke(const Mood& mood) {
    auto receiver = std::make_unique<Receiver>("rules: [default]");
    receiver->retry = hour * 48;  // what was refused does not count again
    receiver->route("a.test", mood.mx);
    const Instant content = receiver->world.now + mood.angry;
    receiver->answer = [says = mood.says, content](const Receiver& self) { return self.world.now < content ? says : Answer{}; };
    receiver->admit("a.test", 3);
    receiver->run(Duration(1'000));
    for (int i = 0; i < mood.messages && receiver->reactions.empty(); ++i) {
        receiver->admit("a.test", 1);
        receiver->run(Duration(200));
    }
    // The others wait for what the reaction lets through.
    receiver->run(mood.angry);
    receiver->refused = receiver->taken = 0;
    receiver->admit("a.test", 1'000);
    return receiver;
}

// Messages taken within the time.
std::uint64_t taken_in(Receiver& receiver, Duration time) {
    const std::uint64_t before = receiver.taken;
    receiver.run(time);
    return receiver.taken - before;
}

TEST(DefaultRules, GoogleUnusualRate) {
    const auto receiver = provoke({google, {421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail", policy::Stage::dot}});
    ASSERT_THAT(receiver->reactions, SizeIs(testing::Ge(1U)));
    EXPECT_EQ(receiver->reactions[0].by, "rule google-unusual-rate");
    EXPECT_EQ(receiver->reactions[0].concerns, "localip 192.0.2.1, remotemx #google");
    EXPECT_EQ(receiver->reactions[0].what, "10 per 60 s for 1800 s");
    const std::uint64_t slow = taken_in(*receiver, hour / 6);
    EXPECT_LE(slow, 101U) << "10 a minute";
    EXPECT_GE(slow, 95U);
    receiver->run(hour / 2 - hour / 6);
    EXPECT_THAT(receiver->told(), HasSubstr("recovers: 20 per 60 s")) << "half an hour is over";
    receiver->run(hour);
    EXPECT_EQ(receiver->told(), "lifted");
    receiver->run(hour / 4);
    EXPECT_EQ(receiver->taken, 1'000U) << "and everything goes at once";
}

TEST(DefaultRules, GoogleContentSuspendsTheReceiverAndTellsSomebody) {
    const auto receiver = provoke({google, {550, "5.7.1", "Our system has detected that this message is likely unsolicited mail", policy::Stage::dot}});
    EXPECT_EQ(receiver->reactions.at(0).by, "rule google-content");
    EXPECT_EQ(receiver->reactions[0].what, "suspended for 3600 s: Google dislikes the content of this mail");
    ASSERT_THAT(receiver->suspensions, SizeIs(testing::Ge(1U)));
    EXPECT_EQ(receiver->refused + receiver->taken, 0U);
    receiver->run(hour - Duration(120'000));
    EXPECT_EQ(receiver->taken, 0U);
    const std::uint64_t first = taken_in(*receiver, Duration(600'000));
    EXPECT_GT(first, 20U) << "it comes back";
    EXPECT_LE(first, 101U) << "slowly";
    receiver->run(hour);
    EXPECT_EQ(receiver->taken, 1'000U);
}

TEST(DefaultRules, YahooTemporaryFailures) {
    struct Case {
        const char* text;
        const char* by;
        Duration silent;
        std::uint64_t most_in_30_minutes;
    };
    for (const Case& one : {Case{"[TSS04] Messages from 192.0.2.1 temporarily deferred", "rule yahoo-tss04", hour * 2, 0},
                            Case{"[IPTS04] temporarily deferred", "rule yahoo-tss04", hour * 2, 0},
                            Case{"[TSS05] Messages from 192.0.2.1 temporarily deferred", "rule yahoo-tss05", hour * 4, 0},
                            Case{"[TS02] Messages temporarily deferred", "rule yahoo-ts02", Duration(0), 31},
                            Case{"[TS03] All messages will be permanently deferred", "rule yahoo-ts03", Duration(0), 301}}) {
        const auto receiver = provoke({yahoo, {421, "4.7.0", one.text, policy::Stage::banner}});
        const bool named = std::any_of(receiver->reactions.begin(), receiver->reactions.end(), [&](const auto& r) { return r.by == one.by; });
        EXPECT_TRUE(named) << one.text;
        EXPECT_LE(taken_in(*receiver, hour / 2 - Duration(120'000)), one.most_in_30_minutes) << one.text;
        if (one.silent.count() > 0) EXPECT_EQ(taken_in(*receiver, one.silent - hour / 2 - Duration(120'000)), 0U) << one.text;
        receiver->run(hour * 6);
        EXPECT_EQ(receiver->taken, 1'000U) << one.text;
        EXPECT_EQ(receiver->world.core.stats().conditions, 0U);
    }
}

TEST(DefaultRules, ReputationAndABusyServer) {
    for (const char* const text : {"4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation (S775)",
                                   "4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77714)",
                                   "4.2.0 Messages from you are temporarily deferred"}) {
        const std::string line(text);
        const std::size_t space = line.find(' ');
        const auto receiver = provoke({"a-test.mail.protection.outlook.com", {451, line.substr(0, space), line.substr(space + 1), policy::Stage::dot}});
        EXPECT_LE(taken_in(*receiver, hour), 61U) << text << ": one a minute";
        EXPECT_LE(receiver->open(), 1U);
        receiver->run(hour * 6);
        EXPECT_EQ(receiver->taken, 1'000U) << text;
    }
}

TEST(DefaultRules, TooManyConnections) {
    // It tolerates three sessions, whoever opens a fourth is turned away.
    Receiver receiver("rules: [default]");
    receiver.route("a.test", "mx.a.test");
    receiver.retry = Duration(5'000);
    receiver.answer = [](const Receiver& self) {
        return self.open() > 3 && self.is_new() ? Answer{421, "4.7.0", "Too many concurrent connections", policy::Stage::banner} : Answer{};
    };
    receiver.admit("a.test", 20);
    receiver.run(Duration(10'000));
    ASSERT_FALSE(receiver.reactions.empty());
    EXPECT_EQ(receiver.reactions[0].what, "1 session for 1800 s");
    receiver.refused = 0;
    receiver.admit("a.test", 200);
    EXPECT_EQ(receiver.open(), 1U);
    receiver.run(Duration(60'000));
    EXPECT_EQ(receiver.taken, 220U);
    EXPECT_EQ(receiver.refused, 0U);
    receiver.run(hour);
    EXPECT_EQ(receiver.told(), "lifted");
}

TEST(DefaultRules, TooManyMessagesOnOneSession) {
    Receiver receiver("rules: [default]");
    receiver.route("a.test", "mx.a.test");
    receiver.retry = Duration(1'000);
    receiver.answer = [](const Receiver& self) {
        return self.sessions.at(self.last_session) > 15 ? Answer{421, "4.5.0", "Too many messages per connection", policy::Stage::mail} : Answer{};
    };
    Options options = Receiver::made("rules: [default]");
    options.concurrency_max = 1;
    receiver.world.tell(Configure{options});
    receiver.admit("a.test", 300);
    receiver.run(Duration(600'000));
    EXPECT_EQ(receiver.taken, 300U);
    EXPECT_EQ(receiver.refused, 1U) << "once is enough to learn it";
    EXPECT_EQ(receiver.reactions.at(0).what, "10 messages a session for 86400 s");
}

TEST(DefaultRules, ABlockListIsATroubleOfTheSite) {
    const auto receiver = provoke({"mx.a.test", {554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", policy::Stage::rcpt}});
    EXPECT_EQ(receiver->reactions.at(0).by, "rule block-listed");
    EXPECT_EQ(taken_in(*receiver, hour * 2 - Duration(180'000)), 0U);
    receiver->run(hour * 3);
    EXPECT_EQ(receiver->taken, 1'000U);
}

TEST(DefaultRules, HostsThatCannotBeReachedAreLeftAloneTogether) {
    Receiver receiver("rules: [default]");
    receiver.route("a.test", google);
    receiver.retry = Duration(1'000);
    const Instant back = receiver.world.now + hour;
    receiver.answer = [back](const Receiver& self) {
        Answer answer;
        answer.unreachable = self.world.now < back;
        return answer;
    };
    receiver.admit("a.test", 4);
    receiver.run(Duration(10'000));
    EXPECT_EQ(receiver.reactions.at(0).by, "rule google-unreachable");
    const std::uint64_t tried = receiver.refused;
    receiver.admit("a.test", 1'000);
    receiver.run(Duration(280'000));
    EXPECT_EQ(receiver.refused, tried) << "a thousand messages wait, and nobody knocks";
    receiver.run(hour * 3);
    EXPECT_LE(receiver.refused, tried + 5 * 20U) << "every five minutes some try";
    EXPECT_EQ(receiver.taken, 1'004U);
}

TEST(Rules, OthersAreNotSlowedDown) {
    Receiver receiver("rules: [{ if: {reply: 4xx}, per: [localip, remotemx], more_than: 10/60, then: { rate: 10/60 }, for: 300 }]");
    receiver.route("bad.test", "mx.bad.test");
    receiver.route("good.test", "mx.good.test");
    receiver.retry = Duration(1'000);
    receiver.answer = [](const Receiver&) { return Answer{450, "4.2.0", "later", policy::Stage::rcpt}; };
    receiver.admit("bad.test", 20);
    receiver.run(Duration(2'000));
    EXPECT_EQ(receiver.reactions.at(0).what, "10 per 60 s for 300 s");
    receiver.answer = [](const Receiver&) { return Answer{}; };
    receiver.admit("good.test", 1'000);
    receiver.run(Duration(1'000));
    EXPECT_GE(receiver.taken, 1'000U);
    EXPECT_LE(receiver.taken, 1'001U) << "at the other one a message now and then";
}

TEST(Rules, GoOnAfterARestartFromWhatTheJournalKept) {
    const char* const yaml = "rules: [{ name: slow, per: [localip, remotemx], then: { rate: 1/60 }, for: 600, recover: {steps: 2, every: 60} }]";
    Receiver before(yaml);
    before.route("a.test", "mx.a.test");
    before.answer = [](const Receiver&) { return Answer{450, "4.2.0", "later", policy::Stage::rcpt}; };
    before.admit("a.test", 1);
    before.run(Duration(1'000));
    ASSERT_THAT(before.conditions, SizeIs(1));
    Problems problems;
    const auto kept = policy::parse_condition_record(policy::record_of(*before.conditions[0].condition), "journal", problems);
    ASSERT_TRUE(kept);

    Receiver after(yaml);
    after.world.now = before.world.now + Duration(300'000);
    after.world.tell(SetCondition{*kept, true});
    after.route("a.test", "mx.a.test");
    after.admit("a.test", 100);
    after.run(Duration(240'000));
    EXPECT_LE(after.taken, 5U);
    after.run(Duration(70'000));
    EXPECT_THAT(after.told(), HasSubstr("recovers: 2 per 60 s"));
    after.run(Duration(300'000));
    EXPECT_EQ(after.told(), "lifted");
    EXPECT_EQ(after.taken, 100U);
    EXPECT_EQ(after.world.core.stats().conditions, 0U);
}

TEST(Rules, AnOperatorEndsAReaction) {
    Receiver receiver("rules: [{ per: [localip], then: { rate: 1/3600 }, for: 36000 }, { if: {text: stop}, per: [localip], then: { hold: true } }]");
    receiver.route("a.test", "mx.a.test");
    receiver.answer = [](const Receiver&) { return Answer{450, "", "stop it", policy::Stage::rcpt}; };
    receiver.admit("a.test", 1);
    receiver.run(Duration(1'000));
    receiver.answer = [](const Receiver&) { return Answer{}; };
    receiver.run(hour);
    EXPECT_EQ(receiver.taken, 0U) << "held until somebody resumes it";
    receiver.world.tell(RemoveSuspension{receiver.suspensions.at(0).suspension->id, "operator", ""});
    receiver.world.tell(RemoveCondition{receiver.conditions.at(0).condition->id, "operator", ""});
    receiver.admit("a.test", 50);
    receiver.run(Duration(60'000));
    EXPECT_EQ(receiver.taken, 51U);
}

// B-20: a receiver that tolerates so many sessions and tells nobody how many.
TEST(Adaptive, SessionsConvergeToAHiddenLimit) {
    for (const std::size_t hidden : {3U, 12U, 40U}) {
        Receiver receiver("- fields: [localip, remotemx]\n  default: { adaptive: { concurrency: [1, 200] } }\n", Duration(1'000));
        receiver.route("a.test", "mx.a.test");
        receiver.retry = Duration(30'000);
        std::size_t most = 0;
        receiver.answer = [&most, hidden](const Receiver& self) {
            most = std::max(most, self.open());
            return self.open() > hidden && self.is_new() ? Answer{421, "4.7.0", "Too many connections", policy::Stage::banner} : Answer{};
        };
        receiver.admit("a.test", 60'000);
        receiver.run(Duration(300'000), Duration(100));
        const std::size_t first = most;
        most = 0;
        receiver.taken = receiver.refused = 0;
        receiver.run(Duration(600'000), Duration(100));
        const double used = static_cast<double>(receiver.taken) / (600.0 * static_cast<double>(hidden));
        const double refused = static_cast<double>(receiver.refused) / static_cast<double>(receiver.taken);
        RecordProperty("hidden_" + std::to_string(hidden), std::to_string(used));
        std::printf("hidden limit %zu: %.0f %% of it used, at most %zu sessions (%zu while learning), %.1f %% of the attempts refused\n", hidden,
                    used * 100, most, first, refused * 100);
        EXPECT_LE(most, hidden + 1);
        EXPECT_GE(used, 0.75);
        EXPECT_LE(refused, 0.05);
        EXPECT_FALSE(receiver.reactions.empty()) << "moves are told";
        EXPECT_THAT(receiver.reactions[0].by, HasSubstr("adaptive policy 1"));
    }
}

TEST(WarmUp, DaysAreKeptAndOutliveARestart) {
    const char* const yaml =
        "grouping: { groupings: [ { id: big, remotemx: '*.big.test' } ] }\n"
        "warm_up: [ { name: new, localip: 192.0.2.1, days: [100, 400] } ]\n";
    Receiver receiver(yaml);
    receiver.route("a.test", "mx.big.test");
    receiver.admit("a.test", 2'000);
    receiver.run(hour * 12);
    EXPECT_NEAR(static_cast<double>(receiver.taken), 50, 2) << "spread over the day";
    receiver.run(hour * 12);
    EXPECT_LE(receiver.taken, 101U);
    EXPECT_THAT(receiver.told(), HasSubstr("day 2: 400 messages"));
    receiver.run(hour * 12);
    const std::uint64_t before = receiver.taken;
    EXPECT_NEAR(static_cast<double>(before), 300, 6);

    // What the journal has of it, after a crash.
    Problems problems;
    const auto kept = policy::parse_condition_record(policy::record_of(*receiver.conditions.back().condition), "journal", problems);
    ASSERT_TRUE(kept);
    Receiver after(yaml);
    after.world.now = receiver.world.now;
    after.world.tell(SetCondition{*kept, true});
    after.route("a.test", "mx.big.test");
    after.admit("a.test", 2'000);
    after.run(hour * 11);
    EXPECT_LE(after.taken, 200U) << "it is still the second day";
    after.run(hour * 2);
    EXPECT_EQ(after.told(), "it is warm");
    EXPECT_EQ(after.taken, 2'000U);
}

TEST(WarmUp, StepsBackWhenReceiversObject) {
    Receiver receiver("warm_up: [ { name: new, localip: 192.0.2.1, per: [remotemx], days: [1000, 5000, 20000], step_back: 5/3600 } ]");
    receiver.route("a.test", "mx.a.test");
    receiver.retry = hour * 100;
    receiver.admit("a.test", 30'000);
    receiver.run(hour * 25, Duration(3'600'000));
    EXPECT_THAT(receiver.told(), HasSubstr("day 2: 5000"));
    receiver.answer = [](const Receiver&) { return Answer{421, "4.7.0", "temporarily deferred", policy::Stage::dot}; };
    receiver.run(hour, Duration(3'600'000));
    EXPECT_THAT(receiver.told(), HasSubstr("stepped back: day 1: 1000"));
    receiver.answer = [](const Receiver&) { return Answer{}; };
    receiver.taken = 0;
    receiver.run(hour * 20, Duration(3'600'000));
    EXPECT_LE(receiver.taken, 1'000U);
}

TEST(Adaptive, RatesConvergeToAHiddenLimit) {
    Receiver receiver("- fields: [localip, remotemx]\n  default: { concurrency: 20, adaptive: { rate: [10/60, 6000/60] } }\n", Duration(50));
    receiver.route("a.test", "mx.a.test");
    receiver.retry = Duration(600'000);
    std::map<std::int64_t, int> by_minute;
    receiver.answer = [&](const Receiver& self) {
        return ++by_minute[to_ms(self.world.now) / 60'000] > 600 ? Answer{451, "4.7.1", "rate limit exceeded", policy::Stage::mail} : Answer{};
    };
    receiver.admit("a.test", 60'000);
    receiver.run(hour / 2);
    receiver.taken = receiver.refused = 0;
    receiver.run(hour);
    std::printf("hidden limit 600 a minute: %.0f %% of it used, %.1f %% of the attempts refused\n", static_cast<double>(receiver.taken) / 360.0,
                100.0 * static_cast<double>(receiver.refused) / static_cast<double>(receiver.taken));
    EXPECT_GE(receiver.taken, 36'000U * 3 / 4);
    EXPECT_LE(receiver.refused * 20, receiver.taken);
}

TEST(Adaptive, AnOutageIsFollowedByASlowStart) {
    Receiver receiver("- fields: [localip, remotemx]\n  default: { adaptive: { concurrency: [1, 100] } }\n", Duration(1'000));
    receiver.route("a.test", "mx.a.test");
    receiver.retry = Duration(10'000);
    receiver.admit("a.test", 30'000);
    receiver.run(Duration(60'000), Duration(100));
    EXPECT_EQ(receiver.open(), 100U);
    receiver.answer = [](const Receiver&) {
        Answer answer;
        answer.unreachable = true;
        return answer;
    };
    receiver.run(Duration(120'000), Duration(100));
    EXPECT_LE(receiver.open(), 1U);
    receiver.answer = [](const Receiver&) { return Answer{}; };
    receiver.run(Duration(2'000), Duration(100));
    EXPECT_LE(receiver.open(), 8U) << "not all at once";
    receiver.run(Duration(120'000), Duration(100));
    EXPECT_GE(receiver.open(), 50U);
}

}  // namespace
}  // namespace sluice::queue
