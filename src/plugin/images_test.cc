#include "plugin/images.h"

#include <gtest/gtest.h>

namespace sluice::plugin {
namespace {

const ItemId one{MessageId{1}, 0}, two{MessageId{1}, 1};

std::vector<spool::PolicyRecord> policies(const spool::Batch& batch) {
    std::vector<spool::PolicyRecord> found;
    for (const spool::Record& record : batch) found.push_back(std::get<spool::PolicyRecord>(record));
    return found;
}

TEST(Images, AreRecordedWhenTheyChangedAndErasedWithTheItem) {
    Images images("plugin image ");
    images.set(one, "{}");
    spool::Batch batch;
    images.record(two, false, batch);
    EXPECT_TRUE(batch.empty());
    images.record(one, false, batch);
    images.record(one, false, batch);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(policies(batch)[0].value, "{}");

    batch.clear();
    images.set(one, "{\"a\":1}");
    images.record(one, true, batch);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(policies(batch)[0].value, "");
    EXPECT_EQ(images.get(one), "");
}

TEST(Images, OfItemsThatAreDecidedAtOnceNeverTouchTheDisk) {
    Images images("plugin image ");
    images.set(one, "{}");
    spool::Batch batch;
    images.record(one, true, batch);
    EXPECT_TRUE(batch.empty());
}

TEST(Images, SurviveAndThoseOfForgottenItemsGo) {
    Images before("plugin image ");
    before.set(one, "1");
    before.set(two, "2");
    spool::Batch batch;
    before.record(one, false, batch);
    before.record(two, false, batch);
    std::vector<spool::PolicyRecord> recovered = policies(batch);
    recovered.push_back({"somebody else's", "x"});
    recovered.push_back({"plugin image nonsense", "x"});

    Images after("plugin image ");
    after.recover(recovered);
    EXPECT_EQ(after.get(one), "1");
    batch.clear();
    after.prune([](ItemId item) { return item == one; }, batch);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(policies(batch)[0].key, "plugin image " + two.text());
    EXPECT_EQ(policies(batch)[0].value, "");
    EXPECT_EQ(after.get(two), "");
    batch.clear();
    after.record(one, false, batch);
    EXPECT_TRUE(batch.empty());
}

TEST(Images, NativePluginsNoteBesideOthers) {
    Images images("plugin image ");
    const boost::json::object first{{"a", 1}}, second{{"b", 2}};
    EXPECT_TRUE(images.note(one, R"({"given":true})", first));
    EXPECT_EQ(images.get(one), R"({"notes":{"given":true,"a":1},"live":{"given":true}})");
    EXPECT_EQ(images.take_noted(one), R"({"a":1})");
    EXPECT_EQ(images.take_noted(one), "");
    images.set(one, R"({"notes":{"a":1,"script":3},"live":{},"force_tls":true})");
    EXPECT_TRUE(images.note(one, "", second));
    EXPECT_EQ(images.get(one), R"({"notes":{"a":1,"script":3,"b":2},"live":{},"force_tls":true})");
    EXPECT_EQ(images.take_noted(two), "");

    const boost::json::object huge{{"a", std::string(70'000, 'x')}};
    EXPECT_FALSE(images.note(one, "", huge));
    EXPECT_EQ(images.take_noted(one), R"({"b":2})");

    spool::Batch batch;
    images.record(one, false, batch);
    EXPECT_EQ(batch.size(), 1U);
}

}  // namespace
}  // namespace sluice::plugin
