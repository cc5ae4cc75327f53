#include "queue/item.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace sluice::queue {
namespace {

TEST(ItemState, MovesAreThoseOfTheTable) {
    using enum ItemState;
    const struct {
        ItemState from;
        std::vector<ItemState> to;
    } rows[] = {
        {scheduled, {ready, sending, held}},
        {ready, {sending, held}},
        {sending, {scheduled, ready, held}},
        {held, {scheduled, ready, sending}},
    };
    for (const auto& row : rows) {
        for (const ItemState to : {scheduled, ready, sending, held}) {
            const bool legal = std::find(row.to.begin(), row.to.end(), to) != row.to.end();
            EXPECT_EQ(may_become(row.from, to), legal) << static_cast<int>(row.from) << " to " << static_cast<int>(to);
        }
    }
}

TEST(ItemStateDeathTest, AnIllegalMoveIsABug) {
    Item item;
    EXPECT_DEATH(item.become(ItemState::scheduled), "may_become");
}

}  // namespace
}  // namespace sluice::queue
