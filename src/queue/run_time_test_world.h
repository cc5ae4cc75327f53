#pragma once

// What tests of conditions and suspensions at run time share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "queue/core_test_world.h"

namespace sluice::queue {

inline const policy::PolicySet no_policies;

inline policy::Suspension suspension(std::string_view yaml, const policy::PolicySet& set = no_policies) {
    Problems problems;
    std::optional<policy::Suspension> made = policy::parse_suspension(yaml, "test", set, problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    if (made && made->id.empty()) made->id = "s";
    return made.value_or(policy::Suspension{});
}

inline policy::DynamicCondition condition(std::string_view yaml, const policy::PolicySetPtr& set) {
    Problems problems;
    std::optional<policy::DynamicCondition> made = policy::parse_condition(yaml, "test", *set, problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    if (made && made->id.empty()) made->id = "c";
    return made.value_or(policy::DynamicCondition{});
}

inline Options with(const char* yaml, std::uint32_t destination = 50) {
    Options made = options(destination);
    made.policies = policies(yaml);
    return made;
}

inline Options with_file(const char* yaml) {
    Options made;
    Problems problems;
    made.suspensions = policy::parse_suspensions(yaml, "suspend.yaml", no_policies, problems);
    EXPECT_TRUE(problems.all().empty());
    return made;
}

class RunTime : public testing::Test {
protected:
    void start(const Options& options) { world = std::make_unique<World>(options); }
    void mail(int count, const char* domain = "x.test", const char* tenant = "") {
        for (int i = 0; i < count; ++i) world->core.handle(world->mail(domain, tenant), world->now, world->actions);
        world->core.audit();
    }
    void set(policy::Suspension what) { world->tell(SetSuspension{std::move(what)}); }
    void set(policy::DynamicCondition what) { world->tell(SetCondition{std::move(what)}); }
    void lift(const char* id = "s") { world->tell(RemoveSuspension{id, "me", "enough"}); }
    // Everything that was started since.
    std::vector<Deliver> started() { return world->take<Deliver>(); }
    std::size_t count_started() { return started().size(); }
    struct Seen {
        bool of_file = false, in_force = false;
        std::uint64_t lanes = 0;
        std::optional<Instant> expires;
    };
    Seen view(const std::string& id = "s") {
        std::optional<Seen> found;
        world->core.each_suspension([&](const SuspensionView& one) {
            if (one.suspension.id == id) found = Seen{one.of_file, one.in_force, one.lanes, one.suspension.expires};
        });
        EXPECT_TRUE(found) << id;
        return found.value_or(Seen{});
    }

    std::unique_ptr<World> world = std::make_unique<World>();
};

}  // namespace sluice::queue
