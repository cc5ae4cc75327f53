// What policies may ask of an item, and the addresses it goes out from.

#include <gmock/gmock.h>

#include <map>

#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

constexpr std::uint32_t plenty = 1'000;

class Fields : public testing::Test {
protected:
    static Options with(const char* yaml) {
        Options made = options(plenty);
        made.policies = policies(yaml);
        return made;
    }
    // Sessions that run when so many messages of each of these kinds wait for one domain.
    template <class... Change>
    static std::size_t started(const char* yaml, int each, Change... changes) {
        World world(with(yaml));
        for (int i = 0; i < each; ++i) {
            const auto admit = [&](auto change) {
                Admit mail = world.mail("a.test");
                change(mail);
                world.tell(mail);
            };
            (admit(changes), ...);
        }
        world.resolve("a.test");
        return world.take<Deliver>().size();
    }
};

TEST_F(Fields, EveryFieldOfAnItemHasBucketsOfItsOwn) {
    const auto job = [](const char* name) { return [name](Admit& mail) { mail.job = name; }; };
    EXPECT_EQ(started("[{fields: [jobid], default: {concurrency: 2}}]", 5, job("one"), job("two"), job("")), 6U);
    const auto transport = [](const char* name) { return [name](Admit& mail) { mail.transport = name; }; };
    EXPECT_EQ(started("[{fields: [transportid], default: {concurrency: 2}}]", 5, transport("one"), transport("two")), 4U);
    const auto sender = [](const char* name) { return [name](Admit& mail) { mail.sender_domain = name; }; };
    EXPECT_EQ(started("[{fields: [senderdomain], conditions: [{if: {senderdomain: '*.two.test'}, then: {concurrency: 3}}], default: {concurrency: 1}}]",
                      5, sender("one.test"), sender("x.two.test")),
              4U);
    const auto note = [](const char* value) { return [value](Admit& mail) { mail.marks = {{"notes.stream", value}, {"header.x-list", "same"}}; }; };
    EXPECT_EQ(started("[{fields: [notes.stream], default: {concurrency: 2}}]", 5, note("a"), note("b"), note("")), 6U);
    EXPECT_EQ(started("[{fields: [header.X-List], conditions: [{if: {header.X-List: same}, then: {concurrency: 2}}]}]", 5, note("a"), note("b")), 2U);
}

TEST_F(Fields, TheNumberOfTheAttemptCountsFromOne) {
    const auto after = [](std::uint16_t failed) { return [failed](Admit& mail) { mail.attempts = failed; }; };
    const char* const yaml = "[{fields: [attempt], conditions: [{if: {attempt: 1}, then: {concurrency: 4}}], default: {concurrency: 1}}]";
    EXPECT_EQ(started(yaml, 9, after(0)), 4U);
    EXPECT_EQ(started(yaml, 9, after(0), after(1), after(2)), 6U);
    EXPECT_EQ(started(yaml, 9, after(40), after(60'000)), 1U) << "from the 32nd on they are the same";
}

TEST_F(Fields, LanesAreMadeOfWhatPoliciesAskForOnly) {
    const auto lanes = [](const char* yaml) {
        World world(with(yaml));
        world.resolve("a.test");
        for (int i = 0; i < 50; ++i) {
            Admit mail = world.mail("a.test");
            mail.job = "job" + std::to_string(i);
            mail.sender_domain = "bounce" + std::to_string(i) + ".test";
            mail.marks = {{"notes.id", std::to_string(i)}};
            world.tell(mail);
        }
        world.resolve("a.test");
        return world.core.stats().lanes;
    };
    EXPECT_EQ(lanes("[{default: {concurrency: 1}}]"), 1U);
    EXPECT_EQ(lanes("[{fields: [jobid], default: {concurrency: 1}}]"), 50U);
    EXPECT_EQ(lanes("[{fields: [notes.id], default: {concurrency: 1}}]"), 50U);
}

TEST_F(Fields, APolicyThatNamesAFieldAfterwardsCountsWhatIsQueuedAndWhatIsUnderWay) {
    World world(with("[{default: {concurrency: 3}}]"));
    for (const char* const job : {"one", "two", "one", "two", "one", "two", "one"}) {
        Admit mail = world.mail("a.test");
        mail.job = job;
        mail.attempts = 2;
        world.tell(mail);
    }
    world.resolve("a.test");
    std::vector<Deliver> first = world.take<Deliver>();
    ASSERT_EQ(first.size(), 3U);  // one, two, one
    world.tell(Configure{with("[{fields: [jobid, attempt], default: {concurrency: 2}}]")});
    std::vector<Deliver> more = world.take<Deliver>();
    ASSERT_EQ(more.size(), 1U) << "`two` has one session, so there is room for one";
    EXPECT_EQ(world.core.find(more.front().work.item)->job, "two");
    world.opened(first[0]);
    world.done(first[0]);
    EXPECT_EQ(world.core.find(world.take_delivery().work.item)->job, "one");
    world.tell(Configure{with("[{default: {concurrency: 10}}]")});
    EXPECT_EQ(world.take<Deliver>().size(), 2U);
}

TEST_F(Fields, AMessageEndsWhenItsOwnTimeIsOver) {
    World world(with("[{default: {concurrency: 1}}]"));
    world.resolve("a.test");
    world.admit("a.test");
    world.resolve("a.test");
    Admit mail = world.mail("a.test");
    mail.lifetime = std::chrono::seconds(90);
    world.tell(mail);
    Admit later = mail;
    later.id.message.value = ++world.last;
    later.due = world.now + 10 * minute;
    world.tell(later);
    Admit held = mail;
    held.id.message.value = ++world.last;
    held.held = true;
    world.tell(held);
    world.pass(89 * second);
    EXPECT_TRUE(world.take<Conclude>().empty());
    world.pass(second);
    std::vector<ItemId> over;
    for (const Conclude& conclude : world.take<Conclude>()) {
        EXPECT_EQ(conclude.error.code, Errc::timed_out);
        over.push_back(conclude.work.item);
    }
    EXPECT_THAT(over, UnorderedElementsAre(mail.id, later.id)) << "the one waits for a session, the other for its time";
    world.tell(Release{});
    EXPECT_EQ(world.take<Conclude>().at(0).work.item, held.id);

    Admit late = world.mail("a.test");
    late.arrival -= 3 * minute;
    late.lifetime = std::chrono::seconds(60);
    world.tell(late);
    EXPECT_EQ(world.take<Conclude>().at(0).work.item, late.id) << "found after a restart";
}

TEST_F(Fields, AnEndlessLifetimeIsNoNumberTooLarge) {
    World world(with("[{default: {concurrency: 1}}]"));
    Admit mail = world.mail("a.test");
    mail.lifetime = std::chrono::seconds::max();
    world.tell(mail);
    world.resolve("a.test");
    EXPECT_EQ(world.take_delivery().work.item, mail.id);
}

// ---- the address to call from ------------------------------------------------------------------------------------

class Locals : public testing::Test {
protected:
    using Order = LocalPool::Order;
    static Options pools(const char* yaml, Order order, std::vector<std::uint32_t> weights) {
        Options made = options(plenty);
        if (yaml != nullptr) made.policies = policies(yaml);
        LocalPool pool{"bulk", order, {}};
        for (const std::uint32_t weight : weights) {
            const std::string number = std::to_string(pool.sources.size() + 1);
            pool.sources.push_back({"192.0.2." + number, weight, "mx" + number + ".test"});
        }
        made.transports = {pool};
        return made;
    }
    Admit bulk(World& world, const char* domain = "a.test") {
        Admit mail = world.mail(domain);
        mail.transport = "bulk";
        mail.source_hash = static_cast<std::uint32_t>(world.last);
        return mail;
    }
    std::map<std::string, int> binds(World& world, int messages, const char* domain = "a.test") {
        std::map<std::string, int> sent;
        for (int i = 0; i < messages; ++i) world.tell(bulk(world, domain));
        for (const Deliver& deliver : world.take<Deliver>()) ++sent[deliver.bind];
        return sent;
    }
};

using Sent = std::map<std::string, int>;

TEST_F(Locals, SpreadFollowsTheWeightsAndSaysWhoCalls) {
    World world(pools(nullptr, Order::spread, {3, 1}));
    world.tell(bulk(world));
    world.resolve("a.test");
    const Deliver first = world.take_delivery();
    EXPECT_EQ(first.bind, "192.0.2.1");
    EXPECT_EQ(first.helo, "mx1.test");
    EXPECT_EQ(binds(world, 79), (Sent{{"192.0.2.1", 59}, {"192.0.2.2", 20}}));
}

TEST_F(Locals, WeightsCountMessagesThatReuseSessionsToo) {
    Options made = pools(nullptr, Order::spread, {2, 1});
    made.destination_concurrency = 6;
    World world(made);
    Sent sent;
    std::map<SessionId, std::string> bind;
    for (int i = 0; i < 306; ++i) world.tell(bulk(world));
    world.resolve("a.test");
    std::vector<Deliver> running = world.take<Deliver>();
    for (std::size_t next = 0; next < running.size(); ++next) {
        const Deliver deliver = running[next];
        if (deliver.open) {
            world.opened(deliver);
            bind[deliver.session] = deliver.bind;
        }
        ++sent[bind[deliver.session]];
        world.done(deliver);
        for (Deliver& more : world.take<Deliver>()) running.push_back(std::move(more));
    }
    EXPECT_EQ(sent["192.0.2.1"] + sent["192.0.2.2"], 306);
    EXPECT_NEAR(sent["192.0.2.1"], 204, 6);
}

TEST_F(Locals, WhoeverHasRoomIsCalledFrom) {
    const char* const yaml = "[{fields: [localip, recipientdomain], conditions: [{if: {localip: 192.0.2.1}, then: {concurrency: 1}}], default: {concurrency: 3}}]";
    World world(pools(yaml, Order::fill, {1, 1, 1}));
    world.tell(bulk(world));
    world.resolve("a.test");
    const Deliver first = world.take_delivery();
    EXPECT_EQ(first.bind, "192.0.2.1");
    EXPECT_EQ(binds(world, 20), (Sent{{"192.0.2.2", 3}, {"192.0.2.3", 3}})) << "the second is full before the third is used";
    world.opened(first);
    world.done(first);
    EXPECT_EQ(world.take_delivery().session, first.session);
}

TEST_F(Locals, AStickyPreferenceYieldsToRoom) {
    Options made = options(plenty);
    made.policies = policies("[{fields: [localip], default: {concurrency: 2}}]");
    made.sources4 = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};
    World world(made);
    const auto admit = [&] {
        Admit mail = world.mail("a.test");
        mail.source_hash = 1;
        world.tell(mail);
    };
    admit();
    world.resolve("a.test");
    const std::string preferred = world.take_delivery().bind;
    EXPECT_EQ(preferred, "192.0.2.2");
    for (int i = 0; i < 9; ++i) admit();
    Sent sent;
    for (const Deliver& deliver : world.take<Deliver>()) ++sent[deliver.bind];
    EXPECT_EQ(sent, (Sent{{"192.0.2.1", 2}, {"192.0.2.2", 1}, {"192.0.2.3", 2}}));
}

TEST_F(Locals, WithoutAPolicyOnAddressesCorrespondentsKeepTheirs) {
    Options made = options(2);
    made.sources4 = {"192.0.2.1", "192.0.2.2"};
    World world(made);
    Sent sent;
    for (std::uint32_t i = 0; i < 8; ++i) {
        Admit mail = world.mail("a.test");
        mail.source_hash = 1;
        world.tell(mail);
        if (i == 0) world.resolve("a.test");
    }
    for (const Deliver& deliver : world.take<Deliver>()) ++sent[deliver.bind];
    EXPECT_EQ(sent, (Sent{{"192.0.2.2", 2}})) << "the limit of the domain is no reason to call from elsewhere";
}

TEST_F(Locals, AnAddressThatFailsIsReplacedWithoutBlamingTheHost) {
    World world(pools(nullptr, Order::fill, {1, 1}));
    world.tell(bulk(world));
    world.resolve("a.test");
    const Deliver first = world.take_delivery();
    AttemptEnded ended = world.ending(first, Verdict::next_candidate, false);
    ended.source_unusable = minute;
    world.tell(ended);
    EXPECT_EQ(world.take_delivery().bind, "192.0.2.2");
    world.closed(first.session);
    EXPECT_EQ(binds(world, 1), (Sent{{"192.0.2.2", 1}}));
    world.pass(minute);
    EXPECT_EQ(binds(world, 1), (Sent{{"192.0.2.1", 1}}));
}

TEST_F(Locals, MailOfATransportDoesNotLeaveOverAFamilyThatTheTransportHasNoAddressOf) {
    World world(pools(nullptr, Order::spread, {1}));
    world.tell(bulk(world));
    world.resolve("a.test", {{"[2001:db8::7]", 0}, {"198.51.100.1", 1}});
    const Deliver deliver = world.take_delivery();
    EXPECT_THAT(deliver.candidates, ElementsAre(1U));
    EXPECT_TRUE(deliver.last_resort);
    world.tell(bulk(world, "six.test"));
    world.resolve("six.test", {{"[2001:db8::7]", 0}});
    EXPECT_EQ(world.take<Conclude>().at(0).error.code, Errc::unreachable);
}

TEST_F(Locals, ARemovedAddressIsNotCalledFromAfterAReload) {
    const char* const yaml = "[{fields: [localip], default: {concurrency: 1}}]";
    World world(pools(yaml, Order::fill, {1, 1, 1}));
    world.tell(bulk(world));
    world.resolve("a.test");
    EXPECT_EQ(world.take_delivery().bind, "192.0.2.1");
    EXPECT_EQ(binds(world, 3), (Sent{{"192.0.2.2", 1}, {"192.0.2.3", 1}}));
    Options fewer = pools(yaml, Order::fill, {1});
    fewer.transports.front().sources.front().address = "192.0.2.9";
    world.tell(Configure{fewer});
    Sent sent;
    for (const Deliver& deliver : world.take<Deliver>()) ++sent[deliver.bind];
    EXPECT_EQ(sent, (Sent{{"192.0.2.9", 1}}));
}

// Found by random policies: the lane waited nowhere, and so for ever.
TEST_F(Locals, WhoWasToCallTheSameHostAgainGoesToAnotherWhenItsFamilyIsLost) {
    const char* const yaml = "[{fields: [remotemx], default: {concurrency: 1}}]";
    Options both = pools(yaml, Order::sticky, {1});
    both.transports.front().sources.push_back({"2001:db8::1", 1, ""});
    World world(both);
    world.tell(bulk(world));
    world.resolve("a.test", {{"[2001:db8::7]", 0}, {"198.51.100.1", 1}});
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.done(first);
    world.tell(bulk(world));
    const Deliver reused = world.take_delivery();
    EXPECT_EQ(reused.session, first.session);
    world.tell(world.ending(reused, Verdict::fresh_session, false));
    EXPECT_TRUE(world.take<Deliver>().empty()) << "the dead session is not closed yet";
    world.tell(Configure{pools(yaml, Order::sticky, {1})});
    const Deliver again = world.take_delivery();
    EXPECT_EQ(again.work.item, reused.work.item);
    EXPECT_THAT(again.candidates, ElementsAre(1U));
    EXPECT_TRUE(again.last_resort);
}

}  // namespace
}  // namespace sluice::queue
