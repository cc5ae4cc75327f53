#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>

#include <algorithm>
#include <array>
#include <deque>
#include <string>
#include <vector>

#include "base/random.h"
#include "policy/warm_up.h"
#include "queue/buckets.h"
#include "queue/core.h"
#include "queue/deliveries.h"
#include "queue/item.h"
#include "queue/names.h"
#include "queue/paths.h"
#include "queue/profiles.h"
#include "queue/replies.h"
#include "queue/slab.h"
#include "queue/sources.h"
#include "queue/suspensions.h"
#include "queue/sweep.h"
#include "queue/timer_wheel.h"
#include "queue/views.h"
#include "queue/waiters.h"

namespace sluice::queue {

// ---- rows of the core's tables ---------------------------------------------------------------------------------

// What only some items have: recipients already decided, or an attempt that goes on with another candidate.
struct Progress {
    std::vector<std::uint32_t> pending;
    Index path = none;         // the attempt stays on the route it began with
    std::vector<bool> tried;   // by candidate
    bool permanent = true;     // every candidate tried refused for good
    bool peer_failed = false;  // at least one candidate was tried and failed, and not only our own side
    Index only = none;         // a reused connection was dead: this candidate again, on a new one
};

// A domain with items, sessions or a cached route; or that part of its mail for which an operator chose a next hop.
struct Destination {
    using Key = std::pair<NameId, NameId>;
    NameId name = Names::empty;
    NameId via = Names::empty;    // the next hop that was chosen
    Index path = none;            // none: not known
    Chain items;
    Chain unrouted;               // ready items that wait for the route
    Chain lanes;
    TimerNode timer;              // the path is to be asked for again
    std::uint32_t count[4] = {};  // items by state
    std::uint32_t sessions = 0;
    bool resolving = false;
    std::uint32_t asked = 0;      // while resolving: Impl::configured_ when that was asked
    bool asked_anew = false;      // while resolving: because the answer before did not count
    Key key() const { return {name, via}; }
};

// Attempts from this one on are the same to policies.
inline constexpr unsigned attempts_told_apart = 32;

struct LaneKey {
    Index destination = none;
    Index profile = none;      // only what policies tell apart
    SourceChoice source;
    std::uint8_t priority = 0;
    std::uint8_t attempt = 0;  // the number of the next one, from 1 on; 0 while no policy asks for it
    std::uint16_t part = Suspensions::everybody;  // less: all its messages are taken by suspensions that take so many of a thousand
    friend bool operator==(const LaneKey&, const LaneKey&) = default;
    template <class H>
    friend H AbslHashValue(H h, const LaneKey& k) {
        return H::combine(std::move(h), k.destination, k.profile, k.source.ipv4, k.source.ipv6, k.priority, k.attempt, k.part);
    }
};
using BucketList = absl::InlinedVector<Index, 4>;  // by policy

// Where a lane can wait: a bucket, or the gate of a suspension.
using Spot = Index;
constexpr Spot gate_bit = Spot{1} << 31;
constexpr bool is_gate(Spot spot) { return (spot & gate_bit) != 0; }
constexpr Spot spot_of_gate(Index gate) { return gate | gate_bit; }
constexpr Index gate_of(Spot spot) { return spot & ~gate_bit; }

// Ready items that policy and routing cannot tell apart; only the head is ever looked at.
struct Lane {
    using Key = LaneKey;
    LaneKey name;
    Chain items;
    Index unsorted = none;       // from this item on they may belong to other lanes now; then the lane is in the backlog
    std::uint32_t length = 0;
    std::uint32_t sessions = 0;  // that served it last
    std::uint32_t era = 0;       // it has heard of what was configured up to then; see catch_up()
    bool in_backlog = false;
    Links sibling;               // among the lanes of the destination
    BucketList waiters;          // where it waits, by spot; not empty while it has items and starting is allowed, unless it is in the backlog
    BucketList buckets;          // held; none where the policy is late
    const Key& key() const { return name; }
};

struct PoolKey {
    NameId bind = Names::empty;
    NameId helo = Names::empty;
    NameId remote = Names::empty;
    NameId transport = Names::empty;
    NameId host = Names::empty;    // where TLS is verified the connection is good for this name only
    NameId manner = Names::empty;  // see Deliveries
    friend bool operator==(const PoolKey&, const PoolKey&) = default;
    template <class H>
    friend H AbslHashValue(H h, const PoolKey& k) {
        return H::combine(std::move(h), k.bind, k.helo, k.remote, k.transport, k.host, k.manner);
    }
};

// Connections that can stand in for each other.
struct Pool {
    using Key = PoolKey;
    PoolKey name;
    Chain idle;                 // the most recently used first
    std::uint32_t holders = 0;
    const Key& key() const { return name; }
};

enum class SessionState : std::uint8_t {
    opening,  // Deliver{open} was sent
    busy,     // an attempt is under way
    idle,     // in its pool
    closing,  // of no more use; SessionClosed will come
    gone,     // SessionClosed came while an attempt was given to it; AttemptEnded will come
};

struct Session {
    using Key = SessionId;
    SessionId id = 0;
    SessionState state = SessionState::opening;
    std::uint32_t shard = 0;
    Index item = none;
    Index lane = none;                 // served last
    Index path = none;                 // of the item served last
    Index profile = none;              // of that item: with `attempt` all that policies may ever ask for
    std::vector<std::uint32_t> group;  // candidates it may connect to
    std::uint32_t candidate = 0;       // the one it is connected to, once opened
    Local local4, local6;              // where it calls hosts of that family from; their names are held
    policy::DeliverySettingsPtr how;   // it was opened under; may be null
    NameId manner = Names::empty;
    bool outdated = false;             // nobody is delivered to in this manner any more
    Index pool = none;                 // once opened
    Links pooled;
    BucketList slots;                  // by policy; empty once gone
    std::uint32_t messages = 0;
    std::uint32_t turn_began = 0;      // messages when it was last free for anybody
    std::uint16_t attempts = 0;        // of that item, before
    TimerNode timer;                   // idle for too long
    Key key() const { return id; }
    const Local& local(Family family) const { return family == Family::ipv6 ? local6 : local4; }
};

// ---- the core --------------------------------------------------------------------------------------------------

class Core::Impl {
public:
    explicit Impl(const Options& options);
    ~Impl();

    void handle(Event& event, Instant now, std::vector<Action>& actions);
    Instant next_timer() const {
        return std::min({wheel_.next(), reactor_.next(), warm_ups_.next(), paths_.next(), backlog_size() == 0 ? Instant::max() : backlog_due_});
    }
    Stats stats() const;
    std::optional<ItemView> find(ItemId id) const;
    std::vector<std::uint32_t> pending(ItemId id) const;
    void each(std::string_view domain, const std::function<bool(const ItemView&)>& visit) const;
    std::optional<Place> each_from(
        Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const;
    void each_domain(const std::function<bool(const DomainStats&)>& visit) const;
    void each_condition(const std::function<void(const ConditionView&)>& visit) const;
    void each_suspension(const std::function<void(const SuspensionView&)>& visit) const;
    std::string same_as(const policy::DynamicCondition& condition) const;
    std::string same_as(const policy::Suspension& suspension) const;
    Reach reach_of(const policy::DynamicCondition& condition) const;
    Reach reach_of(const policy::Suspension& suspension) const;
    void each_blocked(const std::function<void(const BlockedBucket&)>& visit) const;
    std::optional<Place> select(
        const Filter& filter, Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const;
    std::optional<Place> survey(const Survey& survey, Place from, std::uint32_t places_max, std::vector<Group>& into) const;
    void survey(const Survey& survey, const std::vector<ItemId>& items, std::vector<Group>& into) const;
    std::optional<Place> each_bucket_from(
        Place from, std::uint32_t places_max, const std::function<bool(const BucketView&)>& visit) const;
    Result<BucketView> bucket(std::string_view name) const;
    std::optional<Explanation> explain(ItemId id) const;
    std::optional<Explanation> explain(std::string_view domain) const;
    const policy::FieldTable& fields() const;
    void audit() const;

private:
    bool each_waiting_lane(const std::function<void(const Lane&)>& visit) const;

    // What owns a timer is in the three high bits of its key.
    enum class Timed : std::uint32_t { item, session, destination, bucket, gate, condition };
    static constexpr unsigned timed_shift = 29;
    static Index timer_key(Timed kind, Index at) { return static_cast<Index>(kind) << timed_shift | at; }
    struct Nodes {
        Impl* impl;
        TimerNode& operator()(Index key) const;
    };
    struct Fresh {
        mail::MessagePtr message;
        std::uint32_t items = 0;
    };
    // How the next attempt of an item may go: over one of `group_`.
    struct Plan {
        Index path = none;
        bool last_resort = false;
        bool permanent = true;
        bool new_session = false;
        bool wrong_family = false;  // a candidate is left out because of its address family
    };

    // Where hosts may be called from: addresses of one pool, by family, the preferred first.
    struct Departure {
        Index pool = 0;
        std::array<std::vector<Local>, 3> locals;
        const std::vector<Local>& of(Family family) const { return locals[static_cast<unsigned>(family)]; }
    };

    // core.cc: events
    void on(Admit& event);
    void on(RouteResolved& event);
    void on(SessionOpened& event);
    void on(AttemptEnded& event);
    void on(SessionClosed& event);
    void on(Consulted& event);
    void on(Consulting& event);
    void on(Hold& event);
    void on(Release& event);
    void on(Flush& event);
    void on(Remove& event);
    void on(SetCondition& event);
    void on(RemoveCondition& event);
    void on(SetSuspension& event);
    void on(RemoveSuspension& event);
    void on(Bounce& event);
    void on(ChangeItems& event);
    void on(Configure& event);
    void on(Tick&) {}
    void fire(Index timer);
    void learn(const AttemptEnded& event, const Session& session);
    void end_session_attempt(Index session, bool reusable);
    void pass_on(Index session);
    void end_item_attempt(Index item, AttemptEnded& event, const Session* session);
    void go_on(Index item, const AttemptEnded& event, const Session& session);
    bool has_other_source(const Session& session, std::uint32_t candidate) const;

    // items.cc: where items are
    void set_state(Index item, ItemState next);
    void schedule(Index item);
    void make_ready(Index item, bool first_in_lane);
    void find_place(Index item, bool first_in_lane);
    void enter_lane(Index item, bool first_in_lane);
    LaneKey lane_key(const Item& item, Index path) const;
    std::uint8_t told_attempt(std::uint16_t attempts) const;
    bool is_under_way(const Item& item) const { return item.progress != none && progress_[item.progress].path != none; }
    void join_lane(Index item, Index lane, bool first_in_lane);
    void leave_place(Index item);
    void conclude(Index item, Error error, bool rejected = false);
    void conclude_late(Index item);
    void conclude_waiting(Index destination, const Error& error);
    void forget(Index item);
    Deliveries::Place how_to(const Item& item);
    Duration lifetime_of(const Item& item);
    Instant end_of(const Item& item);
    void watch_end(Index item);
    Work work_of(Index item);
    std::vector<std::uint32_t> pending_of(Index item) const;
    Progress& progress_of(Index item);
    void end_progress(Index item);
    void keep_fresh(Index item, mail::MessagePtr message);
    void drop_fresh(Index item);
    Index destination_of(std::string_view domain, std::string_view via = {});
    Index find_destination(std::string_view domain, std::string_view via = {}) const;
    void release_destination(Index destination);
    static bool has_ready(const Destination& destination);
    void resolve(Index destination);
    void refresh(Index destination);
    void resolve_anew(Index destination);
    void set_path(Index destination, Index path);
    void drop_path(Index destination);
    std::vector<Index> lanes_of(Index destination) const;

    // backlog.cc: work on many lanes
    void run_later(Index lane);
    void catch_up(Index lane);
    // Nothing of it can belong to another lane now.
    bool is_sorted(const Lane& lane) const { return lane.unsorted == none && lane.era >= sorted_anew_; }
    // It will have a turn.
    bool is_in_backlog(Index lane) const { return lanes_[lane].in_backlog || lane_sweep_.covers(lane); }
    void relane(Index destination);
    bool sort_head(Index lane);
    void sort_next(Index lane);
    bool stands_right(Index item) const;
    void watch_hosts(Index lane);
    void look_at_hosts();
    void look_at_everything();
    std::size_t backlog_size() const {
        return backlog_.size() + bucket_sweep_.left() + destination_sweep_.left() + lane_sweep_.left();
    }
    void work_off_backlog();
    void work_off_lanes(std::uint32_t most);
    std::uint32_t work_off(Index lane, std::uint32_t most);
    void tend_bucket(Index bucket);
    void tend_destination(Index destination);

    // consult.cc: plugins are asked before an attempt
    void wait_for_plugins(Index item);
    void ask_plugins();
    void end_asking(Index item);

    // operator.cc
    std::vector<Index> selected(const Selection& which) const;
    void hold(Index item);
    void release(Index item);
    void remove(Index item);
    void flush(Index item);
    void bounce(Index item, const std::string& reason);
    bool conclude_rejected(Index item);
    void change(Index item, const ItemChanges& changes);
    void reroute(Index item, std::string_view next_hop);
    void apply(Index item, const ItemChanges& changes);
    Index changed_profile(Index profile, const ItemChanges& changes);
    bool give_up_again(Index item, std::string_view standing);
    void say_standing(Index item);
    std::string standing_of(Index item) const;
    std::string_view changes_of(Index item) const;
    void forget_changes(Index item);

    // start.cc: what starts, and who waits for what
    enum class Start : std::uint8_t { started, blocked };
    void run_lane(Index lane);
    Start start_head(Index lane);
    Start give_up_head(Index lane, const Plan& plan);
    Start start_past_gates(Index lane);
    Start start_where_open(Index lane);
    enum class Pass : std::uint8_t { open, closed, aside };
    Pass pass_gates(Index lane, bool new_connection);
    Pass pass_lane_gates(Index lane, bool new_connection);
    Pass pass_late_gates(Index lane, bool new_connection);
    Pass ask_for_candidate(Index lane, Index path, std::uint32_t candidate, bool new_connection);
    Suspensions::Answer ask_gates(Index lane, const policy::FieldValues& values, bool new_connection, bool late);
    std::optional<Start> stopped_at_gates(Index lane, bool new_connection, Plan& plan);
    void set_aside(Index lane);
    // Calls to the candidate from the address of this rank, or from all of a family.
    bool is_suspended(std::uint32_t candidate, std::size_t rank) const {
        return !suspended_.empty() && suspended_[candidate * ranks() + rank];
    }
    bool is_suspended(const Path& path, std::uint32_t candidate) const;
    bool all_are_open(const Path& path, std::size_t rank) const;
    bool choose_group(Index item, const Lane& lane, Plan& plan, std::vector<std::uint32_t>& group);
    // The pool of local addresses that a candidate is called from.
    Index pool_for(const Lane& lane, const Path& path, std::uint32_t candidate) const;
    bool wants_all(Index pool) const;
    void choose_departures(const Lane& lane, const Path& path);
    void list_departure(const Lane& lane, const Path& path, Index pool, Departure& departure) const;
    void list_locals(const Lane& lane, const Path& path, Index pool, Family family, std::vector<Local>& locals) const;
    Local preferred_local(const Lane& lane, const Path& path, Index pool, Family family) const;
    const Departure& departure(std::uint32_t candidate) const { return departures_[departure_of_.empty() ? 0 : departure_of_[candidate]]; }
    const std::vector<Local>& locals(const Path& path, std::uint32_t candidate) const {
        return departure(candidate).of(path.hops[candidate].family);
    }
    // So many addresses of one family there are to call from.
    std::size_t ranks() const;
    enum class Ways : std::uint8_t { any, idle_session, new_session };
    bool start_over(Index lane, const Plan& plan, Ways ways);
    void share_settings(Index lane, const Path& path, std::size_t rank, std::vector<std::uint32_t>& candidates);
    bool start_on_idle(Index lane, const Plan& plan, std::size_t rank);
    bool start_on(Index session, Index lane, std::uint32_t candidate, Deliveries::Place how, const Plan& plan);
    bool start_on_new(Index lane, const Plan& plan, std::size_t rank);
    bool may_take(const BucketList& buckets, Index session);
    bool may_carry(Index session, const BucketList& buckets) const;
    void open(Index lane, const Plan& plan, std::size_t rank, std::vector<std::uint32_t> candidates, BucketList&& buckets);
    Local hold_local(const Departure& departure, Family family, std::size_t rank);
    void begin_attempt(Index session, Index lane, const Plan& plan, Deliver&& deliver);
    void shuffle_group();
    void count_source(const Session& session);
    policy::FieldValues values_of(const Lane& lane) const;
    policy::FieldValues values_of(const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const;
    Deliveries::Place how_to(const Lane& lane, const Path& path, std::uint32_t candidate, const Local& local);
    static PoolKey pool_key(const Local& local, const Path& path, const Path::Hop& hop, bool verified, NameId manner);
    BucketList hold_buckets(const Lane& lane, const policy::FieldValues& values);
    void drop_buckets(const BucketList& buckets);
    void note_blocker(Spot spot);
    void forget_blockers();
    void drop_spot(Spot spot);
    void leave_spot(Index waiter);
    Waiters::Round& round_at(Spot spot) { return is_gate(spot) ? suspensions_[gate_of(spot)].waiting : buckets_[spot].waiting; }
    void block(Index lane);
    void stop_waiting(Index lane);
    void watch_time(Index bucket);
    void charge(Index lane);
    void evict_for(Index lane, Index bucket);
    void offer(Index bucket);
    void serve(Index bucket);
    void serve_all();
    bool run_reheaded();
    Index lane_of(const LaneKey& key);
    void hold_lane_buckets(Index lane);
    void release_lane(Index lane);
    void drop_bucket(Index bucket);
    void settle(Index bucket);
    void retire(Index bucket);
    bool waits_at(Index lane, Spot spot) const;

    // sessions.cc: sessions, slots, pools
    void take_slots(Index session, BucketList&& buckets);
    void free_slots(Index session);
    void change_slots(Index session, BucketList&& buckets);
    void make_idle(Index session);
    void leave_idle(Index session);
    void close(Index session);
    void mark_closing(Index session);
    bool is_spent(const Session& session) const;
    std::uint32_t messages_max(const Session& session) const;
    Duration idle_time(const Session& session) const;
    static bool is_evictable(const Session& session);
    void add_idle_slot(Index slot);
    void remove_idle_slot(Index slot);
    void attach(Index session, Index lane, Index path);
    void serve_item(Index session, Index item);
    LaneKey lane_key(const Session& session) const;
    void detach(Index session);
    void join_pool(Index session);
    void leave_pool(Index session);
    void erase(Index session);
    std::uint32_t least_loaded_shard() const;

    // run_time.cc: conditions and suspensions
    void look_again(const std::vector<Index>& buckets);
    void remove_condition(Index condition, Change change, std::string by, std::string reason);
    void tend_condition(Index condition);
    Index add_suspension(SuspensionPtr what, Origin origin);
    void end_suspension(Index gate);
    void tend_gate(Index gate);
    void let_lanes_go_on(Index gate);
    void watch_gate(Index gate, bool soon);
    void watch_ended_gates();
    void begin();
    void apply_suspensions();

    // reactions.cc: rules and limits that move
    void observe(const AttemptEnded& event, const Session& session);
    policy::FieldTexts texts_of(const policy::FieldValues& values) const;
    void carry_out(policy::Reactions& reactions);
    void react_in_time();
    void limits_moved(Index bucket);
    void tell_move(Index bucket);

    // configure.cc
    std::uint32_t weight_of(NameId tenant) const;
    void set_weights();
    bool settle_fields();
    void apply_policies(PolicyTable policies);
    void count_anew(Index session);
    void review_sessions();
    void close_excess();
    void close_excess(Index bucket);
    void close_spent();
    void relane_all();
    void move_ends();
    void restart_everything();
    std::vector<Index> all_sessions() const;
    std::vector<Index> all_destinations() const;

    // blocked.cc
    BlockedBucket blocked_view(const Bucket& row, Index bucket) const;
    // survey.cc: filters and counts
    class Sieve;
    class Counting;
    NameId value_of(const Item& item, policy::Field field) const;
    Index path_of(const Item& item) const;
    Lane lane_for(const Item& item) const;
    BucketList gates_of(const Item& item) const;
    std::optional<std::uint32_t> first_candidate(Index item) const;
    NameId local_of(const Item& item, const Lane& lane, const Path& path, std::uint32_t candidate) const;

    // explain.cc
    BucketView view(const policy::BucketKey& key) const;
    std::string limits_from(const policy::BucketKey& key, const Buckets::Choice& choice) const;
    std::string value_text(const policy::Policy& policy, std::size_t place, policy::Value value) const;
    CandidateView view(const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const;
    std::optional<Halt> halt_of(const Item& item, const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const;
    Halt view_of_gate(Index gate) const;
    void find_opening(CandidateView& view) const;
    void explain_destination(Index destination, Explanation& explanation) const;
    void explain_lanes(Index destination, Explanation& explanation) const;
    void explain_candidates(Index item, Explanation& explanation) const;
    void explain_start(Index item, Explanation& explanation) const;

    // views.cc
    ItemView view(Index item) const;
    void audit_items() const;
    void audit_destinations() const;
    void audit_lanes() const;
    void audit_watch(const Lane& lane) const;
    void audit_sessions() const;
    void audit_buckets() const;
    void audit_conditions() const;
    void audit_gates() const;
    void audit_timers() const;
    void audit_profiles() const;
    bool is_blocking(Spot spot) const;

    Options options_;
    Random random_;
    Instant now_;
    bool began_ = false;
    std::vector<Action>* actions_ = nullptr;

    Names names_;
    Sources sources_{names_};
    Profiles profiles_{names_};
    Paths paths_{names_};
    Buckets buckets_{names_};
    Suspensions suspensions_{names_};
    Deliveries deliveries_{names_};
    policy::Reactor reactor_;
    policy::WarmUps warm_ups_;
    Waiters waiters_;
    Registry<Item> items_;
    Slab<Progress> progress_;
    Replies replies_;
    absl::flat_hash_map<Index, NameId> changes_;        // ItemChanges::format() of items that were changed
    absl::flat_hash_map<Index, std::string> rejections_;  // of items that are to bounce, sending ones and held ones: why
    Registry<Destination> destinations_;
    Registry<Lane> lanes_;
    Registry<Pool> pools_;
    Registry<Session> sessions_;
    Slab<Slot> slots_;
    TimerWheel<Nodes> wheel_{Nodes{this}};

    Chain to_consult_;            // ready items that plugins will be asked about
    std::uint32_t consulting_ = 0;  // they are being asked about so many
    absl::flat_hash_map<std::uint64_t, Fresh> fresh_;  // by message
    std::uint64_t fresh_bytes_ = 0;
    std::array<NameId, priorities> priority_names_{};
    std::array<NameId, attempts_told_apart + 1> attempt_names_{};
    policy::FieldTable fields_;        // of the policies, and what else suspensions ask for
    policy::FieldSet told_apart_;      // what lanes are made of
    bool attempts_matter_ = false;     // some policy asks for them
    absl::flat_hash_map<NameId, std::uint32_t> weights_;
    std::uint64_t count_[4] = {};  // items by state
    SessionId last_session_ = 0;
    std::vector<std::uint32_t> shard_sessions_;
    std::uint64_t idle_sessions_ = 0;

    Index kept_ = none;                 // an idle session that is not closed for others yet, because its turn is not over
    std::vector<Index> to_serve_;       // buckets in which something became free
    std::uint32_t configured_ = 0;      // so often options were given
    std::uint32_t era_ = 0;             // of lanes: so often something was configured that concerns all of them
    std::uint32_t counted_anew_ = 0;    // the era in which lanes got other buckets
    std::uint32_t sorted_anew_ = 0;     // the era since which items may belong to other lanes
    Sweep bucket_sweep_;                // after a reload: limits may be others, or what is counted
    Sweep destination_sweep_;           // after a reload: routes may be others
    Sweep lane_sweep_;                  // all are to be looked at: for one of another era that is always so
    std::deque<Index> backlog_;         // lanes to be sorted or run; some may be gone
    Instant backlog_due_;               // no more of it is done before
    std::vector<Index> reheaded_;       // lanes whose head is another one now, with other hosts before it
    std::vector<std::uint32_t> group_;  // of the present plan
    std::vector<Departure> departures_;  // of the present plan
    std::vector<Index> departure_of_;    // by candidate; empty: the first one's for all
    std::vector<bool> suspended_;       // of the present plan, by candidate and rank of the address; empty: none is
    BucketList blockers_;               // of the present start, by spot
};

}  // namespace sluice::queue
