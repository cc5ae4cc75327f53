// What operators ask and do: filters, counts, buckets, explanations, changes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "queue/core_test_world.h"
#include "queue/replies.h"
#include "queue/views.h"

namespace sluice::queue {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

Filter filter(const Core& core, std::string_view text) {
    Result<Filter> made = Filter::parse(text, core.fields());
    EXPECT_TRUE(made) << (made ? "" : made.error().detail);
    return made ? std::move(*made) : Filter();
}

std::vector<ItemId> selected(const World& world, std::string_view where) {
    std::vector<ItemId> found;
    std::optional<Core::Place> next = 0;
    while (next) {
        next = world.core.select(filter(world.core, where), *next, 7, [&](const ItemView& item) {
            found.push_back(item.id);
            return true;
        });
    }
    return found;
}

std::vector<Group> counted(const World& world, std::string_view where, const std::vector<std::string>& by) {
    Survey survey;
    survey.filter = filter(world.core, where);
    for (const std::string& name : by) survey.by.push_back(*Column::parse(name, world.core.fields()));
    std::vector<Group> groups;
    EXPECT_EQ(world.core.survey(survey, 0, 1'000'000, groups), std::nullopt);
    std::sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.key < b.key; });
    return groups;
}

// Ten items for two domains and two tenants; those for b.test wait for an hour.
class DeskTest : public testing::Test {
protected:
    DeskTest() : world(options(1)) {
        for (int i = 0; i < 10; ++i) {
            Admit admit = world.mail(i % 2 == 0 ? "a.test" : "b.test", i < 5 ? "one" : "two", i == 9 ? 7 : 4);
            admit.size = static_cast<std::uint32_t>(1'000 * (i + 1));
            if (i % 2 == 1) admit.due = world.now + minute * 60;
            admit.arrival = world.now - minute * i * 10;
            admit.last_reply = i == 3 ? "451 4.7.1 Greylisted" : i == 5 ? "451 4.7.1 other words" : "";
            admit.attempts = i == 3 ? 2 : 0;
            ids.push_back(admit.id);
            world.tell(admit);
        }
    }
    std::vector<ItemId> of(std::vector<int> places) {
        std::vector<ItemId> out;
        for (const int place : places) out.push_back(ids[static_cast<std::size_t>(place)]);
        return out;
    }
    World world;
    std::vector<ItemId> ids;
};

TEST_F(DeskTest, FiltersSelectByEverythingTheCoreKnows) {
    EXPECT_EQ(selected(world, "domain=b.test tenant=one"), of({1, 3}));
    EXPECT_EQ(selected(world, "state=scheduled attempts>=1"), of({3}));
    EXPECT_EQ(selected(world, "state=ready"), of({0, 2, 4, 6, 8}));
    EXPECT_EQ(selected(world, "size>9000"), of({9}));
    EXPECT_EQ(selected(world, "priority=7"), of({9}));
    EXPECT_EQ(selected(world, "age>=80m"), of({8, 9}));
    EXPECT_EQ(selected(world, "next>59m domain=*"), of({1, 3, 5, 7, 9}));
    EXPECT_EQ(selected(world, "reply~greylist"), of({3}));
    EXPECT_EQ(selected(world, "replycode=\"451 4.7.1\""), of({3, 5}));
    EXPECT_EQ(selected(world, "id=" + ids[4].text()), of({4}));
    EXPECT_EQ(selected(world, "id=" + ids[4].message.text()), of({4}));
    EXPECT_EQ(selected(world, "attempt=3"), of({3}));
    EXPECT_THAT(selected(world, "job=x"), IsEmpty());
    EXPECT_THAT(selected(world, "job=\"\""), SizeIs(10));
}

TEST_F(DeskTest, FieldsOfCandidatesAreThoseOfTheRoute) {
    EXPECT_THAT(selected(world, "remotemx=*"), IsEmpty());
    world.resolve("a.test", {{"x", 0}, {"y", 1}});
    EXPECT_EQ(selected(world, "remotemx=mx.y"), of({2, 4, 6, 8}));  // 0 is being sent to the first one
    EXPECT_EQ(selected(world, "remotemx=mx.x"), of({0, 2, 4, 6, 8}));
    EXPECT_EQ(selected(world, "remotemx!=mx.x"), of({1, 3, 5, 7, 9}));
    const std::vector<Group> groups = counted(world, "", {"remotemx"});
    ASSERT_THAT(groups, SizeIs(2));
    EXPECT_EQ(groups[1].key, std::vector<std::string>{"mx.x"});
    EXPECT_EQ(groups[1].items, 5U);
}

TEST_F(DeskTest, GroupsAddUpAndSayHowToFindTheirItems) {
    const std::vector<Group> groups = counted(world, "", {"domain", "tenant"});
    ASSERT_THAT(groups, SizeIs(4));
    EXPECT_THAT(groups[0].key, ElementsAre("a.test", "one"));
    EXPECT_EQ(groups[0].items, 3U);
    EXPECT_EQ(groups[0].octets, 1'000U + 3'000 + 5'000);
    EXPECT_EQ(groups[0].states[static_cast<unsigned>(ItemState::ready)], 3U);
    EXPECT_EQ(groups[0].oldest, world.now - minute * 40);
    for (const char* by : {"domain", "tenant", "state", "age", "next", "size", "attempts", "priority", "recipients", "reply", "replycode"}) {
        std::uint64_t sum = 0;
        for (const Group& group : counted(world, "", {by})) {
            sum += group.items;
            EXPECT_EQ(selected(world, group.where[0]).size(), group.items) << group.where[0];
        }
        EXPECT_EQ(sum, 10U) << by;
    }
    EXPECT_THAT(counted(world, "tenant=nobody", {"domain"}), IsEmpty());
}

TEST_F(DeskTest, TheShapeCountsAgesAndNextTries) {
    world.tell(Hold{{ids[0], ""}});
    const std::vector<Group> groups = counted(world, "", {});
    ASSERT_THAT(groups, SizeIs(1));
    std::uint64_t ages = 0, nexts = 0;
    for (std::size_t i = 0; i < groups[0].ages.size(); ++i) {
        EXPECT_EQ(selected(world, age_where(i)).size(), groups[0].ages[i]) << age_where(i);
        ages += groups[0].ages[i];
    }
    for (std::size_t i = 0; i < groups[0].nexts.size(); ++i) {
        EXPECT_EQ(selected(world, next_where(i)).size(), groups[0].nexts[i]) << next_where(i);
        nexts += groups[0].nexts[i];
    }
    EXPECT_EQ(ages, 10U);
    EXPECT_EQ(nexts, 9U);
}

TEST_F(DeskTest, StretchesSeeEveryItemOnce) {
    Survey survey;
    Group all;
    std::optional<Core::Place> next = 0;
    int stretches = 0;
    while (next) {
        std::vector<Group> some;
        next = world.core.survey(survey, *next, 3, some);
        for (const Group& group : some) all.add(group);
        ++stretches;
    }
    EXPECT_EQ(all.items, 10U);
    EXPECT_EQ(stretches, 4);
    std::vector<Group> named;
    world.core.survey(survey, {ids[1], ids[2], ItemId{MessageId{999}, 0}}, named);
    ASSERT_THAT(named, SizeIs(1));
    EXPECT_EQ(named[0].items, 2U);
}

// Or a question by a column that differs in every item keeps the core for as long as a million texts take.
TEST(Desk, AStretchWithManyGroupsEndsEarly) {
    constexpr std::uint64_t all = 10'000;
    Core core{options(1)};
    std::vector<Action> actions;
    const Instant now = instant_from_ms(1'795'000'000'000);
    for (std::uint64_t i = 0; i < all; ++i) {
        Admit admit;
        admit.id = ItemId{MessageId{i + 1}, 0};
        admit.domain = "d" + std::to_string(i) + ".test";
        admit.arrival = now;
        admit.due = now + minute;
        core.handle(std::move(admit), now, actions);
    }
    Survey survey;
    survey.by.push_back(*Column::parse("domain", core.fields()));
    std::uint64_t items = 0;
    std::size_t most = 0;
    for (std::optional<Core::Place> next = 0; next;) {
        std::vector<Group> some;
        next = core.survey(survey, *next, 1'000'000, some);
        most = std::max(most, some.size());
        for (const Group& group : some) items += group.items;
    }
    EXPECT_EQ(items, all);
    EXPECT_LE(most, 5'000U);
}

TEST_F(DeskTest, TheReplyOfADeferralIsKept) {
    world.resolve("a.test");
    const Deliver deliver = world.take_delivery();
    world.opened(deliver);
    AttemptEnded ended = world.ending(deliver, Verdict::deferred, true);
    ended.next = world.now + minute;
    ended.reply = "452 4.2.2 mailbox full";
    world.tell(ended);
    EXPECT_EQ(world.core.find(deliver.work.item)->reply, "452 4.2.2 mailbox full");
    EXPECT_EQ(selected(world, "replycode=\"452 4.2.2\""), std::vector<ItemId>{deliver.work.item});
}

TEST(Replies, ManyDifferentOnesLeaveTheirCodes) {
    Replies replies;
    for (Index i = 0; i < Replies::different_max + 1'000; ++i) replies.set(i, "451 4.7.1 try later, id " + std::to_string(i));
    EXPECT_EQ(replies.text(Index{7}), "451 4.7.1 try later, id 7");
    EXPECT_EQ(replies.text(Index{Replies::different_max + 7}), "451 4.7.1");
    EXPECT_LE(replies.different(), Replies::different_max + 1);
    for (Index i = 0; i < Replies::different_max; ++i) replies.drop(i);
    EXPECT_EQ(replies.different(), 1U);
    replies.set(0, std::string(5'000, 'x'));
    EXPECT_EQ(replies.text(Index{0}).size(), Replies::octets_max);
}

// ---- bounces and changes ---------------------------------------------------------------------------------------

TEST_F(DeskTest, BouncingConcludesWhateverWaits) {
    world.tell(Hold{{ids[2], ""}});
    world.take<HoldChanged>();
    for (const int place : {1, 2, 4}) world.tell(Bounce{{ids[static_cast<std::size_t>(place)], ""}, "not wanted"});
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(3));
    for (const Conclude& one : concluded) {
        EXPECT_TRUE(one.rejected);
        EXPECT_EQ(one.error.detail, "not wanted");
        AttemptEnded ended;
        ended.item = one.work.item;
        world.tell(ended);
    }
    EXPECT_EQ(world.core.stats().items, 7U);
}

TEST_F(DeskTest, BouncingWaitsForTheEndOfAnAttempt) {
    world.resolve("a.test");
    const Deliver first = world.take_delivery();
    world.opened(first);
    world.tell(Bounce{{first.work.item, ""}, "not wanted"});
    EXPECT_THAT(world.take<Conclude>(), IsEmpty());
    world.defer(first, minute);
    const std::vector<Conclude> concluded = world.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(1));
    EXPECT_EQ(concluded[0].work.item, first.work.item);
    // One that is delivered meanwhile is delivered.
    const Deliver second = world.take_delivery();
    world.tell(Bounce{{second.work.item, ""}, "not wanted"});
    world.done(second);
    EXPECT_THAT(world.take<Conclude>(), IsEmpty());
    EXPECT_EQ(world.core.find(second.work.item), std::nullopt);
}

TEST_F(DeskTest, ChangesMoveAnItemToItsNewLane) {
    world.resolve("a.test");
    const Deliver running = world.take_delivery();
    world.opened(running);
    ItemChanges changes;
    changes.tenant = "three";
    changes.job = "j";
    changes.transport = "bulk";
    changes.priority = 7;
    world.tell(ChangeItems{{ids[8], ""}, changes});
    const std::vector<HoldChanged> said = world.take<HoldChanged>();
    ASSERT_THAT(said, SizeIs(1));
    EXPECT_FALSE(said[0].held);
    EXPECT_EQ(ItemChanges::parse(said[0].changes), changes);
    EXPECT_EQ(world.core.find(ids[8])->tenant, "three");
    EXPECT_EQ(selected(world, "tenant=three priority=7 job=j transport=bulk"), of({8}));
    // What was said before stays said.
    ItemChanges again;
    again.tenant = "";
    world.tell(ChangeItems{{ids[8], ""}, again});
    changes.tenant = "";
    EXPECT_EQ(ItemChanges::parse(world.take<HoldChanged>()[0].changes), changes);
    world.tell(Hold{{ids[8], ""}});
    const std::vector<HoldChanged> held = world.take<HoldChanged>();
    EXPECT_TRUE(held[0].held);
    EXPECT_EQ(ItemChanges::parse(held[0].changes), changes);
    // The one under way, too, once it is back.
    world.tell(ChangeItems{{running.work.item, ""}, again});
    world.defer(running, minute);
    EXPECT_EQ(world.core.find(running.work.item)->tenant, "");
}

TEST_F(DeskTest, ChangesComeBackFromTheJournal) {
    ItemChanges changes;
    changes.tenant = std::string("a b\0:7", 6);
    changes.priority = 3;
    EXPECT_EQ(ItemChanges::parse(changes.format()), changes);
    for (const char* broken : {"", "t", "t9:x", "t99999999999999999999:x", "tx:", "p3:999", "z1:q"}) {
        EXPECT_FALSE(ItemChanges::parse(broken).any()) << broken;
    }
    Admit admit = world.mail("a.test", "one");
    admit.changes = changes.format();
    world.tell(admit);
    EXPECT_EQ(world.core.find(admit.id)->tenant, *changes.tenant);
    EXPECT_EQ(world.core.find(admit.id)->priority, 3);
}

// An item that is given up while an attempt is under way, of which nobody hears the end: the engine dies.
class GivenUp : public testing::Test {
protected:
    GivenUp() : world(options(50)), next(options(50)) {
        world.admit("a.test");
        world.resolve("a.test");
        attempt = world.take_delivery();
        world.opened(attempt);
    }
    HoldChanged said() {
        const std::vector<HoldChanged> all = world.take<HoldChanged>();
        EXPECT_THAT(all, SizeIs(1));
        return all.empty() ? HoldChanged{} : all.front();
    }
    // The next engine finds the item with what was said last.
    ItemId recover(const HoldChanged& standing, bool held) {
        Admit admit = next.mail("a.test");
        admit.held = held;
        admit.changes = standing.changes;
        next.tell(admit);
        return admit.id;
    }

    World world, next;
    Deliver attempt;
};

TEST_F(GivenUp, ARemovalOutlivesTheEngine) {
    const Selection which{attempt.work.item, ""};
    world.tell(Remove{which});
    const HoldChanged first = said();
    EXPECT_FALSE(first.held || first.released);
    world.tell(Remove{which});
    world.tell(Release{which});
    EXPECT_THAT(world.take<HoldChanged>(), IsEmpty()) << "that was said";
    ItemChanges changes;
    changes.tenant = "other";
    world.tell(ChangeItems{which, changes});
    world.take<HoldChanged>();
    world.tell(Hold{which});
    world.take<HoldChanged>();
    world.tell(Release{which});
    const HoldChanged last = said();
    EXPECT_TRUE(last.released);
    EXPECT_EQ(ItemChanges::parse(last.changes), changes);
    for (const bool held : {false, true}) {
        const ItemId item = recover(last, held);
        const std::vector<Removed> removed = next.take<Removed>();
        ASSERT_THAT(removed, SizeIs(1));
        EXPECT_EQ(removed[0].item, item);
        EXPECT_EQ(next.core.stats().items, 0U);
    }
    EXPECT_THAT(next.actions, IsEmpty()) << "nothing was attempted";
    // Where the engine lives on, the end of the attempt removes it.
    world.defer(attempt, minute);
    EXPECT_THAT(world.take<Removed>(), SizeIs(1));
}

TEST_F(GivenUp, ABounceOutlivesTheEngine) {
    const Selection which{attempt.work.item, ""};
    world.tell(Hold{which});
    EXPECT_TRUE(said().held);
    world.tell(Bounce{which, "not: wanted"});
    const HoldChanged last = said();
    EXPECT_FALSE(last.held);
    const ItemId item = recover(last, false);
    std::vector<Conclude> concluded = next.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(1));
    EXPECT_EQ(concluded[0].work.item, item);
    EXPECT_TRUE(concluded[0].rejected);
    EXPECT_EQ(concluded[0].error.detail, "not: wanted");
    // What is held, because it ends engines say, is not touched before somebody releases it.
    const ItemId suspect = recover(last, true);
    EXPECT_EQ(next.core.find(suspect)->state, ItemState::held);
    EXPECT_THAT(next.take<Conclude>(), IsEmpty());
    next.tell(Release{{suspect, ""}});
    concluded = next.take<Conclude>();
    ASSERT_THAT(concluded, SizeIs(1));
    EXPECT_EQ(concluded[0].error.detail, "not: wanted");
    EXPECT_THAT(next.take<Resolve>(), IsEmpty()) << "nothing was attempted";
}

TEST(Reroute, ItemsWaitForTheirOwnRoute) {
    World world(options(50));
    std::vector<ItemId> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(world.admit("a.test"));
    world.take<Resolve>();
    ItemChanges changes;
    changes.next_hop = "relay.test:26";
    for (const std::size_t place : {1U, 2U}) world.tell(ChangeItems{{ids[place], ""}, changes});
    const std::vector<Resolve> asked = world.take<Resolve>();
    ASSERT_THAT(asked, SizeIs(1));
    EXPECT_EQ(asked[0].key, "a.test");
    EXPECT_EQ(asked[0].via, "relay.test:26");
    EXPECT_EQ(selected(world, "via=relay.test:26"), (std::vector<ItemId>{ids[1], ids[2]}));
    EXPECT_EQ(selected(world, "domain=a.test via=\"\""), (std::vector<ItemId>{ids[0], ids[3]}));

    world.resolve("a.test");
    const std::vector<Deliver> direct = world.take<Deliver>();
    ASSERT_THAT(direct, SizeIs(2));
    world.tell(RouteResolved{"a.test", world.route("a.test", {{"relay", 0}}), "relay.test:26"});
    const std::vector<Deliver> rerouted = world.take<Deliver>();
    ASSERT_THAT(rerouted, SizeIs(2));
    EXPECT_EQ(rerouted[0].route->candidates[0].remote, "relay:25");
    EXPECT_EQ(rerouted[0].work.item, ids[1]);

    // The one under way ends where it began, and goes the new way next.
    world.tell(ChangeItems{{ids[0], ""}, changes});
    world.opened(direct[0]);
    world.defer(direct[0], minute, false);
    EXPECT_EQ(world.core.find(ids[0])->via, "relay.test:26");
    changes.next_hop = "";
    world.tell(ChangeItems{{ids[0], ""}, changes});
    EXPECT_EQ(selected(world, "via=relay.test:26"), (std::vector<ItemId>{ids[1], ids[2]}));
    EXPECT_EQ(world.core.find(ids[0])->domain, "a.test");
}

// ---- buckets and explanations ----------------------------------------------------------------------------------

std::vector<BucketView> buckets(const World& world) {
    std::vector<BucketView> found;
    std::optional<Core::Place> next = 0;
    while (next) {
        next = world.core.each_bucket_from(*next, 2, [&](const BucketView& bucket) {
            found.push_back(bucket);
            return true;
        });
    }
    return found;
}

constexpr const char* big = R"(
policies:
- name: big
  fields:
  - remotemx: { big: ['*.big.test'] }
  - localip
  conditions:
  - if: { remotemx: '#big' }
    then: { concurrency: 1, rate: 2/60 }
  default: { concurrency: 5 }
)";

World limited() {
    Options made = options(50);
    made.policies = policies(big);
    return World(made);
}

TEST(Buckets, SayWhatTheyCountAndWhatIsLeft) {
    World world = limited();
    for (int i = 0; i < 3; ++i) world.admit("a.test");
    world.resolve("a.test", {{"one.big.test", 0}});
    const std::vector<BucketView> found = buckets(world);
    ASSERT_THAT(found, SizeIs(3));
    const auto row = std::find_if(found.begin(), found.end(), [](const BucketView& b) { return b.policy == "big"; });
    ASSERT_NE(row, found.end());
    EXPECT_EQ(row->name(), "big[localip=, remotemx=#big]");
    EXPECT_EQ(row->used, 1U);
    EXPECT_EQ(row->limits.concurrency, 1U);
    EXPECT_EQ(row->limits_from, "policy.yaml line 8");
    EXPECT_EQ(row->waiting_lanes, 1U);
    EXPECT_EQ(row->refusal, Refusal::slots);
    for (const BucketView& bucket : found) {
        const Result<BucketView> again = world.core.bucket(bucket.name());
        ASSERT_TRUE(again) << bucket.name() << again.error().detail;
        EXPECT_EQ(again->used, bucket.used);
    }
}

TEST(Buckets, NamesThatAreNoneAreRefused) {
    World world = limited();
    const struct {
        const char* name;
        const char* sentence;
    } rows[] = {
        {"big", "a name like"},
        {"bog[localip=, remotemx=x]", "(did you mean `big`?)"},
        {"big[remotemx=x]", "`localip=...` is expected"},
        {"big[localip=, remotemx=#small]", "no group"},
        {"concurrency_max[x]", "too much"},
        {"big[localip=, remotemx=x]", "nothing counts"},
        {"[]", "no policy"},
    };
    for (const auto& row : rows) {
        const Result<BucketView> view = world.core.bucket(row.name);
        ASSERT_FALSE(view) << row.name;
        EXPECT_THAT(view.error().detail, HasSubstr(row.sentence));
    }
}

TEST(Explain, NamesThePolicyThatBlocks) {
    World world = limited();
    std::vector<ItemId> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(world.admit("a.test"));
    const auto unrouted = world.core.explain(ids[3]);
    ASSERT_TRUE(unrouted);
    EXPECT_FALSE(unrouted->route_known);
    EXPECT_TRUE(unrouted->route_asked);
    world.resolve("a.test", {{"one.big.test", 0}, {"two.other.test", 1}});
    const Deliver deliver = world.take_delivery();
    world.opened(deliver);

    const auto blocked = world.core.explain(ids[3]);
    ASSERT_TRUE(blocked);
    EXPECT_EQ(blocked->ahead, 2U);
    ASSERT_THAT(blocked->candidates, SizeIs(2));
    const CandidateView& first = blocked->candidates[0];
    EXPECT_TRUE(first.in_turn);
    EXPECT_FALSE(blocked->candidates[1].in_turn);
    ASSERT_TRUE(first.blocking);
    EXPECT_EQ(first.buckets[*first.blocking].policy, "big");
    EXPECT_EQ(first.buckets[*first.blocking].refusal, Refusal::slots);
    EXPECT_EQ(blocked->earliest, std::nullopt);

    const auto sending = world.core.explain(ids[0]);
    EXPECT_EQ(sending->on, "one.big.test:25");

    // Now the rate: the second start is due half a minute after the first.
    world.done(deliver);
    EXPECT_THAT(world.take<Deliver>(), IsEmpty());
    for (const Close& close : world.take<Close>()) world.closed(close.session);
    const auto slow = world.core.explain(ids[3]);
    ASSERT_TRUE(slow);
    ASSERT_TRUE(slow->candidates[0].blocking);
    EXPECT_EQ(slow->candidates[0].buckets[*slow->candidates[0].blocking].refusal, Refusal::rate);
    ASSERT_TRUE(slow->earliest);
    EXPECT_GT(*slow->earliest, world.now);
    // It says the truth: not before that, and then.
    const Instant earliest = *slow->earliest;
    world.now = earliest - Duration(1);
    world.tell(Tick{});
    EXPECT_THAT(world.take<Deliver>(), IsEmpty());
    world.now = earliest;
    world.tell(Tick{});
    EXPECT_THAT(world.take<Deliver>(), SizeIs(1));
}

TEST(Explain, NamesSuspensionsAndConditionsOfRunTime) {
    World world = limited();
    Problems problems;
    const policy::PolicySetPtr set = policies(big);
    auto suspension = policy::parse_suspension("{id: s7, recipientdomain: a.test, author: ops, reason: complaints}", "x", *set, problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    ASSERT_TRUE(suspension);
    world.tell(SetSuspension{*suspension});
    const ItemId item = world.admit("a.test");
    world.resolve("a.test", {{"one.big.test", 0}});
    EXPECT_THAT(world.take<Deliver>(), IsEmpty());
    const auto halted = world.core.explain(item);
    ASSERT_TRUE(halted && halted->candidates.size() == 1 && halted->candidates[0].halt);
    EXPECT_EQ(halted->candidates[0].halt->id, "s7");
    EXPECT_EQ(halted->candidates[0].halt->from, "set of ops: complaints");
    EXPECT_EQ(halted->earliest, std::nullopt);
    EXPECT_THAT(world.core.explain("a.test")->lanes[0].waits_at, ElementsAre("the suspension s7"));
    world.tell(RemoveSuspension{"s7", "ops", ""});
    world.pass(second);
    EXPECT_EQ(world.core.explain(item)->candidates[0].halt, std::nullopt);

    auto condition = policy::parse_condition(
        "{id: c1, policy: big, if: {remotemx: '#big'}, then: {concurrency: 3}, author: ops}", "x", *set, problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    ASSERT_TRUE(condition);
    world.tell(SetCondition{*condition});
    const Result<BucketView> bucket = world.core.bucket("big[localip=, remotemx=#big]");
    ASSERT_TRUE(bucket);
    EXPECT_EQ(bucket->limits.concurrency, 3U);
    EXPECT_EQ(bucket->limits_from, "condition c1 (ordinary) of ops");
}

TEST(Explain, ADomainShowsItsLanes) {
    World world = limited();
    for (const char* tenant : {"x", "x", "y"}) world.admit("a.test", tenant);
    world.resolve("a.test", {{"one.big.test", 0}});
    const auto domain = world.core.explain("a.test");
    ASSERT_TRUE(domain);
    EXPECT_EQ(domain->sessions, 1U);
    ASSERT_THAT(domain->lanes, SizeIs(2));
    EXPECT_THAT(domain->lanes[0].waits_at, ElementsAre("big[localip=, remotemx=#big]"));
    EXPECT_EQ(domain->lanes[0].length + domain->lanes[1].length, 2U);
    EXPECT_EQ(world.core.explain("nobody.test"), std::nullopt);
    EXPECT_EQ(world.core.explain(ItemId{MessageId{77}, 0}), std::nullopt);
}

TEST(Explain, HeldAndScheduledItemsSayWhatWouldCome) {
    World world = limited();
    Admit admit = world.mail("a.test");
    admit.due = world.now + minute;
    world.tell(admit);
    EXPECT_EQ(world.core.explain(admit.id)->earliest, admit.due);
    world.tell(Hold{{admit.id, ""}});
    EXPECT_EQ(world.core.explain(admit.id)->earliest, std::nullopt);
}

}  // namespace
}  // namespace sluice::queue
