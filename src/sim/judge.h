#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "queue/core.h"

namespace sluice::sim {

// What became of an item.
enum class Fate : std::uint8_t { queued, delivered, failed, removed };

// Keeps books of its own and checks every action of the core against them:
//  · every item ends exactly once, and is attempted only when it is queued, due, not held, not to be removed and not being attempted;
//  · an attempt never repeats a candidate, stays within one level, and says truly whether others are left;
//  · what belongs to a transport goes out from its addresses, and nothing is tried after its own time;
//  · a session carries one message at a time, to a remote that is on the item's route;
//  · no bucket of any policy ever has more sessions or starts more messages than it allows, by the file or by a condition of run time;
//  · nothing starts that is suspended;
//  · nothing waits that every policy lets start (see check_idle()).
// The first violation is kept in words. It is also the model of the journal: survivors() is what a crash leaves.
class Judge {
public:
    explicit Judge(const queue::Options& options) : options_(options) { set_policies(); }

    void admitted(const queue::Admit& event);
    // The core knows this route now.
    void routed(const queue::RoutePtr& route) { routes_[route->key] = route; }
    void delivering(const queue::Deliver& action, Instant now);
    void concluding(const queue::Conclude& action);
    void opened(const queue::SessionOpened& event);
    void ended(const queue::AttemptEnded& event, Fate fate, Instant now);
    void closed(queue::SessionId session);
    void removing(const queue::Selection& which);
    void flushing(const queue::Selection& which, Instant now);
    void removed(const queue::Removed& action);
    void hold_changed(const queue::HoldChanged& action);
    void changed(const queue::ConditionChanged& action, Instant now);
    void changed(const queue::SuspensionChanged& action);
    void configured(const queue::Options& options, Instant now);
    void crashed();
    void violate(const std::string& what);
    // After handle() has returned, all that may start has started: looks for mail that is ready, and has a candidate in its turn for which every
    // bucket has room. `resolving`: domains whose route the core does not have. Silent while anything is
    // suspended or limited at run time.
    void check_idle(const std::set<std::string>& resolving, Instant now);

    const std::optional<std::string>& violation() const { return violation_; }
    std::vector<queue::Admit> survivors() const;
    const std::map<std::string, std::shared_ptr<const policy::DynamicCondition>>& conditions() const { return conditions_; }
    const std::map<std::string, std::shared_ptr<const policy::Suspension>>& suspensions() const { return suspensions_; }
    // Nothing is suspended, at run time or by the file.
    bool nothing_suspended() const { return suspensions_.empty() && (options_.suspensions == nullptr || options_.suspensions->suspensions.empty()); }
    std::uint64_t count(Fate fate) const;
    std::uint64_t sessions() const { return sessions_.size(); }
    std::uint64_t sessions(const std::string& domain) const;
    std::vector<ItemId> items() const;
    std::uint64_t cut_short() const { return cut_short_; }
    std::uint64_t passed_over() const { return passed_over_; }
    Duration waited(const std::string& domain) const;

private:
    struct Entry {
        queue::Admit admit;  // with schedule, hold and pending recipients as they are now; without the message
        Fate fate = Fate::queued;
        bool sending = false;
        bool started = false;
        bool remove_asked = false;
        queue::SessionId session = 0;
        queue::RoutePtr route;         // of the attempt under way
        std::set<std::uint32_t> tried;
        std::set<std::uint32_t> perhaps_tried;  // our own address failed: again only if there is another one
        std::optional<std::uint32_t> only;
        bool permanent = true;
    };
    struct Session {
        queue::Admit served;  // the item served last
        std::string bind4, bind6;
        queue::RoutePtr route;
        std::vector<std::uint32_t> group;
        std::optional<std::uint32_t> candidate;
        std::optional<ItemId> item;
        std::uint32_t messages = 0;
        std::vector<std::string> buckets;  // that it counts for
    };
    // A bucket that a session counts for.
    struct Counted {
        std::string bucket, policy;
        policy::Limits limits;
        std::string counts{};
        std::vector<std::pair<policy::Field, std::string>> values{};
        std::vector<std::uint32_t> groups{};  // of the values
    };
    // A fixed window, as it may be.
    struct Window {
        Instant begin;
        std::uint32_t used = 0;
    };
    // What one rate has seen.
    struct Starts {
        std::deque<Instant> times;    // token bucket: within the interval
        double paced_ms = 0;          // token bucket: when the next one is due at an even pace
        std::vector<Window> windows;  // all that are possible: where books begin late, nobody knows when the window began
        std::optional<Window> from_before;  // one that began before the books; `begin` is when the books did
    };
    // Of one bucket.
    struct Past {
        std::vector<Starts> rates;
        std::optional<Instant> opened, owed_until;
        Counted what;
    };

    template <class Visit>
    void each_queued(const queue::Selection& which, Visit visit);
    // By what is in force at both instants.
    bool is_stopped(const Session& session, std::uint32_t candidate, bool opens, Instant now, Instant before) const;
    bool suspends_addresses() const;
    bool may_be_last_resort(const queue::Deliver& action, const Entry& entry, const std::vector<std::uint32_t>& candidates, Instant now,
                            Instant before) const;
    const policy::Limits& limits_of(const policy::Policy& policy, const policy::FieldTexts& texts) const;
    bool check_item(const queue::Deliver& action, Entry& entry, Instant now);
    bool check_candidates(const queue::Deliver& action, const Entry& entry, const std::vector<std::uint32_t>& candidates, Instant now);
    bool begin_session(const queue::Deliver& action, const Entry& entry, std::vector<std::uint32_t>& candidates);
    bool check_slots(queue::SessionId id, const std::optional<Session>& before);
    bool check_rates(const Session& session, std::uint32_t bytes, bool opened, Instant now);
    void forget_past(const policy::DynamicCondition& condition);
    bool check_rate(const policy::Rate& rate, Starts& starts, Instant now) const;
    bool check_windows(const policy::Rate& rate, Starts& starts, Instant now) const;
    static bool surely_has_room(const policy::Rate& rate, const Starts& starts, Instant now);
    bool surely_has_room(const std::vector<Counted>& counted, Instant now) const;
    bool may_start(const Entry& entry, Instant now) const;
    bool may_start(const Entry& entry, const queue::RoutePtr& route, std::uint32_t candidate, Instant now) const;
    std::string transport_for(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const;
    std::vector<std::string> locals(const Entry& entry, const queue::RoutePtr& route, std::uint32_t candidate) const;
    void distrust(Instant now, const policy::Limits* more = nullptr);
    void watch_fairness(const Entry& entry, Instant now);
    static void note_tried(Entry& entry, const queue::AttemptEnded& event, const Session& session);
    bool check_locals(const queue::Deliver& action, const Entry& entry);
    const queue::LocalPool* pool_for(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const;
    bool is_served(const queue::Admit& admit, const queue::RoutePtr& route, std::uint32_t candidate) const;
    std::string value_of(policy::Field field, const Session& session) const;
    std::string value_of(policy::Field field, const Session& session, std::uint32_t candidate) const;
    void set_policies();
    std::vector<Counted> counted(const Session& session) const;
    void recount(Session& session);
    void discount(const Session& session);

    queue::Options options_;
    std::map<std::string, std::shared_ptr<const policy::DynamicCondition>> conditions_;
    std::map<std::string, std::shared_ptr<const policy::Suspension>> suspensions_;
    bool suspended_ever_ = false;
    std::map<ItemId, Entry> entries_;
    std::set<ItemId> waiting_items_;  // queued, and not being attempted
    std::map<queue::SessionId, Session> sessions_;
    std::map<queue::SessionId, Session> overtaken_;  // closed before the end of their attempt was told
    std::map<std::string, Past> past_;           // by bucket
    std::map<std::string, std::uint32_t> used_;  // sessions, by bucket
    std::vector<policy::PolicyPtr> policies_;    // of the file and of the settings
    std::map<std::string, queue::RoutePtr> routes_;
    std::map<std::string, Instant> avoided_;     // remotes that could not be reached, until when
    Instant unsure_until_;                       // what buckets remember of other limits
    queue::SessionId last_session_ = 0;
    std::optional<std::string> violation_;
    std::uint64_t cut_short_ = 0;
    // By domain and tenant: items that never started, and starts of others meanwhile.
    std::map<std::string, std::map<std::string, std::pair<std::uint64_t, std::uint64_t>>> waiting_;
    std::uint64_t passed_over_ = 0;
    std::map<std::string, Duration> waited_;
};

}  // namespace sluice::sim
