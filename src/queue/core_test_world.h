#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "queue/core.h"

namespace sluice::queue {

using Verdict = AttemptEnded::Verdict;

inline constexpr Duration second{1'000};
inline constexpr Duration minute{60'000};

// A core with its surroundings: moves time by hand, keeps what the core asked for.
class World {
public:
    explicit World(const Options& options = {}) : core(options) {}

    void tell(Event event) {
        core.handle(std::move(event), now, actions);
        core.audit();
    }
    void pass(Duration time) {
        now += time;
        tell(Tick{});
    }
    Admit mail(std::string domain, std::string tenant = {}, std::uint8_t priority = 4) {
        Admit admit;
        admit.id = ItemId{MessageId{++last}, 0};
        admit.domain = std::move(domain);
        admit.tenant = std::move(tenant);
        admit.arrival = admit.due = now;
        admit.size = 1'000;
        admit.priority = priority;
        return admit;
    }
    ItemId admit(std::string domain, std::string tenant = {}, std::uint8_t priority = 4) {
        const Admit event = mail(std::move(domain), std::move(tenant), priority);
        tell(event);
        return event.id;
    }
    // Hosts with their levels; the remote is the host's name.
    RoutePtr route(std::string key, std::vector<std::pair<std::string, std::uint32_t>> hosts) {
        auto made = std::make_shared<Route>();
        made->key = std::move(key);
        for (auto& [host, level] : hosts) made->candidates.push_back({"mx." + host, host + ":25", level});
        made->expires = now + Duration(3'600'000);
        return made;
    }
    void resolve(std::string key, std::vector<std::pair<std::string, std::uint32_t>> hosts = {{"a", 0}}) {
        RoutePtr made = route(key, std::move(hosts));
        tell(RouteResolved{std::move(key), std::move(made)});
    }
    template <class Kind>
    std::vector<Kind> take() {
        std::vector<Kind> found;
        std::vector<Action> rest;
        for (Action& action : actions) {
            if (auto* const kind = std::get_if<Kind>(&action)) {
                found.push_back(std::move(*kind));
            } else {
                rest.push_back(std::move(action));
            }
        }
        actions = std::move(rest);
        return found;
    }
    Deliver take_delivery() {
        std::vector<Deliver> found = take<Deliver>();
        EXPECT_EQ(found.size(), 1U);
        return found.empty() ? Deliver{} : std::move(found.front());
    }
    void opened(const Deliver& deliver, std::uint32_t candidate = 0) { tell(SessionOpened{deliver.session, candidate}); }
    AttemptEnded ending(const Deliver& deliver, Verdict verdict, bool reusable) {
        AttemptEnded ended;
        ended.item = deliver.work.item;
        ended.session = deliver.session;
        ended.verdict = verdict;
        ended.reusable = reusable;
        return ended;
    }
    void done(const Deliver& deliver, bool reusable = true) { tell(ending(deliver, Verdict::done, reusable)); }
    void defer(const Deliver& deliver, Duration by, bool reusable = true) {
        AttemptEnded ended = ending(deliver, Verdict::deferred, reusable);
        ended.next = now + by;
        tell(ended);
    }
    void closed(SessionId session) { tell(SessionClosed{session}); }

    Core core;
    Instant now = instant_from_ms(1'795'000'000'000);
    std::vector<Action> actions;
    std::uint64_t last = 0;
};

inline policy::PolicySetPtr policies(std::string_view yaml) {
    Problems problems;
    policy::PolicySetPtr set = policy::parse_policies(yaml, "policy.yaml", problems);
    for (const Problem& problem : problems.all()) ADD_FAILURE() << problem.text();
    return set;
}

inline Options options(std::uint32_t destination, std::uint32_t total = 10'000) {
    Options made;
    made.destination_concurrency = destination;
    made.concurrency_max = total;
    return made;
}

}  // namespace sluice::queue
