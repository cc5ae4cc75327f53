#include "queue/waiters.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace sluice::queue {
namespace {

constexpr NameId one{1};
constexpr NameId two{2};

// Serves a round so often, and tells which lanes had their turn.
std::vector<Index> serve(Waiters& waiters, Waiters::Round& round, int turns) {
    std::vector<Index> lanes;
    for (int i = 0; i < turns; ++i) {
        const Index waiter = waiters.first(round);
        lanes.push_back(waiters[waiter].lane);
        waiters.charge(round, waiter);
    }
    return lanes;
}

TEST(Waiters, LanesOfOneTenantTakeTurns) {
    Waiters waiters;
    Waiters::Round round;
    for (const Index lane : {10U, 11U, 12U}) waiters.enter(round, 0, lane, one, 1, 4);
    EXPECT_EQ(serve(waiters, round, 5), (std::vector<Index>{10, 11, 12, 10, 11}));
}

TEST(Waiters, TenantsTakeTurnsByWeightWhateverTheirPriority) {
    Waiters waiters;
    Waiters::Round round;
    waiters.enter(round, 0, 10, one, 2, 7);
    waiters.enter(round, 0, 20, two, 3, 0);
    EXPECT_EQ(serve(waiters, round, 10), (std::vector<Index>{10, 10, 20, 20, 20, 10, 10, 20, 20, 20}));
}

TEST(Waiters, ALookDoesNotCostATurn) {
    Waiters waiters;
    Waiters::Round round;
    waiters.enter(round, 0, 10, one, 1, 4);
    waiters.enter(round, 0, 20, two, 1, 4);
    EXPECT_EQ(waiters.first(round), waiters.first(round));
}

TEST(Waiters, WhoStartsOutOfTurnPaysWithTheTurnsThatCome) {
    Waiters waiters;
    Waiters::Round round;
    const Index first = waiters.enter(round, 0, 10, one, 2, 4);
    waiters.enter(round, 0, 20, two, 1, 4);
    EXPECT_EQ(serve(waiters, round, 2), (std::vector<Index>{10, 10}));
    for (int i = 0; i < 4; ++i) waiters.charge(round, first);
    EXPECT_EQ(serve(waiters, round, 5), (std::vector<Index>{20, 20, 20, 10, 10})) << "two turns of two are paid";
}

TEST(Waiters, ADebtIsPaidInOneStepWhenNobodyElseWaits) {
    Waiters waiters;
    Waiters::Round round;
    const Index first = waiters.enter(round, 0, 10, one, 1, 4);
    const Index second = waiters.enter(round, 0, 20, two, 3, 4);
    serve(waiters, round, 1);
    for (int i = 0; i < 1'500'000; ++i) waiters.charge(round, first);
    waiters.leave(round, second);
    EXPECT_EQ(serve(waiters, round, 3), (std::vector<Index>{10, 10, 10}));
    waiters.enter(round, 0, 30, two, 3, 4);
    EXPECT_EQ(serve(waiters, round, 4), (std::vector<Index>{10, 30, 30, 30}));
}

TEST(Waiters, EveryPriorityIsServedInBoundedTime) {
    Waiters waiters;
    Waiters::Round round;
    for (std::uint8_t priority = 0; priority < priorities; ++priority) waiters.enter(round, 0, priority, one, 1, priority);
    std::map<Index, int> served;
    for (const Index lane : serve(waiters, round, 1'000)) ++served[lane];
    for (Index lane = 0; lane < priorities; ++lane) EXPECT_GE(served[lane], 1'000 / (Waiters::patience + 8)) << lane;
    EXPECT_GT(served[7], 500);
}

TEST(Waiters, WhoLeavesIsForgottenAndTheRoundGoesOn) {
    Waiters waiters;
    Waiters::Round round;
    Waiters::Round other;
    const Index first = waiters.enter(round, 0, 10, one, 1, 4);
    const Index second = waiters.enter(round, 0, 20, two, 1, 4);
    waiters.enter(other, 1, 30, one, 1, 4);
    waiters.leave(round, first);
    EXPECT_EQ(serve(waiters, round, 2), (std::vector<Index>{20, 20}));
    waiters.leave(round, second);
    EXPECT_EQ(round.count, 0U);
    EXPECT_EQ(round.line, none);
    EXPECT_EQ(waiters.recount(other), 1U);
    EXPECT_EQ(waiters.size(), 1U);
}

}  // namespace
}  // namespace sluice::queue
