#include "queue/core_test_world.h"

// Plugins are asked before each attempt: whether it may begin, and over which route.

namespace sluice::queue {
namespace {

Options consulting() {
    Options options;
    options.consult = true;
    return options;
}

AttemptEnded answered(ItemId item, Verdict verdict) {
    AttemptEnded ended;
    ended.item = item;
    ended.verdict = verdict;
    return ended;
}

TEST(Consult, NobodyIsAskedUnlessPluginsWant) {
    World world;
    world.admit("one.test");
    EXPECT_EQ(world.take<Consult>().size(), 0U);
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
}

TEST(Consult, TheDomainsRouteServesWhenPluginsHaveNone) {
    World world(consulting());
    const ItemId item = world.admit("one.test");
    ASSERT_EQ(world.take<Consult>().size(), 1U);
    EXPECT_EQ(world.take<Resolve>().size(), 0U);

    world.tell(Consulted{item, nullptr});
    ASSERT_EQ(world.take<Resolve>().size(), 1U);
    world.resolve("one.test");
    const auto started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 1U);
    EXPECT_EQ(started[0].work.item, item);
}

TEST(Consult, ARouteOfPluginsIsForThatAttemptOnly) {
    World world(consulting());
    const ItemId item = world.admit("one.test");
    world.take<Consult>();
    world.tell(Consulted{item, world.route("of plugin", {{"b", 0}})});
    EXPECT_EQ(world.take<Resolve>().size(), 0U);
    const auto started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 1U);
    EXPECT_EQ(started[0].route->key, "of plugin");

    AttemptEnded ended = answered(item, Verdict::deferred);
    ended.session = started[0].session;
    ended.next = world.now + minute;
    world.tell(ended);
    world.pass(minute);
    EXPECT_EQ(world.take<Consult>().size(), 1U);
    world.tell(Consulted{item, nullptr});
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
}

TEST(Consult, RecipientsThatPluginsRemovedAreNotAttempted) {
    World world(consulting());
    const ItemId item = world.admit("one.test");
    world.take<Consult>();
    world.tell(Consulted{item, world.route("of plugin", {{"b", 0}}), {2, 5}});
    const auto started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 1U);
    EXPECT_EQ(started[0].work.pending, (std::vector<std::uint32_t>{2, 5}));
}

TEST(Consult, TheNextCandidateIsNoNewAttempt) {
    World world(consulting());
    const ItemId item = world.admit("one.test");
    world.take<Consult>();
    world.tell(Consulted{item, world.route("of plugin", {{"a", 0}, {"b", 1}})});
    auto started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 1U);
    AttemptEnded ended = answered(item, Verdict::next_candidate);
    ended.session = started[0].session;
    world.tell(ended);
    EXPECT_EQ(world.take<Consult>().size(), 0U);
    started = world.take<Deliver>();
    ASSERT_EQ(started.size(), 1U);
    EXPECT_EQ(started[0].candidates, std::vector<std::uint32_t>{1});
}

TEST(Consult, APostponedItemHasNotFailed) {
    World world(consulting());
    const ItemId item = world.admit("one.test");
    world.take<Consult>();
    AttemptEnded later = answered(item, Verdict::deferred);
    later.next = world.now + minute;
    later.counts = false;
    world.tell(later);
    EXPECT_EQ(world.core.find(item)->state, ItemState::scheduled);
    world.pass(minute);
    const auto asked = world.take<Consult>();
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].work.attempts, 0);
}

TEST(Consult, ABoundedNumberIsAskedAboutAndTheLineMovesOn) {
    Options options = consulting();
    options.consulted_max = 2;
    World world(options);
    std::vector<ItemId> items;
    for (int i = 0; i < 5; ++i) items.push_back(world.admit("one.test"));
    EXPECT_EQ(world.take<Consult>().size(), 2U);
    world.tell(answered(items[0], Verdict::done));
    EXPECT_EQ(world.take<Consult>().size(), 1U);
    world.tell(Consulted{items[1], nullptr});
    EXPECT_EQ(world.take<Consult>().size(), 1U);
    EXPECT_EQ(world.core.stats().items, 4U);
}

TEST(Consult, HeldOrRemovedMeanwhile) {
    World world(consulting());
    const ItemId held = world.admit("one.test");
    const ItemId removed = world.admit("one.test");
    ASSERT_EQ(world.take<Consult>().size(), 2U);
    world.tell(Hold{Selection{held, {}}});
    world.tell(Remove{Selection{removed, {}}});
    EXPECT_EQ(world.take<Removed>().size(), 0U);

    world.tell(Consulted{held, world.route("of plugin", {{"b", 0}})});
    world.tell(Consulted{removed, nullptr});
    EXPECT_EQ(world.core.find(held)->state, ItemState::held);
    EXPECT_EQ(world.take<Removed>().size(), 1U);
    EXPECT_FALSE(world.core.find(removed));

    world.tell(Release{Selection{held, {}}});
    EXPECT_EQ(world.take<Consult>().size(), 1U);
}

TEST(Consult, WhoWaitsInTheLineCanBeHeldAndRemoved) {
    Options options = consulting();
    options.consulted_max = 1;
    World world(options);
    world.admit("one.test");
    const ItemId held = world.admit("one.test");
    const ItemId removed = world.admit("two.test");
    world.tell(Hold{Selection{held, {}}});
    world.tell(Remove{Selection{removed, {}}});
    EXPECT_EQ(world.core.find(held)->state, ItemState::held);
    EXPECT_FALSE(world.core.find(removed));
}

TEST(Consult, PluginsThatDoNotCareAnyMoreFreeTheLine) {
    Options options = consulting();
    options.consulted_max = 1;
    World world(options);
    const ItemId asked = world.admit("one.test");
    world.admit("two.test");
    world.tell(Consulting{false});
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
    world.tell(Consulted{asked, nullptr});
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
    world.admit("three.test");
    EXPECT_EQ(world.take<Resolve>().size(), 1U);
}

TEST(Consult, NothingIsAskedWhileDeliveringIsOff) {
    Options options = consulting();
    options.disabled = true;
    World world(options);
    world.admit("one.test");
    EXPECT_EQ(world.take<Consult>().size(), 0U);
    options.disabled = false;
    world.tell(Configure{options});
    EXPECT_EQ(world.take<Consult>().size(), 1U);
}

}  // namespace
}  // namespace sluice::queue
