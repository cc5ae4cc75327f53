#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "mail/message.h"
#include "policy/delivery.h"
#include "policy/dynamic.h"
#include "policy/local_pool.h"
#include "policy/observation.h"
#include "policy/policy_set.h"
#include "policy/reactor.h"
#include "policy/suspension.h"
#include "queue/route.h"

namespace sluice::queue {

// A connection to a remote host, from the moment it is asked for until it is reported closed. Never reused as a number.
using SessionId = std::uint64_t;

enum class ItemState : std::uint8_t { scheduled, ready, sending, held };

// ---- events: what the core is told -----------------------------------------------------------------------------

// An item entered the queue: just accepted, or found at start. Its id is in no other item that is still queued.
struct Admit {
    ItemId id;
    std::string domain;        // routing key
    std::string tenant, job, transport;
    std::string sender_domain; // of the reverse-path, in the form of a routing key; empty for the null path
    std::vector<mail::Mark> marks;  // notes and header fields, by their names in policies
    Instant arrival;
    Instant due;               // first attempt not before
    std::chrono::seconds lifetime{0};  // its own, shorter than the engine's; 0: the engine's
    std::uint32_t size = 0;    // octets of the message
    std::uint32_t recipient_count = 1;
    std::uint32_t source_hash = 0;  // CRC-32 of reverse-path and forward-paths: the same correspondents keep the same source
    std::uint16_t attempts = 0;
    std::uint8_t priority = 4;  // 0 (lowest) .. 7 (highest); more counts as 7
    bool held = false;
    bool delay_notified = false;
    mail::MessagePtr fresh;                // the message while it is still in memory; may be null
    std::vector<std::uint32_t> pending;    // recipients still undecided; empty: all of the item's
    std::string last_reply;                // what the last attempt came to; for operators
    std::string changes;                   // as the last HoldChanged had them; what was given up then is given up now, unless it is held
};

// The answer to Resolve. An error decides every item that waits for this key (see Conclude). May also come unasked.
struct RouteResolved {
    std::string key;
    Result<RoutePtr> route;
    std::string via = {};  // as in Resolve
};

// A session asked for by Deliver{open} is up: greeting and EHLO are done on this candidate of its route.
struct SessionOpened {
    SessionId session;
    std::uint32_t candidate;
};

// A host that failed in an attempt, and how.
struct Failed {
    static constexpr std::uint32_t connected = ~std::uint32_t{0};
    std::uint32_t candidate = connected;  // of the route; `connected`: the one that the session is connected to
    policy::Observation what;
};

// How an attempt ended. Everything durable about it (outcomes, schedule) was handed to the journal before.
struct AttemptEnded {
    enum class Verdict : std::uint8_t {
        done,            // every recipient of the item is decided
        deferred,        // try again at `next`
        next_candidate,  // these candidates failed as hosts or sessions; nothing is decided: try the others now
        fresh_session,   // a reused connection turned out dead: same again on a new one, without any penalty
    };
    ItemId item;
    SessionId session = 0;  // 0 after Conclude
    Verdict verdict = Verdict::done;
    Instant next;                          // deferred: when
    std::vector<std::uint32_t> pending;    // deferred: recipients still undecided; empty: unchanged
    bool delay_notified = false;
    std::string reply;                     // deferred: why, for operators
    bool reusable = false;                 // the session stays open and idle, for the core to use or close
    bool permanent = false;                // next_candidate: this host refused for good (5yz greeting)
    std::vector<std::uint32_t> unhealthy;  // candidates of the route that could not be reached: avoid them for a while
    bool delivered = false;                // some recipient got it
    std::vector<Failed> failures;          // for whoever reacts to them (policy::PolicySet::watches_failures())
    Duration source_unusable{0};           // the local address failed, not the peer: avoid it this long
    bool counts = true;                    // deferred: false when nothing failed, somebody only wants it later
};

// The answer to Consult when the attempt may begin; otherwise AttemptEnded without a session is the answer.
struct Consulted {
    ItemId item;
    RoutePtr route;  // for this attempt only; null: the route of the domain
    std::vector<std::uint32_t> pending = {};  // recipients still undecided; empty: unchanged
};
// Whether plugins want to be asked before each attempt. Those that wait for that are not asked any more when they do not.
struct Consulting {
    bool wanted = false;
};

// The connection is gone (asked for by Close or not) and its slots are free again. Said once for every session. When an idle
// session ends while the core just gives it an item, this comes first and AttemptEnded{fresh_session} follows.
struct SessionClosed {
    SessionId session;
};

// What an operator changes of an item; what is absent stays. Value.
struct ItemChanges {
    std::optional<std::string> tenant, job, transport;
    std::optional<std::string> next_hop;  // instead of the configured route; empty: that again
    std::optional<std::uint8_t> priority;

    bool any() const { return tenant || job || transport || next_hop || priority; }
    void add(const ItemChanges& later);
    // For the journal. parse() takes what format() gave; what it does not know is left out.
    std::string format() const;
    static ItemChanges parse(std::string_view text);
    friend bool operator==(const ItemChanges&, const ItemChanges&) = default;
};

// Operator commands; each concerns one item, or all of a domain, or everything (both empty). What is told in one event happens
// in one go: for a deep queue, say it item by item.
struct Selection {
    std::optional<ItemId> item;
    std::string domain;
};
// A sending item is held when its attempt ends, unless that decides it; HoldChanged says so at once, to be recorded.
struct Hold { Selection which; };
struct Release { Selection which; };  // back to the schedule: overdue items are ready at once
struct Flush { Selection which; };   // scheduled items become due now; sending and held ones are left alone
// Answered by Removed actions; sending items are removed when their attempt ends, unless that decides them, and HoldChanged says so at once.
struct Remove { Selection which; };
// Given up: concluded as rejected, so that the sender hears of it; sending items as in Remove.
struct Bounce {
    Selection which;
    std::string reason;
};
// Other values than the message came with; sending items keep what their attempt began with. Answered by HoldChanged actions, to be recorded.
struct ChangeItems {
    Selection which;
    ItemChanges changes;
};
struct Tick {};                      // only time has passed

// Conditions and suspensions that are not in the files. Setting one with the id of another replaces it, at once and with everything in flight;
// both end by themselves when they say so. Each change is answered by ConditionChanged or SuspensionChanged, to be recorded.
// `since` and, with a ttl, `expires` are filled in, except in what is `recorded` already: found in the journal at start, which is not answered.
struct SetCondition {
    policy::DynamicCondition condition;
    bool recorded = false;
};
struct SetSuspension {
    policy::Suspension suspension;
    bool recorded = false;
};
// One that is not there is ignored.
struct RemoveCondition { std::string id, by, reason; };
struct RemoveSuspension { std::string id, by, reason; };
// The id of the suspension that Options::suspensions begins with, when it says `start_suspended`.
inline constexpr const char* start_suspension = "start_suspended";

// ---- actions: what the core asks for ---------------------------------------------------------------------------

struct Resolve {
    std::string key;
    std::string via = {};  // the next hop that an operator chose for some mail of this key; empty: as configured
};

// What an executor needs to know of an item.
struct Work {
    ItemId item;
    Instant arrival;
    std::uint16_t attempts = 0;  // failed ones before this
    bool delay_notified = false;
    mail::MessagePtr message;    // null: load it from the spool
    std::vector<std::uint32_t> pending;  // empty: all recipients of the item
};

// Attempt this item on the session, which is opened first when `open` is set: connect to one of `candidates` (indexes
// into the route, equally preferred, all with the same settings, in random order; race them).
struct Deliver {
    SessionId session;
    std::uint32_t shard;
    bool open = false;
    RoutePtr route;
    std::vector<std::uint32_t> candidates;  // with open
    std::string bind;                       // local address for IPv4/IPv6 remotes: "" for any
    std::string bind6;
    std::string helo, helo6;                // EHLO names that belong to these addresses; "": the usual one
    bool last_resort = false;     // no other candidate is left: host failures are decided now, not handed back
    bool permanent_so_far = true; // every host tried in this attempt before refused for good (true when none was tried)
    policy::DeliverySettingsPtr how = nullptr;  // of delivery.yaml; null: all is as the settings of the instance say
    Work work;
};

// Decide this item without an attempt: there is no route, or its time is over.
struct Conclude {
    std::uint32_t shard;
    Work work;
    Error error;
    policy::DeliverySettingsPtr how = nullptr;  // as in Deliver
    bool rejected = false;  // somebody gave the item up: it fails for good, and `error` has his words
};

// Ask the plugins whether and over which route this item is to be attempted. Answered by Consulted or AttemptEnded.
struct Consult {
    std::uint32_t shard;
    Work work;
};

struct Close {
    SessionId session;
    std::uint32_t shard;
};

struct Removed {
    ItemId item;
    std::vector<std::uint32_t> pending;  // whom it concerned; empty: all
};
// What an operator has said of an item up to now; replaces what was said before.
struct HoldChanged {
    ItemId item;
    bool held;
    std::string changes = {};  // ItemChanges::format() of all changes, and whether it is given up when its attempt ends; for Admit
    bool released = false;     // it is to be tried again
};

// A condition or suspension that is not in the files was added, replaced, or is gone.
enum class Change : std::uint8_t { added, updated, expired, removed };
struct ConditionChanged {
    Change change;
    std::shared_ptr<const policy::DynamicCondition> condition;
    std::string by, reason;
};
struct SuspensionChanged {
    Change change;
    std::shared_ptr<const policy::Suspension> suspension;
    std::string by, reason;
    bool recorded = true;  // false: of the start; no journal knows it
};

// The core changed limits by itself: a rule, what it learned from outcomes.
struct Reacted {
    policy::Reaction what;
};

using Action =
    std::variant<Resolve, Deliver, Conclude, Consult, Close, Removed, HoldChanged, ConditionChanged, SuspensionChanged, Reacted>;

// ---- options ---------------------------------------------------------------------------------------------------

using policy::LocalPool;

struct Options {
    std::uint32_t shards = 1;
    std::uint32_t concurrency_max = 10'000;        // sessions in all; 0: no limit
    std::uint32_t destination_concurrency = 50;    // sessions per destination domain; 0: no limit
    bool disabled = false;                         // accept and queue, start nothing
    Duration idle_session{5'000};                  // an idle pooled connection is closed after this
    std::uint32_t session_messages_max = 1'000;    // then the connection is closed
    Duration unhealthy_for{60'000};                // how long an unreachable candidate is avoided
    Duration lifetime{5 * 24 * 3'600'000};         // a ready item that never got a slot is concluded after this age
    Duration last_chance{600'000};                 // but not before it was ready this long (a restart after days, a release)
    std::uint64_t fresh_bytes_max = 256ull << 20;  // bodies kept in memory until the first attempt
    std::vector<std::string> sources4, sources6;   // [outbound_ipv4], [outbound_ipv6]: of mail whose transport has no pool
    std::vector<LocalPool> transports;
    bool consult = false;                          // plugins are asked before each attempt, until Consulting says otherwise
    std::uint32_t consulted_max = 1'000;           // items that plugins are asked about at once
    std::uint32_t lanes_at_once = 2'000;           // where many lanes are to be looked at, or items sorted, the rest follows in steps
    std::uint64_t seed = 1;                        // shuffling equal candidates
    std::vector<std::pair<std::string, std::uint32_t>> tenant_weights;  // share of a tenant in a full bucket; before those of the policies
    policy::PolicySetPtr policies;                 // of the file; may be null. The two limits above are policies too
    policy::SuspensionFilePtr suspensions;         // of the file; may be null. `start_suspended` counts in the first options only
    policy::DeliveryFilePtr deliveries;            // may be null
};
// New options, at once and with everything in flight. Sessions beyond a lowered limit are closed as soon as they are idle; cached routes
// are asked for again. `shards`, `seed` and `consult` stay as they were.
struct Configure {
    Options options;
};

using Event = std::variant<
    Admit, RouteResolved, SessionOpened, AttemptEnded, SessionClosed, Consulted, Consulting, Hold, Release, Flush, Remove, Bounce, ChangeItems,
    SetCondition, RemoveCondition, SetSuspension, RemoveSuspension, Configure, Tick>;

// ---- views -----------------------------------------------------------------------------------------------------

// An item as the core sees it now; the texts are valid until the next handle().
struct ItemView {
    ItemId id;
    std::string_view domain, tenant, job, transport, sender_domain;
    ItemState state;
    Instant arrival, due;
    std::uint16_t attempts;
    std::uint8_t priority;
    std::uint32_t size, recipient_count;
    std::chrono::seconds lifetime;  // its own; 0: the engine's
    std::string_view reply;  // what the last attempt came to
    std::string_view via;    // the next hop that an operator chose; empty: as configured
};
class Filter;
struct Survey;
struct Group;
struct BucketView;
struct Explanation;
struct Stats {
    std::uint64_t items = 0, scheduled = 0, ready = 0, sending = 0, held = 0;
    std::uint64_t sessions = 0, idle_sessions = 0, lanes = 0, buckets = 0, routes = 0, fresh_bytes = 0;
    std::uint64_t conditions = 0, suspensions = 0;  // of run time; of both origins
    std::uint64_t backlog = 0;  // lanes that will be looked at in the next steps: until then mail may wait there that could start
};
struct ConditionView {
    const policy::DynamicCondition& condition;
    bool idle;                  // no policy of the file counts what it is about
    std::uint64_t buckets;      // that obey it
};
struct SuspensionView {
    const policy::Suspension& suspension;
    bool of_file;
    bool in_force;              // now, as its windows say
    std::uint64_t lanes;        // that wait for its end
};
// What a condition or suspension would be about now.
struct Reach {
    std::uint64_t buckets = 0;  // condition: that would obey it, if nothing that comes before it does
    std::uint64_t items = 0;    // condition: that wait at these; suspension: ready ones that would be stopped
    bool at_least = false;      // there was too much to look at all of it
};
struct DomainStats {
    std::string_view domain;
    std::string_view via;  // of mail with a next hop of its own
    std::uint64_t scheduled = 0, ready = 0, sending = 0, held = 0, sessions = 0;
};

// A counter at which mail waits. Borrows until the next handle().
struct BlockedBucket {
    enum class Lack : std::uint8_t { sessions, rate, connect_interval };
    const policy::Policy* policy = nullptr;
    const policy::Limits* limits = nullptr;
    std::array<std::string_view, policy::key_fields_max> values{};  // by place in the policy's fields; of a group its name
    std::uint32_t groups = 0;    // bit i: values[i] is a group's
    Lack lack = Lack::sessions;
    std::uint32_t used = 0;      // sessions
    std::uint64_t items = 0;     // that wait here; what could go over several candidates waits at each
};

// Decides when, from where and over which path each item is tried.
//
// Deterministic: the same events at the same times give the same actions. Owned by one thread; no locks, no I/O.
// A decision costs the same whatever is queued, deferred or suspended; nothing is scanned or polled.
// Limits are exact: a session holds its slots from Deliver{open} until SessionClosed.
class Core {
public:
    explicit Core(const Options& options);
    ~Core();

    // `now` never goes back and is not before the epoch. Actions are appended, to be carried out in order.
    void handle(Event event, Instant now, std::vector<Action>& actions);
    // When handle(Tick) must be called at the latest; Instant::max() when nothing waits for time.
    Instant next_timer() const;

    Stats stats() const;
    std::optional<ItemView> find(ItemId id) const;
    // Recipients of an item that are still undecided; empty: all that it was accepted with.
    std::vector<std::uint32_t> pending(ItemId id) const;
    // Visits the items in the order of their places, from `from` on, until `visit` returns false or `places_max` places
    // were looked at; returns where to go on, or nothing at the end. An item keeps its place while it is queued, so who goes
    // on like this meets each item that stays exactly once, however long it takes.
    using Place = std::uint32_t;
    std::optional<Place> each_from(
        Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const;
    // The same, of items that the filter selects as far as the core can tell: not by what only messages say.
    std::optional<Place> select(
        const Filter& filter, Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const;
    // Counts the items of the next places; returns where to go on. Groups come in no particular order, each once.
    std::optional<Place> survey(const Survey& survey, Place from, std::uint32_t places_max, std::vector<Group>& into) const;
    // The same for items given by name.
    void survey(const Survey& survey, const std::vector<ItemId>& items, std::vector<Group>& into) const;
    // Visits the buckets of the next places, as each_from() does the items.
    std::optional<Place> each_bucket_from(
        Place from, std::uint32_t places_max, const std::function<bool(const BucketView&)>& visit) const;
    // A bucket by its name; also one in which nothing counts now, but could. bad_input: "bucket: sentence".
    Result<BucketView> bucket(std::string_view name) const;
    // Why an item, or a domain's mail, stands where it does. Nothing: it is not queued.
    std::optional<Explanation> explain(ItemId id) const;
    std::optional<Explanation> explain(std::string_view domain) const;
    // The fields of the policies in force, as filters name them.
    const policy::FieldTable& fields() const;
    // Visits items until `visit` returns false, in no particular order; with a domain only its items.
    void each(std::string_view domain, const std::function<bool(const ItemView&)>& visit) const;
    // Visits the domains that have items or sessions, until `visit` returns false.
    void each_domain(const std::function<bool(const DomainStats&)>& visit) const;
    void each_condition(const std::function<void(const ConditionView&)>& visit) const;
    void each_suspension(const std::function<void(const SuspensionView&)>& visit) const;
    // The id of what was set at run time and says the same; empty: nothing does.
    std::string same_as(const policy::DynamicCondition& condition) const;
    std::string same_as(const policy::Suspension& suspension) const;
    Reach reach_of(const policy::DynamicCondition& condition) const;
    Reach reach_of(const policy::Suspension& suspension) const;
    // Visits the counters at which mail waits now. Costs as much as there are counters and waiting lanes.
    void each_blocked(const std::function<void(const BlockedBucket&)>& visit) const;

    // Checks every invariant from scratch; aborts with a message on the first violation. For tests and the simulator.
    void audit() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::queue
