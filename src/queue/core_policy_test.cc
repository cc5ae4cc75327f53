// Policies of the file: what they count, what their conditions allow, and what a reload keeps.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "policy/test_texts.h"
#include "queue/core.h"
#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

// Hosts that take everything at once, counted as sinks count: sessions open now and at their most, and when messages came.
class Sinks {
public:
    struct Count {
        int open = 0, most = 0;
        std::vector<Instant> messages;
        std::vector<Instant> openings;
    };

    explicit Sinks(const Options& options) : world(options) {}

    // Items for a domain whose hosts have these names and addresses; each item lasts `each`.
    void route(const std::string& domain, std::vector<std::pair<std::string, std::string>> hosts) {
        auto made = std::make_shared<Route>();
        made->key = domain;
        for (auto& [name, ip] : hosts) made->candidates.push_back({name, ip + ":25", 0});
        made->expires = world.now + Duration(86'400'000);
        routes[domain] = made;
    }
    void admit(const std::string& domain, int count, const std::string& tenant = {}) {
        for (int i = 0; i < count; ++i) {
            Admit mail = world.mail(domain, tenant);
            mail.source_hash = static_cast<std::uint32_t>(i);
            world.core.handle(mail, world.now, world.actions);
        }
        answer();
    }
    // Lets time pass in steps; every attempt takes `each`, after which its session is idle.
    void run(Duration time, Duration step = Duration(10), Duration each = Duration(120)) {
        const Instant end = world.now + time;
        while (world.now < end) {
            world.now = std::min(end, std::min(world.core.next_timer(), world.now + step));
            world.core.handle(Tick{}, world.now, world.actions);
            answer();
            finish(each);
        }
        world.core.audit();
    }
    const Count& at(const std::string& name) const {
        static const Count nothing;
        const auto found = counts.find(name);
        return found == counts.end() ? nothing : found->second;
    }

    World world;
    // By what a test asks for: "LOCAL MX", as `key` says.
    std::map<std::string, Count> counts;
    std::function<std::string(const std::string& local, const Candidate& candidate)> key;

private:
    struct Attempt {
        Deliver deliver;
        Instant began;
    };
    struct Line {
        std::string key;
    };

    void answer() {
        while (!world.actions.empty()) {
            std::vector<Action> todo;
            std::swap(todo, world.actions);
            for (Action& action : todo) {
                if (const auto* const asked = std::get_if<Resolve>(&action)) {
                    world.core.handle(RouteResolved{asked->key, routes.at(asked->key)}, world.now, world.actions);
                } else if (auto* const deliver = std::get_if<Deliver>(&action)) {
                    begin(std::move(*deliver));
                } else if (const auto* const close = std::get_if<Close>(&action)) {
                    --counts[lines.at(close->session).key].open;
                    world.core.handle(SessionClosed{close->session}, world.now, world.actions);
                }
            }
        }
    }
    void begin(Deliver deliver) {
        if (deliver.open) {
            const std::uint32_t candidate = deliver.candidates.front();
            Line& line = lines[deliver.session];
            line.key = key(deliver.bind, deliver.route->candidates[candidate]);
            Count& count = counts[line.key];
            count.most = std::max(count.most, ++count.open);
            count.openings.push_back(world.now);
            world.core.handle(SessionOpened{deliver.session, candidate}, world.now, world.actions);
        }
        counts[lines.at(deliver.session).key].messages.push_back(world.now);
        attempts.push_back({std::move(deliver), world.now});
    }
    void finish(Duration each) {
        std::vector<Attempt> going;
        std::swap(going, attempts);
        for (Attempt& attempt : going) {
            if (world.now < attempt.began + each) {
                attempts.push_back(std::move(attempt));
                continue;
            }
            world.core.handle(world.ending(attempt.deliver, Verdict::done, true), world.now, world.actions);
        }
        answer();
    }

    std::map<std::string, RoutePtr> routes;
    std::map<SessionId, Line> lines;
    std::vector<Attempt> attempts;
};

// The most messages in any stretch of this length.
std::size_t most_in(const std::vector<Instant>& times, Duration length) {
    std::size_t most = 0, first = 0;
    for (std::size_t last = 0; last < times.size(); ++last) {
        while (times[last] - times[first] >= length) ++first;
        most = std::max(most, last - first + 1);
    }
    return most;
}

bool is_google(const std::string& mx) { return mx.ends_with(".google.com") || mx.ends_with(".googlemail.com") || mx.ends_with(".smtp.goog"); }

TEST(CorePolicy, TheFirstExampleOfTheAnnouncementHoldsExactly) {
    Options made;
    made.sources4 = {"192.0.2.1", "192.0.2.2"};
    made.policies = policies(policy::good_file("gsuite"));
    Sinks sinks(made);
    sinks.key = [](const std::string& local, const Candidate& c) { return local + " " + (is_google(c.mx_host) ? "#gsuite" : c.mx_host); };
    sinks.route("a.test", {{"aspmx.l.google.com", "203.0.113.1"}, {"alt1.aspmx.l.google.com", "203.0.113.2"}});
    sinks.route("b.test", {{"gmail-smtp-in.l.googlemail.com", "203.0.113.1"}, {"MX.smtp.goog", "203.0.113.3"}});
    sinks.route("c.test", {{"mx1.c.test", "203.0.113.9"}, {"mx2.c.test", "203.0.113.10"}});
    for (const char* const domain : {"a.test", "b.test", "c.test"}) sinks.admit(domain, 3'000);
    sinks.run(Duration(20'000), Duration(10), Duration(180));
    for (const char* const local : {"192.0.2.1", "192.0.2.2"}) {
        const Sinks::Count& google = sinks.at(std::string(local) + " #gsuite");
        EXPECT_LE(google.most, 10) << local;
        EXPECT_GE(google.most, 9) << local << ": fifty a second of 0.18 s each";
        EXPECT_LE(most_in(google.messages, second), 50U) << local;
        EXPECT_GE(google.messages.size(), 20 * 50 * 98 / 100) << local;
        for (const char* const mx : {"mx1.c.test", "mx2.c.test"}) {
            const Sinks::Count& other = sinks.at(std::string(local) + " " + mx);
            EXPECT_LE(other.most, 5) << mx;
            EXPECT_LE(most_in(other.messages, second), 10U) << mx;
            EXPECT_GE(other.messages.size(), 20 * 10 * 98 / 100) << mx;
        }
    }
}

TEST(CorePolicy, TheSecondExampleOfTheAnnouncementHoldsExactly) {
    Options made;
    made.destination_concurrency = 0;
    made.sources4 = {"192.0.2.1", "192.0.2.2"};
    made.policies = policies(policy::good_file("o365"));
    Sinks sinks(made);
    sinks.key = [](const std::string& local, const Candidate& c) { return local + " " + c.remote; };
    sinks.route("a.test", {{"a-test.mail.protection.outlook.com", "203.0.113.1"}, {"a-test.mail.protection.outlook.com", "203.0.113.2"}});
    sinks.route("b.test", {{"b-test.mail.protection.outlook.com", "203.0.113.2"}, {"b-test.mail.protection.outlook.com", "203.0.113.3"}});
    sinks.route("free.test", {{"mx.free.test", "203.0.113.9"}});
    for (const char* const domain : {"a.test", "b.test"}) sinks.admit(domain, 2'000);
    sinks.admit("free.test", 400);
    sinks.run(Duration(10'000), Duration(10), Duration(500));
    for (const char* const local : {"192.0.2.1", "192.0.2.2"}) {
        for (const char* const ip : {"203.0.113.1", "203.0.113.2", "203.0.113.3"}) {
            const Sinks::Count& count = sinks.at(std::string(local) + " " + ip + ":25");
            EXPECT_EQ(count.most, 10) << local << " " << ip;
            EXPECT_LE(most_in(count.messages, second), 30U) << local << " " << ip;
            // 10 sessions of half a second each carry 20 a second: the sessions bind, not the rate.
            EXPECT_GE(count.messages.size(), 180U) << local << " " << ip;
        }
        EXPECT_EQ(sinks.at(std::string(local) + " 203.0.113.9:25").messages.size(), 200U) << "nothing limits other hosts";
        EXPECT_EQ(sinks.at(std::string(local) + " 203.0.113.9:25").most, 200);
    }
}

TEST(CorePolicy, SeveralRatesHoldAtOnce) {
    Options made;
    made.policies = policies("[{fields: [recipientdomain], default: {rate: [20/1, {count: 100, interval: 10, algorithm: fixedwindow}]}}]");
    Sinks sinks(made);
    sinks.key = [](const std::string&, const Candidate&) { return "all"; };
    sinks.route("x.test", {{"mx.x.test", "203.0.113.1"}});
    sinks.admit("x.test", 1'000);
    const Instant begin = sinks.world.now;
    sinks.run(Duration(29'900));
    const std::vector<Instant>& messages = sinks.at("all").messages;
    EXPECT_EQ(messages.size(), 300U) << "three windows of a hundred";
    EXPECT_LE(most_in(messages, second), 20U);
    EXPECT_LT(messages[99], begin + Duration(6'000)) << "the window is used as fast as the other rate allows";
    EXPECT_GE(messages[100], begin + Duration(10'000));
}

TEST(CorePolicy, SessionsAreOpenedOneAfterTheOther) {
    Options made;
    made.policies = policies("[{fields: [remotemx], default: {connectinterval: 0.5}}]");
    Sinks sinks(made);
    sinks.key = [](const std::string&, const Candidate&) { return "all"; };
    sinks.route("x.test", {{"mx.x.test", "203.0.113.1"}});
    sinks.admit("x.test", 1'000);
    sinks.run(Duration(5'000));
    const std::vector<Instant>& openings = sinks.at("all").openings;
    ASSERT_EQ(openings.size(), 11U);
    for (std::size_t i = 1; i < openings.size(); ++i) EXPECT_EQ(openings[i] - openings[i - 1], Duration(500));
    EXPECT_GT(sinks.at("all").messages.size(), 100U) << "sessions that are open carry on meanwhile";
}

TEST(CorePolicy, ASessionEndsAfterSoManyMessages) {
    Options made = options(1);
    made.policies = policies("[{fields: [remotemx], conditions: [{if: {remotemx: mx.x.test}, then: {messages_per_connection: 3}}]}]");
    World world(made);
    for (int i = 0; i < 7; ++i) world.admit("x.test");
    world.resolve("x.test", {{"x.test", 0}});
    int sessions = 0;
    for (int i = 0; i < 7; ++i) {
        Deliver deliver = world.take_delivery();
        if (deliver.open) {
            ++sessions;
            world.opened(deliver);
        }
        EXPECT_EQ(deliver.open, i % 3 == 0) << i;
        world.done(deliver);
        for (const Close& close : world.take<Close>()) world.closed(close.session);
    }
    EXPECT_EQ(sessions, 3);
}

TEST(CorePolicy, OctetsPerSecond) {
    Options made;
    made.policies = policies("[{default: {bytes_per_second: 10000}}]");
    Sinks sinks(made);
    sinks.key = [](const std::string&, const Candidate&) { return "all"; };
    sinks.route("x.test", {{"mx.x.test", "203.0.113.1"}});
    sinks.admit("x.test", 500);  // of 1000 octets each
    sinks.run(Duration(10'000));
    EXPECT_NEAR(static_cast<double>(sinks.at("all").messages.size()), 100.0, 2.0);
}

TEST(CorePolicy, StopLeavesTheFurtherPoliciesOutButNotTheSettings) {
    Options made = options(5);
    made.policies = policies(R"(
- fields: [tenantid]
  conditions: [{if: {tenantid: vip}, then: {stop: true}}]
- fields: [recipientdomain]
  default: {concurrency: 1}
)");
    World world(made);
    for (int i = 0; i < 9; ++i) world.admit("x.test", "vip");
    world.resolve("x.test");
    EXPECT_EQ(world.take<Deliver>().size(), 5U) << "the limit of the settings";
    for (int i = 0; i < 9; ++i) world.admit("y.test", "usual");
    world.resolve("y.test", {{"b", 0}});
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
}

TEST(CorePolicy, AStopThatDependsOnTheHostLeavesOutWhatDoesNot) {
    Options made;
    made.policies = policies(R"(
- fields: [remotemx]
  conditions: [{if: {remotemx: mx.good}, then: {stop: true, concurrency: 3}}]
- fields: [tenantid]
  default: {concurrency: 1}
)");
    World world(made);
    for (int i = 0; i < 9; ++i) world.admit("x.test", "t");
    world.resolve("x.test", {{"good", 0}});
    EXPECT_EQ(world.take<Deliver>().size(), 3U);
    for (int i = 0; i < 9; ++i) world.admit("y.test", "t");
    world.resolve("y.test", {{"other", 0}});
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
}

TEST(CorePolicy, GroupingCountsWhatBelongsTogether) {
    Options made;
    made.policies = policies(R"(
grouping:
  default: recipientdomain
  groupings:
    - { id: big, remotemx: '*.big', recipientdomain: '*.inner.test' }
policies:
  - fields: [grouping]
    conditions: [{if: {grouping: '&big'}, then: {concurrency: 2}}]
    default: {concurrency: 1}
)");
    World world(made);
    const auto started = [&](const char* domain, const char* host) {
        for (int i = 0; i < 5; ++i) world.admit(domain);
        world.resolve(domain, {{host, 0}});
        return world.take<Deliver>().size();
    };
    EXPECT_EQ(started("a.test", "x.big"), 2U);
    EXPECT_EQ(started("b.test", "y.big"), 0U) << "of the same group";
    EXPECT_EQ(started("c.inner.test", "z"), 0U) << "by its own name";
    EXPECT_EQ(started("d.test", "z"), 1U);
    EXPECT_EQ(started("e.test", "z"), 1U) << "a bucket for each domain";
}

TEST(CorePolicy, PriorityIsAField) {
    Options made;
    made.policies = policies("[{fields: [priority], conditions: [{if: {priority: '<4'}, then: {concurrency: 1}}]}]");
    World world(made);
    for (const int priority : {0, 0, 0, 3, 3, 4, 4, 4}) world.admit("x.test", "", static_cast<std::uint8_t>(priority));
    world.resolve("x.test");
    std::map<int, int> started;
    for (const Deliver& deliver : world.take<Deliver>()) ++started[world.core.find(deliver.work.item)->priority];
    EXPECT_EQ(started, (std::map<int, int>{{0, 1}, {3, 1}, {4, 3}}));
}

TEST(CorePolicy, ARuleThatCountsTheSameKeepsWhatItCountedOverAReload) {
    constexpr const char* before = "[{fields: [recipientdomain], default: {rate: {count: 5, interval: 60, algorithm: fixedwindow}, concurrency: 9}}]";
    // Another policy in front, another limit: the buckets of the old one are found again.
    constexpr const char* after =
        "[{fields: [remotemx], default: {concurrency: 50}},"
        " {fields: [recipientdomain], default: {rate: {count: 5, interval: 60, algorithm: fixedwindow}, concurrency: 2}}]";
    Options made;
    made.policies = policies(before);
    World world(made);
    for (int i = 0; i < 3; ++i) world.admit("x.test");
    world.resolve("x.test");
    std::vector<Deliver> going = world.take<Deliver>();
    ASSERT_EQ(going.size(), 3U);
    made.policies = policies(after);
    world.tell(Configure{made});
    for (int i = 0; i < 9; ++i) world.admit("x.test");
    world.resolve("x.test");
    EXPECT_TRUE(world.take<Deliver>().empty()) << "three sessions are in flight and count";
    for (const Deliver& deliver : going) {
        world.opened(deliver);
        world.done(deliver);
    }
    const std::vector<Deliver> more = world.take<Deliver>();
    ASSERT_EQ(more.size(), 2U) << "three of five were started before the reload";
    for (const Deliver& deliver : more) world.done(deliver);
    world.pass(Duration(30'000));
    for (const Close& close : world.take<Close>()) world.closed(close.session);
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.pass(Duration(29'999));
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.pass(Duration(1));
    EXPECT_EQ(world.take<Deliver>().size(), 2U);
}

TEST(CorePolicy, AReloadWithoutAChangeChangesNothing) {
    Options made;
    made.policies = policies("[{fields: [remotemx], default: {rate: 1/60, connectinterval: 30}}]");
    World world(made);
    for (int i = 0; i < 3; ++i) world.admit("x.test");
    world.resolve("x.test");
    ASSERT_EQ(world.take<Deliver>().size(), 1U);
    for (int i = 0; i < 5; ++i) {
        made.policies = policies("[{fields: [remotemx], default: {rate: 1/60, connectinterval: 30}}]");
        world.tell(Configure{made});
        world.pass(second);
        EXPECT_TRUE(world.take<Deliver>().empty());
    }
    made.policies = nullptr;
    world.tell(Configure{made});
    EXPECT_EQ(world.take<Deliver>().size(), 2U) << "without the policies everything may start";
}

TEST(CorePolicy, ARateThatGrowsIsNotWaitedForAsLongAsTheOldOne) {
    Options made;
    made.policies = policies("[{default: {rate: 1/3600}}]");
    World world(made);
    for (int i = 0; i < 3; ++i) world.admit("x.test");
    world.resolve("x.test");
    ASSERT_EQ(world.take<Deliver>().size(), 1U);
    made.policies = policies("[{default: {rate: 1/1}}]");
    world.tell(Configure{made});
    EXPECT_TRUE(world.take<Deliver>().empty());
    world.pass(Duration(1'000));
    EXPECT_EQ(world.take<Deliver>().size(), 1U);
}

TEST(CorePolicy, WhoeverComesBackWaitsForTheTokenAndNotForAllThatIsRemembered) {
    Options made;
    made.idle_session = Duration(1);
    made.policies = policies("[{fields: [recipientdomain], default: {rate: 100/1000}}]");
    World world(made);
    const auto send = [&] {
        world.admit("x.test");
        return world.take<Deliver>();
    };
    world.admit("x.test");
    world.resolve("x.test");
    std::vector<Deliver> started = world.take<Deliver>();
    // One after the other, each on a session of its own, until the next token is not due yet: then nobody refers to the bucket.
    while (!started.empty()) {
        world.opened(started.front());
        world.done(started.front(), false);
        world.closed(started.front().session);
        started = send();
    }
    EXPECT_EQ(world.core.stats().ready, 1U);
    EXPECT_LE(world.core.next_timer(), world.now + Duration(100)) << "the next token is due long before all of them are back";
}

TEST(CorePolicy, ShowsWhereMailWaitsAndForWhat) {
    Options made;
    made.policies = policies(
        "[{name: few, fields: [{remotemx: {all: '*.a'}}], default: {concurrency: 1}}, {name: slow, fields: [tenantid], default: {rate: 1}}]");
    World world(made);
    const auto blocked = [&] {
        std::vector<std::string> found;
        world.core.each_blocked([&](const BlockedBucket& bucket) {
            found.push_back(bucket.policy->name + ((bucket.groups & 1) != 0 ? " #" : " ") + std::string(bucket.values[0]) + " " +
                            std::to_string(bucket.items) + " " + std::to_string(static_cast<int>(bucket.lack)));
        });
        return found;
    };
    world.admit("x.test", "t");
    world.resolve("x.test", {{"a", 0}});
    EXPECT_TRUE(blocked().empty());
    for (int i = 0; i < 3; ++i) world.admit("x.test", "t");
    EXPECT_EQ(blocked(), std::vector<std::string>{"few #all 3 0"}) << "no session is left";
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    EXPECT_THAT(blocked(), testing::Contains("slow t 3 1")) << "there is a session, but no token yet";
}

// Found by random policies: the lane stayed where its old head had waited.
TEST(CorePolicy, WhoComesAfterAnItemThatHadOneHostLeftMayGoToTheOther) {
    Options made;
    made.policies = policies("[{fields: [remotemx], default: {rate: 1/10}}]");
    World world(made);
    world.admit("x.test");
    world.resolve("x.test", {{"a", 0}, {"b", 0}});
    const Deliver first = world.take_delivery();
    world.opened(first, first.candidates.front());
    world.pass(Duration(5'000));
    world.admit("x.test");
    const Deliver second = world.take_delivery();
    world.opened(second, second.candidates.front());
    ASSERT_NE(first.candidates, second.candidates) << "the other host has a token";
    world.admit("x.test");
    world.tell(world.ending(first, Verdict::next_candidate, false));
    world.closed(first.session);
    world.done(second);
    world.pass(Duration(6'000));
    EXPECT_TRUE(world.take<Deliver>().empty()) << "the first in line waits for the host it has not tried";
    world.pass(Duration(4'200));
    EXPECT_EQ(world.take<Deliver>().size(), 2U) << "it goes, and the next one goes to the other host, which has had a token for long";
}

}  // namespace
}  // namespace sluice::queue
