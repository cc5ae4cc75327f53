#include "daemon/core_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

namespace sluice::daemon {
namespace {

// An attempt that ends while the engine does may be what removes an item.
TEST(CoreThread, WhatWasToldBeforeTheStopIsDone) {
    const SystemClock clock;
    std::vector<queue::Action> seen;
    CoreThread core(clock, {}, [&seen](std::vector<queue::Action>& actions) {
        for (queue::Action& action : actions) seen.push_back(std::move(action));
    });
    queue::Admit admit;
    admit.id = ItemId{MessageId{1}, 0};
    admit.domain = "a.test";
    admit.held = true;
    core.push(admit);
    core.push(queue::Remove{{admit.id, {}}});
    core.stop();
    core.start();
    core.stop();
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_TRUE(std::holds_alternative<queue::Removed>(seen[0]));
}

}  // namespace
}  // namespace sluice::daemon
