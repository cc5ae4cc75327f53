// Sessions, the slots they hold and the pools they idle in.

#include <algorithm>
#include <utility>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

using IdleSlot = Chained<&Slot::idle>;
using Pooled = Chained<&Session::pooled>;

}  // namespace

// The references in `buckets` become the session's.
void Core::Impl::take_slots(Index at, BucketList&& buckets) {
    const bool closing = sessions_[at].state == SessionState::closing;
    const bool idle = sessions_[at].state == SessionState::idle;
    for (const Index bucket : buckets) {
        const Index slot = slots_.add();
        slots_[slot].bucket = bucket;
        slots_[slot].session = at;
        Bucket& row = buckets_[bucket];
        ++row.used;
        if (closing) ++row.closing;
        if (idle) add_idle_slot(slot);
        sessions_[at].slots.push_back(slot);
    }
}

// The widest bucket is offered first: whoever waits there may be of a domain that has nothing yet.
void Core::Impl::free_slots(Index at) {
    const bool closing = sessions_[at].state == SessionState::closing;
    const bool idle = sessions_[at].state == SessionState::idle;
    const BucketList slots = std::exchange(sessions_[at].slots, {});
    for (auto slot = slots.rbegin(); slot != slots.rend(); ++slot) {
        const Index bucket = slots_[*slot].bucket;
        Bucket& row = buckets_[bucket];
        if (idle) remove_idle_slot(*slot);
        if (closing) --row.closing;
        --row.used;
        slots_.remove(*slot);
        offer(bucket);
        drop_bucket(bucket);
    }
}

// The session counts for other buckets from now on; those it leaves are offered to whoever waits there.
void Core::Impl::change_slots(Index at, BucketList&& buckets) {
    for (std::size_t policy = 0; policy < buckets.size(); ++policy) {
        Slot& slot = slots_[sessions_[at].slots[policy]];
        const Index old = std::exchange(slot.bucket, buckets[policy]);
        if (old != slot.bucket) {
            --buckets_[old].used;
            ++buckets_[slot.bucket].used;
            offer(old);
        }
        drop_bucket(old);
    }
}

void Core::Impl::make_idle(Index at) {
    Session& session = sessions_[at];
    ASSERT(session.state == SessionState::busy && session.item == none && session.pool != none);
    session.state = SessionState::idle;
    Pooled::push_front(sessions_, pools_[session.pool].idle, at);
    for (const Index slot : session.slots) add_idle_slot(slot);
    ++idle_sessions_;
}

bool Core::Impl::is_evictable(const Session& session) { return session.how == nullptr || session.how->evictable.value_or(true); }

void Core::Impl::add_idle_slot(Index slot) {
    Bucket& bucket = buckets_[slots_[slot].bucket];
    if (is_evictable(sessions_[slots_[slot].session])) IdleSlot::push_back(slots_, bucket.idle, slot);
    else ++bucket.kept;
}

void Core::Impl::remove_idle_slot(Index slot) {
    Bucket& bucket = buckets_[slots_[slot].bucket];
    if (is_evictable(sessions_[slots_[slot].session])) IdleSlot::remove(slots_, bucket.idle, slot);
    else --bucket.kept;
}

// The caller gives it another state.
void Core::Impl::leave_idle(Index at) {
    Session& session = sessions_[at];
    ASSERT(session.state == SessionState::idle);
    wheel_.cancel(timer_key(Timed::session, at));
    Pooled::remove(sessions_, pools_[session.pool].idle, at);
    for (const Index slot : session.slots) remove_idle_slot(slot);
    session.state = SessionState::busy;
    --idle_sessions_;
}

void Core::Impl::close(Index at) {
    if (sessions_[at].state == SessionState::idle) leave_idle(at);
    actions_->push_back(Close{sessions_[at].id, sessions_[at].shard});
    mark_closing(at);
}

void Core::Impl::mark_closing(Index at) {
    Session& session = sessions_[at];
    ASSERT(session.item == none && session.state != SessionState::closing);
    session.state = SessionState::closing;
    for (const Index slot : session.slots) ++buckets_[slots_[slot].bucket].closing;
}

// It has carried enough, or a limit was lowered below what is open.
bool Core::Impl::is_spent(const Session& session) const {
    const std::uint32_t most = messages_max(session);
    if (session.outdated || (most != 0 && session.messages >= most)) return true;
    return std::any_of(session.slots.begin(), session.slots.end(), [&](Index slot) {
        const Index bucket = slots_[slot].bucket;
        return buckets_.is_over(bucket) || !buckets_.may_carry(bucket, session.messages);
    });
}

std::uint32_t Core::Impl::messages_max(const Session& session) const {
    if (session.how == nullptr) return options_.session_messages_max;
    if (session.how->pooling == false) return 1;
    return session.how->transactions.value_or(options_.session_messages_max);
}

Duration Core::Impl::idle_time(const Session& session) const {
    return session.how == nullptr ? options_.idle_session : session.how->idle_timeout.value_or(options_.idle_session);
}

// The session serves this lane over this path.
void Core::Impl::attach(Index at, Index lane, Index path) {
    Session& session = sessions_[at];
    if (session.path != path) {
        const Index old = std::exchange(session.path, paths_.hold(path));
        if (old != none) paths_.drop(old);
    }
    if (session.lane == lane) return;
    const Index old = std::exchange(session.lane, lane);
    ++lanes_[lane].sessions;
    ++destinations_[lanes_[lane].name.destination].sessions;
    if (old == none) return;
    --destinations_[lanes_[old].name.destination].sessions;
    --lanes_[old].sessions;
    release_lane(old);
}

// The session counts for this item from now on, also while it is idle afterwards.
void Core::Impl::serve_item(Index at, Index item) {
    Session& session = sessions_[at];
    session.item = item;
    session.attempts = items_[item].attempts;
    const Index old = std::exchange(session.profile, items_[item].profile);
    profiles_.hold(session.profile);
    if (old != none) profiles_.drop(old);
}

// What the item that it served last is told by now.
LaneKey Core::Impl::lane_key(const Session& session) const {
    LaneKey key = lanes_[session.lane].name;
    key.profile = profiles_.lane_of(session.profile);
    key.attempt = told_attempt(session.attempts);
    return key;
}

void Core::Impl::detach(Index at) {
    profiles_.drop(std::exchange(sessions_[at].profile, none));
    const Index lane = std::exchange(sessions_[at].lane, none);
    const Index path = std::exchange(sessions_[at].path, none);
    --destinations_[lanes_[lane].name.destination].sessions;
    --lanes_[lane].sessions;
    const Index destination = lanes_[lane].name.destination;
    release_lane(lane);
    paths_.drop(path);
    if (destinations_.contains(destination)) release_destination(destination);
}

void Core::Impl::join_pool(Index at) {
    Session& session = sessions_[at];
    const Path& path = paths_[session.path];
    const Path::Hop& hop = path.hops[session.candidate];
    const bool verified = path.route->transport.force_tls || (session.how != nullptr && session.how->verifies_tls());
    const PoolKey key = pool_key(hop.family == Family::local ? Local{} : session.local(hop.family), path, hop, verified, session.manner);
    session.pool = pools_.find(key);
    if (session.pool == none) {
        session.pool = pools_.add(Pool{key, {}, 0});
        for (const NameId name : {key.bind, key.helo, key.remote, key.transport, key.host, key.manner}) names_.hold(name);
    }
    ++pools_[session.pool].holders;
}

void Core::Impl::leave_pool(Index at) {
    const Index pool = std::exchange(sessions_[at].pool, none);
    if (pool == none || --pools_[pool].holders > 0) return;
    const PoolKey key = pools_[pool].name;
    pools_.remove(pool);
    for (const NameId name : {key.bind, key.helo, key.remote, key.transport, key.host, key.manner}) names_.drop(name);
}

void Core::Impl::erase(Index at) {
    if (sessions_[at].state == SessionState::idle) leave_idle(at);
    free_slots(at);
    leave_pool(at);
    detach(at);
    --shard_sessions_[sessions_[at].shard];
    for (const Local& local : {sessions_[at].local4, sessions_[at].local6}) {
        names_.drop(local.address);
        names_.drop(local.helo);
    }
    names_.drop(sessions_[at].manner);
    sessions_.remove(at);
}

std::uint32_t Core::Impl::least_loaded_shard() const {
    const auto least = std::min_element(shard_sessions_.begin(), shard_sessions_.end());
    return static_cast<std::uint32_t>(least - shard_sessions_.begin());
}

}  // namespace sluice::queue
