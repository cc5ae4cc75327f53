#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "policy/adaptive.h"
#include "policy/bucket.h"
#include "policy/policy_set.h"
#include "queue/conditions.h"
#include "queue/names.h"
#include "queue/slab.h"
#include "queue/timer_wheel.h"
#include "queue/views.h"
#include "queue/waiters.h"

namespace sluice::queue {

// One counter: a policy and the values of its fields. With a million of them in use every line of the cache that a start touches is a
// wait for memory: what it reads and writes stands in the first two.
struct alignas(64) Bucket {
    using Key = policy::BucketKey;
    Key name;
    std::uint32_t holders = 0;  // lanes and slots that refer to it
    std::uint32_t used = 0;     // sessions that hold a slot
    bool in_turn : 1 = false;   // stands in the core's list of buckets to serve
    bool stops : 1 = false;     // the file says `stop` for it
    bool adapts : 1 = false;    // its limits move: `adapting` is there
    std::uint32_t era : 29 = 0; // under which policies its limits were found
    const policy::Limits* limits = &policy::no_limits;  // the policy's or a condition's; found when the bucket appears, and when conditions change
    Waiters::Round waiting;

    policy::BucketState state;
    TimerNode timer;            // something may start again, while lanes wait for time; or it is forgotten, while nobody refers to it
    Chain idle;                 // slots of idle sessions that can be closed for others, the longest idle first

    Index condition = none;     // of run time, when the limits are its
    std::uint32_t closing = 0;  // of the sessions, those that will be reported closed before long
    std::uint32_t kept = 0;     // idle sessions that are not closed for others
    std::unique_ptr<policy::Adapting> adapting;  // moves the limits, which are then its own; null: they stay
    const Key& key() const { return name; }
};
static_assert(sizeof(Bucket) == 192);

// A session's place in a bucket.
struct Slot {
    Index bucket = none;
    Index session = none;
    Links idle;
};

// The policies in force: those of the file, then those of the settings. Immutable.
struct PolicyTable {
    std::vector<policy::PolicyPtr> policies;
    std::size_t of_file = 0;         // so many may be skipped by `stop`
    policy::PolicySetPtr set;        // of the file; may be null
};

// All counters of all policies. A bucket exists while a lane or session refers to it or its rates remember something.
//
// There may be a million of them when policies change, so nothing is done with all of them at once. Where they stay, each finds its limits anew when
// somebody asks for them. Otherwise they retire: nobody finds them by name any more; what they remember goes to those that count the same now
// when these appear, or by bequeath(). The core goes through all of them and then says forget_past(). Core-owned.
class Buckets {
public:
    explicit Buckets(Names& names) : names_(names), conditions_(names) {}
    ~Buckets() {
        forget_groups();
        forget_groupings();
    }
    Buckets(const Buckets&) = delete;
    Buckets& operator=(const Buckets&) = delete;

    // Policies that count the same things in the same order keep their buckets, see can_stay(); otherwise those that are there retire.
    void configure(PolicyTable table, Instant now);
    // Buckets, and who holds them, can stay as they are under these policies: only limits change.
    bool can_stay(const PolicyTable& table) const;
    std::size_t policies() const { return table_.policies.size(); }
    const PolicyTable& table() const { return table_; }

    // Which bucket of this policy a delivery counts for is known only with its candidate.
    bool is_late(std::uint32_t policy) const { return late_[policy]; }
    // Some policy is late.
    bool depends_on_candidate() const { return depends_on_candidate_; }
    bool uses_grouping() const { return uses_grouping_; }
    // Some bucket may say which transport mail goes out by.
    bool redirects() const { return file_redirects_ || conditions_.redirect(); }
    // What the first bucket that names one says to a delivery, wherever it would be called from; empty: none does. Valid until the next change.
    std::string_view transport_for(const policy::FieldValues& values) const;
    // The value of the field grouping; somebody holds it as long as the policies stay.
    NameId grouping_of(NameId mx, NameId ip, NameId domain) const;

    // The names of all buckets that a delivery counts for, whether they exist or not.
    std::vector<policy::BucketKey> keys_of(const policy::FieldValues& values) const;
    Index find(const policy::BucketKey& key) const { return places_.find(key); }
    // What a bucket of this name obeys, or would.
    struct Choice {
        const policy::Limits* limits = &policy::no_limits;
        Index condition = none;  // of run time, when the limits are its
        bool stops = false;
    };
    Choice choose(const policy::BucketKey& key) const;

    // Finds or makes the bucket of a policy for these values, and refers to it until drop().
    Index hold(std::uint32_t policy, const policy::FieldValues& values);
    // The bucket of what the policy does not count.
    Index hold_skipped(std::uint32_t policy);
    void hold(Index bucket) { ++rows_[bucket].holders; }
    // Policies behind this one do not count what is in this bucket.
    bool stops(Index bucket) const { return rows_[bucket].stops; }
    bool may_be_skipped(std::uint32_t policy) const { return policy < table_.of_file; }
    // True when nobody refers to it any more: the caller then decides whether it may go (see collect()).
    bool drop(Index bucket) { return --rows_[bucket].holders == 0; }
    // Removes an unreferred bucket that remembers nothing; false when its time must come first.
    bool collect(Index bucket, Instant now);
    // Removes an unreferred bucket with whatever it remembers.
    void discard(Index bucket);

    // It counted for policies that are not in force any more. No session has a slot there; lanes may wait there that have not heard of it.
    bool is_retired(Index bucket) const { return rows_[bucket].era < retired_before_; }
    // The policy that it belongs or belonged to.
    const policy::Policy& policy_of(Index bucket) const;
    // What a retired bucket remembers goes to the one that counts the same now. Returns that if it was made for this: nobody refers to it yet.
    Index bequeath(Index retired);
    // Its limits are found anew if that was not done yet.
    void catch_up(Index bucket) const {
        if (rows_[bucket].era != era_) catch_up_late(bucket);
    }
    bool has_caught_up(Index bucket) const { return rows_[bucket].era == era_; }
    // All buckets have caught up, or are gone: what they referred to may go as well.
    void forget_past();
    bool has_past() const { return !past_.empty() || !retired_.empty(); }

    // Conditions of run time. Whoever sets or removes one then has each bucket of concerned_by() look again; before a row goes, that is.
    Conditions& conditions() { return conditions_; }
    const Conditions& conditions() const { return conditions_; }
    // Adds it, or puts it in the place of the one with its id.
    Index set_condition(ConditionPtr condition);
    // The buckets that are there and that the condition may be the word for: by one look-up, or among all buckets of its policy.
    std::vector<Index> concerned_by(const policy::DynamicCondition& condition) const;
    // Finds the limits anew. False when they are the same.
    bool look_again(Index bucket, Instant now) const;
    // For audits: its limits are those that it would find now, unless it has not looked yet.
    bool is_settled(Index bucket) const;

    const policy::Limits& limits(Index bucket) const {
        catch_up(bucket);
        return *rows_[bucket].limits;
    }
    bool has_slot(Index bucket) const {
        const std::uint32_t limit = limits(bucket).concurrency;
        return limit == 0 || rows_[bucket].used < limit;
    }
    // More sessions than the limit, apart from those that are closing: it was lowered.
    bool is_over(Index bucket) const {
        const std::uint32_t limit = limits(bucket).concurrency;
        return limit != 0 && rows_[bucket].used - rows_[bucket].closing > limit;
    }
    // Why nothing may start there: by somebody who has a slot there already, or who has to open a session.
    Refusal refusal(Index bucket, bool has_slot_there, bool opens_session, Instant now) const {
        if (!has_slot_there && !has_slot(bucket)) return Refusal::slots;
        if (!has_token(bucket, now)) return Refusal::rate;
        return opens_session && !may_connect(bucket, now) ? Refusal::connect_interval : Refusal::none;
    }
    bool has_idle(Index bucket) const { return !rows_[bucket].idle.empty() || rows_[bucket].kept > 0; }
    bool has_token(Index bucket, Instant now) const { return rows_[bucket].state.has_room(limits(bucket), now); }
    void take_token(Index bucket, std::uint64_t bytes, Instant now) { rows_[bucket].state.take(limits(bucket), bytes, now); }
    bool may_connect(Index bucket, Instant now) const { return rows_[bucket].state.may_connect(now); }
    void connect(Index bucket, Instant now) { rows_[bucket].state.connect(limits(bucket), now); }
    // A session that has carried so many messages may carry another one for this bucket.
    bool may_carry(Index bucket, std::uint32_t messages) const {
        const std::uint32_t limit = limits(bucket).messages_per_connection;
        return limit == 0 || messages < limit;
    }
    // When time allows what it does not allow now: a message, or else a session.
    Instant opens(Index bucket, Instant now) const {
        const policy::BucketState& state = rows_[bucket].state;
        return state.has_room(limits(bucket), now) ? state.connects() : state.opens(limits(bucket));
    }
    Instant remembers_until(Index bucket) const {
        const Bucket& row = rows_[bucket];
        const Instant until = row.state.remembers_until(limits(bucket));
        return !row.adapts ? until : std::max(until, row.adapting->remembers_until());
    }
    // What is learned from outcomes, where limits move. True when they did.
    bool learn_delivered(Index bucket, Instant now);
    bool learn_failed(Index bucket, policy::Failure failure, Instant now);

    Bucket& operator[](Index bucket) { return rows_[bucket]; }
    const Bucket& operator[](Index bucket) const { return rows_[bucket]; }
    bool contains(Index bucket) const { return rows_.contains(bucket); }
    Index end() const { return rows_.end(); }
    std::size_t size() const { return rows_.size(); }

private:
    // Buckets that retired together.
    struct Generation {
        PolicyTable table;
        std::uint32_t end = 0;  // they are of eras before this one, and not of an older generation
        Places<Bucket> places;
        std::vector<std::uint32_t> heirs;      // by policy: the place of the one that counts the same now; none
        std::vector<std::uint32_t> ancestors;  // the other way round
    };
    // What limits of buckets that have not caught up may stand in.
    struct Past {
        std::vector<policy::PolicyPtr> policies;
        std::vector<ConditionPtr> conditions;
    };
    using RolledUp = std::pair<const policy::RollUp*, NameId>;
    using Grouped = std::tuple<NameId, NameId, NameId>;

    policy::BucketKey key_of(std::uint32_t policy, const policy::FieldValues& values) const;
    static policy::BucketKey skipped_key(std::uint32_t policy);
    std::uint32_t group_of(const policy::RollUp& roll_up, NameId value) const;
    Index hold(const policy::BucketKey& key);
    void obey(Bucket& bucket, const Choice& choice) const;
    void catch_up_late(Index bucket) const;
    void retire(PolicyTable before);
    void find_heirs(Generation& generation) const;
    std::size_t generation_of(Index retired) const;
    void inherit(Index heir);
    bool remembers(const Bucket& retired) const;
    bool moved(Bucket& bucket, bool moved, Instant now);
    policy::FieldTexts texts_of(const policy::BucketKey& key) const;
    const policy::FieldTable& fields() const;
    void forget_groups() const;
    void forget_groupings() const;
    void find_late();

    Names& names_;
    PolicyTable table_;
    std::vector<bool> late_;
    bool depends_on_candidate_ = false;
    bool uses_grouping_ = false;
    bool file_redirects_ = false;
    mutable Conditions conditions_;
    mutable Slab<Bucket> rows_;     // mutable: limits are found when somebody asks for them
    Places<Bucket> places_{rows_};  // of those that are not retired
    std::uint32_t era_ = 0;         // so often policies were configured
    std::uint32_t retired_before_ = 0;
    Instant configured_at_;
    std::deque<Generation> retired_;  // the latest last
    std::vector<Past> past_;
    // What values were found to belong to; every name in here is held.
    mutable absl::flat_hash_map<RolledUp, std::uint32_t> groups_;
    mutable absl::flat_hash_map<Grouped, NameId> groupings_;
};

}  // namespace sluice::queue
